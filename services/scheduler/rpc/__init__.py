"""The scheduler's RPCs: callers' side, trainers' side, and the table of errors."""
