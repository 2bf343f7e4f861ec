"""Metrics: a line of JSON per record, also to TensorBoard if it is installed, and to W&B on request."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nimbleq.errors import FileError

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    from nimbleq.wandb_log import WandbLog


class MetricsLog:
    """Appends to ``metrics.jsonl`` (valid even if the process dies) and to TensorBoard event files.

    Args:
        path: the JSONL file.
        tensorboard: folder of the event files (None: JSONL only).
        keep_bytes: how much of an existing file to keep: its length at the checkpoint that training resumes from.
        other: a second writer that gets the same records; closed with this one.

    Raises:
        FileError: not writable.
    """

    def __init__(
        self, path: Path, tensorboard: Path | None = None, keep_bytes: int = 0, other: WandbLog | None = None
    ) -> None:
        self.path, self._other = path, other
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab")
            self._stream.truncate(min(keep_bytes, self._stream.tell()))
            self._stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror or error}") from error
        self._events = _event_writer(tensorboard) if tensorboard is not None else None

    def write(self, step: int, **values: float | None) -> None:
        """One record of ``values`` at environment step ``step``; those that are None are left out.

        Raises:
            FileError: the disk is full.
        """
        record = {name: value for name, value in values.items() if value is not None}
        try:
            # One write per whole line: what is on disk always ends with a complete record.
            self._stream.write((json.dumps({"step": step} | record, allow_nan=False) + "\n").encode())
            self._stream.flush()
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror or error}") from error
        if self._events is not None:
            self._events.add_event(_event(step, record))
        if self._other is not None:
            self._other.write(step, record)

    @property
    def position(self) -> int:
        """Bytes written, for ``keep_bytes``."""
        return self._stream.tell()

    def close(self) -> None:
        """Flush and close both."""
        with contextlib.suppress(OSError):  # what could not be written was reported by `write`
            self._stream.close()
        if self._events is not None:
            self._events.close()
        if self._other is not None:
            self._other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _event_writer(folder: Path) -> EventFileWriter | None:
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        return None
    return EventFileWriter(str(folder))


def _event(step: int, record: dict[str, float]) -> object:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in record.items()]
    return Event(step=step, wall_time=time.time(), summary=Summary(value=values))
