"""Training state on disk: one safetensors file (JSON in its header), replaced atomically, never pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nimbleq.errors import FileError
from nimbleq.rl.training.sealed import read_sealed, write_sealed
from nimbleq.types import Array

_FORMAT = 4
_NAME = "state.safetensors"
_WHAT = "the checkpoint"


def save_checkpoint(folder: Path, arrays: Mapping[str, Array], values: Mapping[str, Any]) -> None:
    """Replace the checkpoint in ``folder``: whenever the process dies, the old one or the new one is there, whole.

    Args:
        folder: made when missing.
        arrays: of any shapes and types.
        values: plain JSON values.

    Raises:
        FileError: the disk is full or not writable; the old checkpoint is untouched.
    """
    facts = {"format": str(_FORMAT), "values": json.dumps(dict(values), allow_nan=False)}
    write_sealed(folder / _NAME, arrays, facts, _WHAT)


def has_checkpoint(folder: Path) -> bool:
    """Whether `load_checkpoint` has something to read."""
    return (folder / _NAME).exists()


def load_checkpoint(folder: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `save_checkpoint` was given.

    Raises:
        FileError: there is none, one bit of it has changed, or another nimbleq wrote it.
    """
    path = folder / _NAME
    arrays, facts = read_sealed(path, _WHAT)
    if facts.get("format") != str(_FORMAT):
        raise FileError(
            f"{path} has checkpoint format {facts.get('format')} and this nimbleq reads {_FORMAT}: "
            "use the version that wrote it"
        )
    values: dict[str, Any] = json.loads(facts["values"])
    return arrays, values
