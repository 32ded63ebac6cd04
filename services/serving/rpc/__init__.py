"""Serving's RPCs: matches, the encoder, and what is loaded."""
