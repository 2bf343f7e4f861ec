"""Atomic writes, reads with clear errors, and locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nimbleq.errors import ConfigError, FileError


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` atomically: a reader sees the old file or the new one, never a mixture.

    Raises:
        FileError: the disk is full or the place is not writable; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # there is nothing to delete if a file is in place of a folder
            temporary.unlink()
        raise _unwritable(path, error) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power failure, as `os.fsync` does for the contents of a file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError(f"cannot write {path}: {error.strerror or error}; what was there before is unchanged")


def write_json(path: Path, value: Any) -> None:
    """Atomically write ``value`` as indented JSON (floats round-trip exactly)."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        FileError: it is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        FileError: missing, unreadable, or not valid JSON (truncated, say).
    """
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise FileError(f"{path} is not valid JSON ({error}): truncated or damaged") from error


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Build a folder under a temporary name with ``fill(folder)`` and swap it into place.

    Raises:
        FileError: it cannot be written; the old folder, if there was one, is still there.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    stale = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        fill(fresh)
        if path.exists():
            path.rename(stale)
        fresh.rename(path)
    except OSError as error:
        if stale.exists() and not path.exists():
            stale.rename(path)
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def sha256(data: bytes) -> str:
    """Hex digest of ``data``."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def exclusive_lock(folder: Path, *, read_only: bool = False) -> Iterator[None]:
    """Keep other commands from writing in ``folder``; the system releases the lock when the process ends.

    Args:
        folder: created if it is missing.
        read_only: a folder that nobody can write to needs no lock.

    Raises:
        ConfigError: another process holds it.
        FileError: the folder cannot be written.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError as error:
        if read_only and folder.is_dir() and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            yield
            return
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    with stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
                raise FileError(f"cannot lock {path}: {error.strerror or error}") from error
            raise ConfigError(
                f"another nimbleq command is working in {folder}: wait until it ends, or choose another folder"
            ) from None
        yield
