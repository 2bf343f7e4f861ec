"""One gradient step, on each engine."""
