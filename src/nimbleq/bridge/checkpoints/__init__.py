"""Readers of other libraries' checkpoints, which run none of their code."""
