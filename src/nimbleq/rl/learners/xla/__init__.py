"""Learning in JAX: the update, and PQN's whole loop, as programs that XLA compiles for a CPU, a GPU or a TPU."""
