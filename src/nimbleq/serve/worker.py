"""The process that serves shared memory, seen from its parent."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from multiprocessing.sharedctypes import RawArray
from types import TracebackType
from typing import Self

from nimbleq.errors import ConfigError
from nimbleq.serve import shm
from nimbleq.serve.policy import Served

_START_SECONDS = 60


class SharedMemory:
    """Starts the process on entry, and stops it on exit, when it has answered what it got.

    Args:
        name: of the shared memory.
        served: the policies by name.
    """

    def __init__(self, name: str, served: Mapping[str, Served]) -> None:
        context = multiprocessing.get_context("spawn")
        self._served = dict(served)
        self._counts = RawArray("Q", len(served) * len(shm.OUTCOMES))
        self._pipe, theirs = context.Pipe()
        arguments = (name, self._served, self._counts, theirs)
        self._process = context.Process(target=shm.run, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        try:
            said = self._pipe.recv() if self._pipe.poll(_START_SECONDS) else ("error", "it does not start")
        except EOFError:
            said = ("error", "its process ended at once")
        if said[0] == "error":
            self._process.join()
            raise ConfigError(said[1])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.is_alive():
            self._pipe.send(("stop",))
        self._process.join()

    def swap(self, new: Served) -> None:
        """Decide with ``new`` from now on."""
        if self._process.is_alive():
            self._pipe.send(("swap", new))

    def counts(self) -> dict[tuple[str, str], int]:
        """``(policy, outcome) → number``, so far."""
        keys = [(policy, outcome) for policy in self._served for outcome in shm.OUTCOMES]
        return dict(zip(keys, self._counts, strict=True))
