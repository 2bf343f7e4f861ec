"""A small policy network beside the Q-network: it acts, the Q-network evaluates; each has its own optimiser."""
