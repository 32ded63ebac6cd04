"""Learning: the only place that knows torch. Everything here runs in a notebook, on arrays."""
