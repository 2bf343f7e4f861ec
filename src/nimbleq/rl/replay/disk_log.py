"""The replay memory on disk: files that only grow, so that a checkpoint writes what is new and not gigabytes again.

Transitions and planes of images go to *segments*, in the order in which they came. A segment of which no transition is
in the ring any more is given up; planes of it that are still needed (keys of others, mostly) are written again.

Whenever the process dies, a checkpoint is whole: segments are on the disk before the state that names their lengths and
checksums replaces the one before it (`append`); what it does not name, files or tails of them, is not read; and files
that only the state before it named are deleted after that (`prune`).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nimbleq.config import from_dict
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import sync_folder
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.replay.shared_frames import NOWHERE
from nimbleq.types import Array

_CHUNK = 8_192  # transitions of a record: bounds the memory that writing and reading take
_SEGMENTS = 16  # that a full ring lies in, about
_BLOCK = 1 << 20  # bytes read at once to check them
_HEAD = 8  # bytes before a record: its length, little-endian


@dataclass(frozen=True)
class Segment:
    """A file of the log.

    Attributes:
        serial: its number, in its name.
        first: number of the transition that it began with.
        end: number after its last transition.
        size_bytes: what is written; anything after that does not belong to it.
        crc32: of those bytes.
    """

    serial: int
    first: int
    end: int
    size_bytes: int = 0
    crc32: int = 0

    def path(self, folder: Path) -> Path:
        """Where it lies."""
        return folder / f"replay-{self.serial:06d}.log"


class ReplayLog:
    """What of one replay is on disk in ``folder``.

    Attributes:
        folder: of the checkpoint.
        segments: oldest first.
    """

    def __init__(self, folder: Path, segments: Sequence[Segment] = ()) -> None:
        self.folder = folder
        self.segments = list(segments)
        there = [int(path.stem.rpartition("-")[2]) for path in _files(folder)]
        self._next = max(there, default=-1) + 1  # never a name that an older checkpoint may still need

    def append(self, replay: Replay) -> list[dict[str, int]]:
        """Write what is new since the last call, to the disk itself; what the state has to remember of it.

        Raises:
            FileError: the disk is full; what an earlier checkpoint needs is unchanged.
        """
        oldest = replay.added - replay.size
        segments = [segment for segment in self.segments if segment.end > oldest]
        retired = [segment.serial for segment in self.segments if segment.end <= oldest]
        frames, rows = replay.frames, max(1, replay.capacity // _SEGMENTS)
        before = None if frames is None else frames.segment.copy()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if frames is not None:
                frames.segment[np.isin(frames.segment, retired)] = NOWHERE
            written = max([oldest, *(segment.end for segment in segments)])
            for first, end, record in _news(replay, written, min(_CHUNK, rows)):
                if not segments or segments[-1].end - segments[-1].first >= rows:
                    segments.append(Segment(self._next, first, end))
                    self._next += 1
                segments[-1] = _written(self.folder, replace(segments[-1], end=end), save(record))
                if frames is not None and "ids" in record:
                    frames.segment[record["ids"]] = segments[-1].serial
        except OSError as error:
            if frames is not None and before is not None:
                frames.segment = before
            reason = error.strerror or str(error)
            raise FileError(
                f"cannot write the replay to {self.folder}: {reason}; the checkpoint before it is unchanged"
            ) from error
        self.segments = segments
        return [asdict(segment) for segment in segments]

    def prune(self) -> None:
        """Delete what the checkpoint that is now in place does not need."""
        needed = {segment.path(self.folder) for segment in self.segments}
        for path in _files(self.folder):
            if path not in needed:
                path.unlink(missing_ok=True)


def load_replay(replay: Replay, arrays: Mapping[str, Array], listed: Any, folder: Path) -> ReplayLog:
    """Fill a fresh ``replay`` with what was saved.

    Args:
        replay: made with the settings of the run.
        arrays: what `Replay.arrays` returned.
        listed: what `ReplayLog.append` returned.
        folder: of the checkpoint.

    Raises:
        FileError: a file is missing or damaged.
    """
    try:
        replay.load_arrays(arrays)
        end = replay.added - replay.size  # the number of the next transition that is needed
        segments: list[Segment] = [from_dict(Segment, entry) for entry in listed]
        for segment in segments:
            for record in _records(segment, folder):
                if replay.frames is not None and "ids" in record:
                    replay.frames.place(record, segment.serial)
                if "first" in record:
                    first = int(record["first"][0])
                    if first > end:
                        raise ValueError("transitions are missing")
                    end = first + replay.load_rows(first, record)
        if end != replay.added:
            raise ValueError("transitions are missing")
        if replay.frames is not None:
            replay.frames.settle()
    except (ValueError, IndexError, KeyError, TypeError, ConfigError) as error:
        raise FileError(f"the replay in {folder} is damaged ({error}); train again without resuming") from error
    return ReplayLog(folder, segments)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("replay-*.log"))


def _news(replay: Replay, written: int, chunk: int) -> Iterator[tuple[int, int, dict[str, Array]]]:
    """Records of transitions from number ``written`` on, each with the planes that no segment holds; then of the other
    planes. With each the numbers of its first transition and after its last.
    """
    frames = replay.frames
    for first in range(written, replay.added, chunk):
        rows = replay.rows(first, min(chunk, replay.added - first))
        count = len(rows["action"])
        if frames is not None:
            ids = frames.missing(np.concatenate([rows["obs"].ravel(), rows["next_obs"].ravel()]))
            rows |= frames.dump(ids)
        yield first, first + count, {"first": np.array([first]), **rows}
    if frames is not None:
        rest = frames.missing()
        for start in range(0, len(rest), _CHUNK):
            yield replay.added, replay.added, frames.dump(rest[start : start + _CHUNK])


def _written(folder: Path, segment: Segment, body: bytes) -> Segment:
    """``segment`` with one more record, on the disk."""
    path, record = segment.path(folder), len(body).to_bytes(_HEAD, "little") + body
    with path.open("r+b" if segment.size_bytes else "wb") as stream:
        stream.truncate(segment.size_bytes)  # what a killed process, or a full disk, left
        stream.seek(segment.size_bytes)
        stream.write(record)
        stream.flush()
        os.fsync(stream.fileno())
    if segment.size_bytes == 0:
        sync_folder(folder)
    return replace(segment, size_bytes=segment.size_bytes + len(record), crc32=zlib.crc32(record, segment.crc32))


def _records(segment: Segment, folder: Path) -> Iterator[dict[str, Array]]:
    """What was written to a segment, all of which is checked before anything of it is used."""
    path = segment.path(folder)
    try:
        with path.open("rb") as stream:
            if _checksum(stream, segment.size_bytes) != segment.crc32:
                raise FileError(f"{path} is damaged or truncated; train again without resuming")
            stream.seek(0)
            while stream.tell() < segment.size_bytes:
                yield load(stream.read(int.from_bytes(stream.read(_HEAD), "little")))
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot read {path}: {error}; train again without resuming") from error


def _checksum(stream: BinaryIO, size_bytes: int) -> int | None:
    """CRC-32 of the next ``size_bytes``; None where there are fewer."""
    crc32, left = 0, size_bytes
    while left > 0:
        block = stream.read(min(left, _BLOCK))
        if not block:
            return None
        crc32, left = zlib.crc32(block, crc32), left - len(block)
    return crc32
