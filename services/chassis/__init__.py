"""Plumbing that the services share. It knows callers and wires, and no business noun."""
