"""The compiled half of exploration and of CartPole."""

from __future__ import annotations

import importlib
from types import ModuleType


def environment_extension() -> ModuleType | None:
    """The extension, or None where it was not built."""
    try:
        return importlib.import_module("nimbleq.native._envs")
    except ModuleNotFoundError:
        return None
