"""Safetensors files that carry a digest of themselves: replaced atomically, and refused when one bit is another.

The digest is SHA-256 over the whole file, with zeros in its own place in the header. Any reader of safetensors reads
such a file. It shows damage; it is not a signature.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nimbleq.errors import FileError
from nimbleq.files import sync_folder
from nimbleq.types import Array

_DIGEST = "sha256"
_MARK = f'"{_DIGEST}":"'.encode()  # no text in the header can hold it: its quotes would be escaped
_EMPTY = b"0" * 64
_HEAD = 8  # bytes before the header: its length, little-endian
_BLOCK = 1 << 20


def write_sealed(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, str], what: str) -> None:
    """Replace ``path`` atomically: whenever the process dies, the old file or the new one is there, whole.

    Args:
        path: its folder is made when missing.
        arrays: of any shapes and types.
        facts: texts for the header.
        what: the file is, for messages.

    Raises:
        FileError: the disk is full or not writable; the old file is untouched.
    """
    folder = path.parent / ".fresh"
    fresh = folder / path.name
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a killed process left
        folder.mkdir(parents=True)
        dense = {name: value if value.flags.c_contiguous else value.copy(order="C") for name, value in arrays.items()}
        save_file(dense, fresh, {**facts, _DIGEST: _EMPTY.decode()})
        _seal(fresh)
        fresh.replace(path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileError(f"cannot write {what} {path}: {reason}; the one before it is unchanged") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_sealed(path: Path, what: str) -> tuple[dict[str, Array], dict[str, str]]:
    """What `write_sealed` was given.

    Raises:
        FileError: the file is missing, was not written by `write_sealed`, or one bit of it has changed.
    """
    _check(path, what)
    try:
        with safe_open(path, "np") as stream:
            facts: dict[str, str] = stream.metadata()
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot read {what} {path}: {error}") from error
    del facts[_DIGEST]
    return arrays, facts


def _seal(path: Path) -> None:
    """Put the digest into its place, and the file on the disk itself."""
    place, digest, _ = _digest(path)
    with path.open("rb+") as stream:
        stream.seek(place)
        stream.write(digest)
        stream.flush()
        os.fsync(stream.fileno())


def _check(path: Path, what: str) -> None:
    try:
        _, digest, recorded = _digest(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileError(f"cannot read {what} {path}: {reason}") from error
    if digest != recorded:
        raise FileError(f"cannot read {what} {path}: it is damaged (its content does not match its digest)")


def _digest(path: Path) -> tuple[int, bytes, bytes]:
    """Where the digest is written, what it has to be, and what is there (both as hexadecimal text).

    Raises:
        ValueError: there is no place for it.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        size = min(int.from_bytes(head, "little"), path.stat().st_size)
        header = bytearray(stream.read(size))
        start = header.find(_MARK) + len(_MARK)
        recorded = bytes(header[start : start + len(_EMPTY)])
        if start < len(_MARK) or len(recorded) < len(_EMPTY):
            raise ValueError("it is damaged or of an older nimbleq (its header has no digest)")
        header[start : start + len(_EMPTY)] = _EMPTY
        total = hashlib.sha256(head + header)
        while block := stream.read(_BLOCK):
            total.update(block)
    return _HEAD + start, total.hexdigest().encode(), recorded
