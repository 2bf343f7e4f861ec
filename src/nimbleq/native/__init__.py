"""C sources: kernels for emitted code, and the compiled extensions (missing if there was no compiler)."""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):
    from nimbleq.native import _cpu

    # Of a wheel's extensions the variant for this processor; those in this folder itself run on all.
    __path__[:0] = [str(Path(__file__).parent / level) for level in _cpu.levels()]

EXTENSIONS = {
    "_learner": "TD steps of fully connected networks",
    "_distill": "distillation of fully connected students",
    "_envs": "CartPole, LunarLander, exploration and direct search",
    "_replay": "sampling of the replay and of compressed frames",
    "_robust": "proofs that actions stay",
    "_stream": "learning from a stream of steps",
    "_runtime": "decisions from Python, and all of them without a C compiler",
    "_cpu": "extensions of a wheel, which then run on every processor",
}
"""Compiled extension → what is slower without it."""


def missing_extensions() -> list[str]:
    """The `EXTENSIONS` that cannot be imported here."""
    return [name for name in EXTENSIONS if import_error(name) is not None]


def import_error(name: str) -> str | None:
    """Why one of the `EXTENSIONS` cannot be imported; None when it can."""
    try:
        importlib.import_module(f"nimbleq.native.{name}")
    except ImportError as error:
        return str(error)
    return None
