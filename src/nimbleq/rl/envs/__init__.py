"""Environments, always many at once: what they observe, take and allow."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nimbleq.rl.envs.engines import spec_of
    from nimbleq.rl.envs.vector import VectorEnv

__all__ = ["VectorEnv", "spec_of"]

_HOMES = {"VectorEnv": "vector", "spec_of": "engines"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)  # Gymnasium is loaded when one is used
