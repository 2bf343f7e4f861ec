"""The control loops of a guarded policy's clients: a state of the guard for each."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nimbleq.deploy.guarded import Guarded
from nimbleq.deploy.runtime import Runtime
from nimbleq.serve.refusal import RefusedError, Why

MOST_STREAMS = 1_024
"""The one that was not asked for the longest is forgotten, and would begin anew."""
_LONGEST = 200


@dataclass(frozen=True)
class Sequence:
    """Which control loop a request belongs to, by the parameters that Triton's clients send.

    Attributes:
        name: ``sequence_id``; None: the request stands alone.
        start: ``sequence_start``: an episode begins.
        end: ``sequence_end``: it ends with this request.
    """

    name: str | None = None
    start: bool = False
    end: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Sequence:
        """Of a request.

        Raises:
            RefusedError: the id is neither a number nor a short text.
        """
        name = parameters.get("sequence_id")
        if name is None or name in (0, ""):  # Triton's "no sequence"
            return cls()
        if isinstance(name, bool) or not isinstance(name, int | str) or len(str(name)) > _LONGEST:
            raise RefusedError(Why.INVALID, f"sequence_id must be a number or a short text, not {str(name)[:40]!r}")
        return cls(str(name), bool(parameters.get("sequence_start")), bool(parameters.get("sequence_end")))


ALONE = Sequence()


class Streams:
    """The streams of one policy."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._alone = runtime, runtime.stream()
        self._named: OrderedDict[str, Guarded] = OrderedDict()
        self._forgotten: Counter[str] = Counter()

    def __reduce__(self) -> tuple[Any, ...]:
        # What clients have done does not travel to another process.
        return Streams, (self._runtime,)

    def of(self, sequence: Sequence) -> Guarded:
        """The stream of a request; one that stands alone begins anew."""
        if sequence.name is None:
            self._alone.reset()
            return self._alone
        stream = self._named.pop(sequence.name, None)
        if stream is None:
            stream = self._runtime.stream()
        elif sequence.start:
            stream.reset()
        self._named[sequence.name] = stream
        if len(self._named) > MOST_STREAMS:
            self._forget(next(iter(self._named)))
        return stream

    def close(self, sequence: Sequence) -> None:
        """After the last request of a sequence that has ended."""
        if sequence.end and sequence.name is not None and sequence.name in self._named:
            self._forget(sequence.name)

    def counters(self) -> dict[str, int]:
        """What the guard counted, over all streams."""
        total = Counter(self._forgotten)
        for stream in (self._alone, *self._named.values()):
            total.update(stream.counters)
        return dict(total)

    def _forget(self, name: str) -> None:
        self._forgotten.update(self._named.pop(name).counters)
