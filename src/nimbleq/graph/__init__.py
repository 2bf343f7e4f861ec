"""The layer graph: one frozen description of a policy that every pass, interpreter and emitter reads. Numpy only."""
