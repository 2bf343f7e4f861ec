"""Environments, always many at once: what they observe, take and allow."""

from nimbleq.rl.envs.batch import VectorEnv, spec_of

__all__ = ["VectorEnv", "spec_of"]
