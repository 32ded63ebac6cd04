"""Rules about candidates, heads and matches. No I/O; numpy for what is an array."""
