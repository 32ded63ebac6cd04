"""The triplet store's RPCs: one file a service, the table of errors, and what they share."""
