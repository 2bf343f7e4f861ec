"""A bet about one policy alone: the mean of a quantity in [0, 1] is at most (at least) a bound.

The quantity M of an episode lies in [0, 1] by definition, so that no range has to be assumed. The gain of "at most q"
is ``X = q − M ≥ −(1 − q)``, that of "at least q" ``X = M − q ≥ −q``; the rest is the bet of
`nimbleq.compress.certify.wealth`, with R = 1 − q or q: while the claim is false, the wealth reaches 1/α with a
probability of at most α.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isclose, log
from typing import Any

import numpy as np

from nimbleq.compress.certify.attempts import FixedSequence
from nimbleq.compress.certify.forecast import episodes_needed
from nimbleq.compress.certify.stream import Player, stream_nonce, stream_seeds
from nimbleq.compress.certify.wealth import ALPHA, attempt_alpha, log_wealth, lower_bound
from nimbleq.errors import ConfigError, FileError
from nimbleq.seeds import Purpose
from nimbleq.types import Array, Tick, no_tick

_BATCH = 200
_LARGEST_LOG = 709.0


@dataclass(frozen=True)
class Limit:
    """What is claimed of the mean of a quantity.

    Attributes:
        measure: what the quantity is, in words that name it.
        bound: between 0 and 1.
        at_most: the mean is at most the bound; False: at least.
    """

    measure: str
    bound: float
    at_most: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1:
            option = "--at-most" if self.at_most else "--at-least"
            raise ConfigError(
                f"{option} is above 0 and below 1, not {self.bound:g}: no number of episodes shows that something "
                "never, or always, happens"
            )

    @property
    def span(self) -> float:
        """R: what one episode can lose at most."""
        return 1 - self.bound if self.at_most else self.bound

    @property
    def worst(self) -> float:
        """The value of an episode that crashes."""
        return 1.0 if self.at_most else 0.0

    @property
    def words(self) -> str:
        """The claim, short."""
        return f"{self.measure} {'≤' if self.at_most else '≥'} {self.bound:g}"

    def gains(self, values: Array) -> Array:
        """``X`` of each episode."""
        return self.bound - values if self.at_most else values - self.bound

    def student(self, graph: str) -> str:
        """The hash of the graph ``graph`` where this quantity is judged: it has attempts of its own."""
        way = "at most" if self.at_most else "at least"
        return hashlib.sha256(f"{graph}\n{self.measure}\n{way}".encode()).hexdigest()


@dataclass(frozen=True)
class LimitClaim:
    """Everything that is fixed before the first episode; see `nimbleq.compress.certify.certificate.Claim`."""

    limit: Limit
    student: str
    attempt: int
    total_alpha: float
    purpose: Purpose
    nonce: int
    fresh: bool = False

    @property
    def alpha(self) -> float:
        """Chance of a false certificate in this attempt."""
        return attempt_alpha(self.attempt, self.total_alpha)

    @property
    def sequence(self) -> FixedSequence:
        """This claim among the attempts of a run."""
        low, high = (0.0, 1.0) if self.limit.at_most else (1.0, 2.0)  # (apart, as the bound may be the same)
        return FixedSequence((self.student,), "", self.limit.bound, low, high)


@dataclass(frozen=True)
class LimitCertificate:
    """What was shown of the claim, or how far it got.

    Attributes:
        claim: fixed before.
        seeds: ``int64[n]``.
        values: ``float64[n]`` the quantity in each episode, in playing order.
        crashed: seeds of episodes that crashed, which count as the worst value.
    """

    claim: LimitClaim
    seeds: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    values: Array = field(default_factory=lambda: np.zeros(0))
    crashed: tuple[int, ...] = ()

    @cached_property
    def gains(self) -> Array:
        """``X`` of each episode."""
        return self.claim.limit.gains(self.values)

    @cached_property
    def _path(self) -> Array:
        return log_wealth(self.gains, self.claim.limit.span) if len(self.values) else np.zeros(0)

    @property
    def wealth(self) -> float:
        """The largest reached."""
        return float(np.exp(min(max(0.0, float(self._path.max(initial=0.0))), _LARGEST_LOG)))

    @cached_property
    def certified_at(self) -> int | None:
        """The episode, from 1, at which the wealth reached 1/α; None: it has not."""
        there = self._path >= log(1 / self.claim.alpha)
        return int(there.argmax()) + 1 if there.any() else None

    @property
    def certified(self) -> bool:
        """The claim holds."""
        return self.certified_at is not None

    @property
    def mean(self) -> float:
        """Of the quantity."""
        return float(self.values.mean()) if len(self.values) else 0.0

    @property
    def bound95(self) -> float:
        """The bet inverted: the mean is at most (at least) this, with 95 % confidence whenever one stops."""
        signed = -self.values if self.claim.limit.at_most else self.values
        found = lower_bound(signed, 1.0)
        assert found is not None, "no value leaves [0, 1]"
        return min(1.0, -found) if self.claim.limit.at_most else max(0.0, found)

    def hopeless(self) -> bool:
        """Whether the mean of ``X`` is below zero by three standard errors."""
        n = len(self.gains)
        return n >= 30 and float(self.gains.mean()) + 3 * float(self.gains.std(ddof=1)) / n**0.5 < 0

    @property
    def reason(self) -> str:
        """The verdict as one sentence."""
        limit, side = self.claim.limit, "more" if self.claim.limit.at_most else "less"
        if not len(self.values):
            return f"not certified: no episode has been played for {limit.words}"
        measured = (
            f"over {len(self.values):,} episodes {limit.measure} averages {self.mean:.4g}, and no {side} than "
            f"{self.bound95:.4g} with 95 % confidence"
        )
        if self.certified_at is not None:
            return f"certified after {self.certified_at:,} episodes: {limit.words}: {measured}"
        if self.hopeless():
            return f"refused: {limit.words} does not hold: {measured}; further episodes will not change it"
        short = f"its wealth reached {self.wealth:.3g} of {1 / self.claim.alpha:.3g}"
        return f"not certified yet: {limit.words}: {measured}; {short}: certify again plays on"

    def to_dict(self) -> dict[str, Any]:
        """JSON values, every value of the quantity under ``values``."""
        claim, limit = self.claim, self.claim.limit
        return {
            "certified": self.certified, "measure": limit.measure,
            "at_most" if limit.at_most else "at_least": limit.bound, "episodes": self.certified_at or len(self.values),
            "episodes_played": len(self.values), "mean": self.mean,
            "mean_upper95" if limit.at_most else "mean_lower95": self.bound95,
            "wealth": self.wealth, "wealth_needed": 1 / claim.alpha, "alpha": claim.alpha,
            "total_alpha": claim.total_alpha, "attempt": claim.attempt, "fresh": claim.fresh,
            "seeds": {"purpose": claim.purpose, "nonce": claim.nonce, "count": len(self.seeds)},
            "student_graph": claim.student, "reason": self.reason,
            "values": {
                "seeds": self.seeds.tolist(), "values": self.values.tolist(), "crashed": list(self.crashed),
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LimitCertificate:
        """What `to_dict` gave, recomputed.

        Raises:
            FileError: it is damaged, or says something else than its values show.
        """
        try:
            at_most = "at_most" in stored
            limit = Limit(str(stored["measure"]), float(stored["at_most" if at_most else "at_least"]), at_most)
            purpose = stored["seeds"]["purpose"]
            if purpose not in ("certify", "recertify"):
                raise ValueError(f"there is no stream {purpose!r}")
            claim = LimitClaim(
                limit, str(stored["student_graph"]), int(stored["attempt"]), float(stored["total_alpha"]), purpose,
                int(stored["seeds"]["nonce"]), bool(stored["fresh"]),
            )  # fmt: skip
            played = stored["values"]
            seeds, values = np.array(played["seeds"], np.int64), np.array(played["values"], np.float64)
            if seeds.shape != values.shape or len(set(seeds.tolist())) != seeds.size or claim.attempt < 1:
                raise ValueError("its seeds and values do not belong together")
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError("a value leaves [0, 1]")
            found = cls(claim, seeds, values, tuple(map(int, played["crashed"])))
        except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
            raise FileError(f"the certificate is damaged ({error}): certify again") from None
        if bool(stored.get("certified")) != found.certified or not isclose(
            float(stored.get("wealth", 0)), found.wealth, rel_tol=1e-9
        ):
            raise FileError(f"the certificate says certified = {stored.get('certified')}, its values do not")
        return found


def limits_of(stored: Mapping[str, Any] | None) -> list[LimitCertificate]:
    """The attempts in a file, in the order in which they were made.

    Raises:
        FileError: see `LimitCertificate.from_dict`.
    """
    if stored is None:
        return []
    found = [LimitCertificate.from_dict(one) for one in (stored, *stored.get("beside", []))]
    return sorted(found, key=lambda one: one.claim.attempt)


def record_limits(attempts: Sequence[LimitCertificate]) -> dict[str, Any]:
    """What the file says: the certified attempt with the tightest bound, else the last one; the others beside it."""
    own = [one for one in attempts if not one.claim.fresh] or list(attempts)
    certified = [one for one in own if one.certified]
    stands = max(certified, key=lambda one: one.claim.limit.span) if certified else own[-1]
    return {**stands.to_dict(), "beside": [one.to_dict() for one in attempts if one is not stands]}


def certify_limit(
    limit: Limit,
    graph: str,
    player: Player,
    *,
    earlier: Sequence[LimitCertificate] = (),
    spent: int = 0,
    fresh: bool = False,
    alpha: float = ALPHA,
    max_episodes: int,
    on_start: Callable[[LimitCertificate], None] | None = None,
    on_batch: Callable[[LimitCertificate], None] | None = None,
    tick: Tick = no_tick,
) -> LimitCertificate:
    """Show the claim of the policy ``graph`` (its hash), or refuse; asked again, it plays on.

    Args:
        player: plays it; its returns are the quantity.
        earlier, spent, fresh, alpha, max_episodes, on_start, on_batch, tick: as of `nimbleq.compress.certify.certify`.

    Raises:
        ConfigError: the quantity leaves [0, 1], or an episode does not say it.
        EnvError: the environment fails.
    """
    student = limit.student(graph)
    made = None if fresh else _same(earlier, limit, student, alpha)
    if made is None:
        attempt = 1 + max((spent, *(one.claim.attempt for one in earlier)))
        nonce = stream_nonce([student], attempt, secrets.randbits(64) if fresh else 0)
        purpose: Purpose = "recertify" if fresh else "certify"
        made = LimitCertificate(LimitClaim(limit, student, attempt, alpha, purpose, nonce, fresh))
    if on_start is not None:
        on_start(made)
    start, claim = len(made.values), made.claim
    others = np.concatenate([np.zeros(0, np.int64), *(one.seeds for one in earlier)])
    expected = forecast(limit, claim.alpha)
    while not (made.certified or made.hopeless()) and len(made.values) - start < max_episodes:
        played = len(made.values) - start
        tick(played, max(min(max_episodes, expected), played + 1), "certifying")
        seeds = stream_seeds(
            claim.purpose, claim.nonce, min(_BATCH, max_episodes - played), np.union1d(others, made.seeds)
        )
        values = player(seeds)
        crashed = tuple(int(seed) for seed in seeds if int(seed) in player.crashed)
        made = replace(
            made, seeds=np.concatenate([made.seeds, seeds]), values=np.concatenate([made.values, values]),
            crashed=made.crashed + crashed,
        )  # fmt: skip
        if on_batch is not None:
            on_batch(made)
    return made


def forecast(limit: Limit, alpha: float) -> int:
    """About how many episodes it takes where nothing is ever lost."""
    needed = episodes_needed(limit.span, 1 - limit.span, 0.0, alpha)
    assert needed is not None, "a bound is above 0 and below 1"
    return needed


def _same(earlier: Sequence[LimitCertificate], limit: Limit, student: str, alpha: float) -> LimitCertificate | None:
    same = [
        one for one in earlier
        if not one.claim.fresh and (one.claim.student, one.claim.total_alpha) == (student, alpha)
    ]  # fmt: skip
    shown = [one for one in same if one.certified and one.claim.limit.span >= limit.span]
    if shown:
        return max(shown, key=lambda one: one.claim.limit.span)
    return next((one for one in reversed(same) if one.claim.limit == limit and not one.certified), None)
