"""Rules about jobs, runs, leases and heads. No I/O."""
