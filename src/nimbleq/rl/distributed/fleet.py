"""The actors of a run on Ray: what is asked of them, and what comes back, each chunk once.

Every chunk has a number and is asked for under it: where an actor dies, Ray starts it again (``max_restarts``) and
repeats what was asked (``max_task_retries``), so one answer comes for each number. An actor is asked for a few chunks
ahead and for no more until one of these is taken: that bounds what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from nimbleq.config import TrainConfig
from nimbleq.errors import EnvError
from nimbleq.rl.cluster import load_ray
from nimbleq.rl.distributed.acting import flat, sent_weights
from nimbleq.rl.distributed.actor import Actor
from nimbleq.rl.distributed.chunk import Chunk
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.types import Array

AHEAD = 2
"""Chunks that each actor is asked for at once: it plays one while the one before it waits to be taken."""
_SHARE = 4
"""New weights are published once one actor in so many was asked with the last ones: that costs more than a chunk."""
_PATIENCE = 0.2  # seconds between two looks at Ctrl-C while waiting
_ATTEMPTS = 5  # requests for one chunk, after each of which Ray gave up, before the run does


@dataclass
class _Asked:
    """A chunk that was asked for: its number, and Ray's reference to the answer."""

    sequence: int
    answer: Any
    attempts: int = 1


@dataclass
class Lag:
    """How far actors and learner are apart, at the last chunk.

    Attributes:
        weight_age: updates since the weights that played it.
        queued: chunks that wait to be taken.
        restarts: actors that were started again, so far.
    """

    weight_age: int = 0
    queued: int = 0
    restarts: int = 0

    def __str__(self) -> str:
        return f"weights {self.weight_age} updates old, {self.queued} chunks queued, {self.restarts} restarts"


@dataclass
class Fleet:
    """A context manager: the actors live as long as it, on the Ray that the program is connected to.

    Attributes:
        ledger: which chunks were counted; the caller counts those that it takes.
        weights: of a learner, see `publish`.
        lag: see there.
    """

    config: TrainConfig
    ledger: Ledger
    weights: Mapping[str, Array]
    lag: Lag = field(default_factory=Lag)

    def __enter__(self) -> Self:
        self._ray = load_ray()
        options = {
            # Local actors share the cores as they are; on a cluster each counts as one, so that Ray spreads them.
            "num_cpus": 1 if self.config.distributed.ray else 0,
            "scheduling_strategy": "SPREAD",
            "max_restarts": -1,
            "max_task_retries": -1,
        }
        remote = self._ray.remote(**options)(Actor)
        numbers = range(self.config.distributed.actors)
        sent = sent_weights(self.config, self.weights)
        self._actors = [remote.remote(self.config, number, sent) for number in numbers]
        self._asked = [deque[_Asked]() for _ in numbers]
        self._heard: set[int] = set()  # actors from which a chunk came
        self._version, self._now = -1, -1  # of the published weights, and of the learner
        self._weights: Any = None
        self._used = 0  # chunks taken since the weights were published
        self._ready: list[int] = []  # actors whose next chunk is there, as far as known
        return self

    def publish(self, version: int, weights: Callable[[], Mapping[str, Array]]) -> None:
        """Ask for as many chunks as there is room for, with ``weights`` of a learner after ``version`` updates.

        They become one object of Ray for all actors. A few chunks are asked for with the same.
        """
        self._now = version
        if self._weights is None or (version != self._version and self._used >= len(self._actors) // _SHARE):
            self._version, self._weights = version, self._ray.put(flat(sent_weights(self.config, weights())))
            self._used = 0
        for actor, asked in enumerate(self._asked):
            for sequence in range(self.ledger.counted[actor] + len(asked), self.ledger.counted[actor] + AHEAD):
                asked.append(_Asked(int(sequence), self._request(actor, int(sequence))))

    def _request(self, actor: int, sequence: int) -> Any:
        return self._actors[actor].play.remote(sequence, self._version, self._weights)

    def take(self, interrupted: Callable[[], bool]) -> Chunk:
        """The next chunk, of an actor that is behind the others where several have one. To be counted before the next.

        Raises:
            EnvError: an environment failed, or Ray gave up on an actor.
            KeyboardInterrupt: while waiting.
        """
        while not self._ready:
            if interrupted():
                raise KeyboardInterrupt
            first = {asked[0].answer: actor for actor, asked in enumerate(self._asked)}
            ready, _ = self._ray.wait(list(first), num_returns=len(first), timeout=0)
            if not ready:
                ready, _ = self._ray.wait(list(first), num_returns=1, timeout=_PATIENCE)
            self._ready = [first[answer] for answer in ready]
        actor = min(self._ready, key=lambda actor: self._asked[actor][0].sequence)
        self._ready.remove(actor)
        chunk = self._received(actor, interrupted)
        self._asked[actor].popleft()
        self._used += 1
        self.lag.weight_age = self._now - chunk.version
        self.lag.queued = len(self._ready)
        self.lag.restarts += chunk.began and actor in self._heard
        self._heard.add(actor)
        return chunk

    def _received(self, actor: int, interrupted: Callable[[], bool]) -> Chunk:
        """The first answer of an actor; asked for again where it was lost with the machine that had it."""
        asked, errors = self._asked[actor][0], self._ray.exceptions
        while True:
            if interrupted():
                raise KeyboardInterrupt
            try:
                chunk: Chunk = self._ray.get(asked.answer, timeout=_PATIENCE)
            except errors.GetTimeoutError:
                continue
            except errors.RayTaskError as error:
                raise EnvError(f"actor {actor}: {error.cause}") from None
            except errors.RayError as error:
                if asked.attempts == _ATTEMPTS:
                    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                    reason = ": ".join(dict.fromkeys((lines[0], lines[-1])))
                    raise EnvError(f"Ray gave up on actor {actor} after {_ATTEMPTS} attempts: {reason}") from None
                asked.attempts += 1
                asked.answer = self._request(actor, asked.sequence)
            else:
                return chunk

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An actor ends when nobody refers to it any more; Ray would complain of chunks that a killed one owes.
        self._actors.clear()
        self._asked.clear()
