"""The stream of seeds that judges a student, and who plays them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nimbleq.compress.states import ConstantPolicy
from nimbleq.errors import EnvError
from nimbleq.graph.codec import encode
from nimbleq.graph.graph import Graph
from nimbleq.seeds import Purpose, episode_seeds
from nimbleq.types import Array, Evaluate, Policy


def graph_hash(graph: Graph) -> str:
    """SHA-256 of everything that decides what ``graph`` answers: its layers and the bytes of its weights."""
    made = hashlib.sha256(json.dumps(encode(graph), sort_keys=True).encode())
    for name in sorted(graph.weights):
        array = np.ascontiguousarray(graph.weights[name])
        made.update(f"{name} {array.dtype} {array.shape}\n".encode())
        made.update(array.tobytes())
    return made.hexdigest()


def stream_nonce(students: Sequence[str], attempt: int, salt: int = 0) -> int:
    """The number that starts a stream, from the hashes of the frozen students that it will judge.

    Args:
        students: in the order in which they are judged.
        attempt: its number.
        salt: fresh entropy where the stream has to be one that nobody could foresee.
    """
    text = "\n".join([*students, str(attempt), str(salt)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")  # exact in any JSON reader


def stream_seeds(purpose: Purpose, nonce: int, count: int, used: Array) -> Array:
    """``int64[count]`` the next seeds of a stream: its first that are not among those ``used``, by it or by others."""
    seeds = episode_seeds(purpose, nonce, count + len(used))
    return np.asarray(seeds[~np.isin(seeds, used)][:count])


@dataclass
class Player:
    """Returns of one policy by seed; each seed is played once however often it is asked for.

    An episode that crashes counts ``low``. When nothing but crashes comes back, the environment itself is broken.

    Attributes:
        policy: plays.
        evaluate: the environment.
        low: return of an episode that crashes.
        epsilon: share of random actions, drawn from a generator that the seed starts.
        known: return by seed.
        crashed: seeds of the episodes that crashed.
    """

    policy: Policy
    evaluate: Evaluate
    low: float = 0.0
    epsilon: float = 0.0
    known: dict[int, float] = field(default_factory=dict)
    crashed: set[int] = field(default_factory=set)

    def __call__(self, seeds: Array) -> Array:
        """``float64[len(seeds)]`` undiscounted returns, in the order of ``seeds``.

        Raises:
            EnvError: the environment fails in every episode.
        """
        missing = [int(seed) for seed in seeds if int(seed) not in self.known]
        if missing:
            try:
                self._play(missing)
            except EnvError as error:
                self._play_one_by_one(missing, error)
        return np.array([self.known[int(seed)] for seed in seeds], np.float64)

    def _play(self, seeds: list[int]) -> None:
        returns = self.evaluate(self.policy, seeds, epsilon=self.epsilon).returns
        self.known.update(zip(seeds, returns.tolist(), strict=True))

    def _play_one_by_one(self, seeds: list[int], error: EnvError) -> None:
        crashed = set()
        for seed in seeds:
            try:
                self._play([seed])
            except EnvError:
                crashed.add(seed)
        if len(self.known) == len(self.crashed):  # not one episode has ever ended
            raise error
        self.crashed |= crashed
        self.known.update(dict.fromkeys(crashed, self.low))


def random_player(evaluate: Evaluate, low: float = 0.0) -> Player:
    """Plays uniformly random (legal) actions, from a generator of each seed's own."""
    return Player(ConstantPolicy(), evaluate, low, epsilon=1.0)


@dataclass(frozen=True, eq=False)
class PairedReturns:
    """Returns on the same seeds, in playing order.

    Attributes:
        seeds: ``int64[n]``.
        teacher, student, random: ``float64[n]`` undiscounted returns.
        crashed: who and on which seed: episodes that crashed and count the low end of the range.
    """

    seeds: Array
    teacher: Array
    student: Array
    random: Array
    crashed: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        return len(self.seeds)

    def joined(self, more: PairedReturns) -> PairedReturns:
        """These, then ``more``."""
        return PairedReturns(
            seeds=np.concatenate([self.seeds, more.seeds]),
            teacher=np.concatenate([self.teacher, more.teacher]),
            student=np.concatenate([self.student, more.student]),
            random=np.concatenate([self.random, more.random]),
            crashed=self.crashed + more.crashed,
        )


def no_returns() -> PairedReturns:
    """Before the first episode."""
    return PairedReturns(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Players:
    """The three that play every seed."""

    teacher: Player
    student: Player
    random: Player

    def __call__(self, seeds: Array) -> PairedReturns:
        """All three on ``seeds``; in whatever order episodes end, returns are in the order of the seeds."""
        players = {"teacher": self.teacher, "student": self.student, "random": self.random}
        returns = {who: player(seeds) for who, player in players.items()}
        crashed = tuple((who, int(s)) for who, player in players.items() for s in seeds if int(s) in player.crashed)
        return PairedReturns(np.asarray(seeds, np.int64), **returns, crashed=crashed)
