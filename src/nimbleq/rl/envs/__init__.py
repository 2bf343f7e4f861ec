"""Environments, always many at once: what they observe, take and allow."""

from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.envs.vector import VectorEnv

__all__ = ["VectorEnv", "spec_of"]
