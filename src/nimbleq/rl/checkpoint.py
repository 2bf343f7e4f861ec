"""Training state on disk: one safetensors file (JSON in its header), replaced atomically, never pickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nimbleq.errors import FileError
from nimbleq.files import sync_folder
from nimbleq.types import Array

_FORMAT = 3
_NAME = "state.safetensors"


def save_checkpoint(folder: Path, arrays: Mapping[str, Array], values: Mapping[str, Any]) -> None:
    """Replace the checkpoint in ``folder``: whenever the process dies, the old one or the new one is there, whole.

    Args:
        folder: made when missing.
        arrays: of any shapes and types.
        values: plain JSON values.

    Raises:
        FileError: the disk is full or not writable; the old checkpoint is untouched.
    """
    path, fresh = folder / _NAME, folder / ".fresh"
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # what a killed process left
        fresh.mkdir(parents=True)
        save_file(
            {name: value.copy(order="C") if not value.flags.c_contiguous else value for name, value in arrays.items()},
            fresh / _NAME,
            {"format": str(_FORMAT), "values": json.dumps(dict(values), allow_nan=False)},
        )
        with (fresh / _NAME).open("rb+") as stream:
            os.fsync(stream.fileno())
        (fresh / _NAME).replace(path)
        sync_folder(folder)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileError(f"cannot write the checkpoint {path}: {reason}; the one before it is unchanged") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether `load_checkpoint` has something to read."""
    return (folder / _NAME).exists()


def load_checkpoint(folder: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `save_checkpoint` was given.

    Raises:
        FileError: there is none, it is damaged, or a newer nimbleq wrote it.
    """
    path = folder / _NAME
    try:
        with safe_open(path, "np") as stream:
            header = stream.metadata() or {}
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot read the checkpoint {path}: {error}") from error
    if header.get("format") != str(_FORMAT):
        raise FileError(
            f"{path} has checkpoint format {header.get('format')} and this nimbleq reads {_FORMAT}: "
            "use the version that wrote it"
        )
    try:
        values: dict[str, Any] = json.loads(header["values"])
    except (KeyError, ValueError) as error:
        raise FileError(f"{path} is damaged: its header is not what nimbleq writes") from error
    return arrays, values
