"""The control plane: who trains what and when, and which head is in use."""
