"""What stands between a policy and the machine: which observations and actions are let through, and what acts instead.

    guard = Guard(fallback=0, envelope=envelope)       # a value; it is stored in the artefact
    state = GuardState(guard, graph)                   # one control loop, or many side by side

The rules, in the order in which a period applies them; `nimbleq.graph.guard_state` is the reference, and the emitted C
gives the same actions:

    missing     no observation came, or it does not fit its space
    not_finite  an entry is NaN or infinite
    range       an entry is outside of ``[low, high]``
    rate        an entry moved more than ``rate`` per period since the last observation that was let through
    stuck       an entry came back unchanged ``repeats`` times in a row, or while its partner moved more than ``still``
    illegal     the mask allows no action
    latched     ``latch`` periods in a row were faulty: the fallback stays until a reset

A faulty period gets the fallback, all others the policy's action; with a ``larger`` network, its action where the
policy's margin (best minus second-best action value) is below ``margin``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

FAULTS = ("missing", "not_finite", "range", "rate", "stuck", "illegal", "latched")
"""Bit ``i`` of a period's faults means ``FAULTS[i]``."""
COUNTERS = ("decisions", *FAULTS, "fallback", "late", "larger")
"""What a guard counts: periods, periods with each fault, those that got the fallback, decisions that came too late and
were replaced, and those that the larger network took."""
MAX_AGE = 1 << 20
"""Periods since the last good observation are counted up to here."""


VECTORS = {
    "low": np.float32, "high": np.float32, "rate": np.float32, "repeats": np.int32, "partner": np.int32,
    "still": np.float32,
}  # fmt: skip
"""Of an `Envelope`, with their types."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """What observations look like when everything works, per entry of the network's input.

    Attributes:
        low, high: ``float32[F]`` the range, ends included.
        rate: ``float32[F]`` the largest change in one period.
        repeats: ``int32[F]`` how often in a row an entry may not come back unchanged; 0: any number of times.
        partner: ``int32[F]`` index of the entry whose movement shows that this one should have changed; its own: none
            does (so it is where this is empty).
        still: ``float32[F]`` the largest change of the partner in a period in which the entry does not change.
    """

    low: Array
    high: Array
    rate: Array
    repeats: Array
    partner: Array = field(default_factory=lambda: np.empty(0))
    still: Array = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        size = np.size(self.low)
        if np.size(self.partner) == np.size(self.still) == 0:
            object.__setattr__(self, "partner", np.arange(size))
            object.__setattr__(self, "still", np.zeros(size))
        for name, dtype in VECTORS.items():
            values = np.array(getattr(self, name), dtype).reshape(-1)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if any(len(getattr(self, name)) != size or not np.isfinite(getattr(self, name)).all() for name in VECTORS):
            raise ConfigError("an envelope is six vectors of one length, all finite")
        if (self.low > self.high).any() or any((getattr(self, name) < 0).any() for name in list(VECTORS)[2:]):
            raise ConfigError("an envelope has low ≤ high, and all else at least 0")
        if (self.partner >= size).any():
            raise ConfigError(f"an envelope of {size} entries has partners in 0..{size - 1}")

    @property
    def paired(self) -> Array:
        """``bool[F]`` the entries that have a partner."""
        return np.asarray(self.partner != np.arange(len(self.low)))


@dataclass(frozen=True, eq=False)
class Guard:
    """What stands between a policy and the machine; see `nimbleq.deploy.guarded`.

    Attributes:
        fallback: index of the action for periods in which nothing better is known.
        envelope: of the observations (None: they only have to be finite).
        hold: so many faulty periods in a row repeat the policy's last action, before the fallback comes.
        backup: a policy for faulty periods, which decides on the last observation that was let through (None: the
            action).
        forbidden: indices of actions that are never taken.
        larger: the network that decides where the policy's margin is below ``margin`` (None: the policy always does).
        margin: see there.
        latch: after so many faulty periods in a row the fallback stays until a reset (0: never).
    """

    fallback: int
    envelope: Envelope | None = None
    hold: int = 0
    backup: Graph | None = None
    forbidden: tuple[int, ...] = ()
    larger: Graph | None = None
    margin: float = 0.0
    latch: int = 0

    def __post_init__(self) -> None:
        if self.hold < 0 or self.latch < 0:
            raise ConfigError("hold and latch are numbers of periods, at least 0")
        if not 0 <= self.margin < float("inf") or (self.larger is None) != (self.margin == 0):
            raise ConfigError("a larger network needs a margin above 0 below which it decides, and the other way round")

    def allowed(self, actions: int) -> Array:
        """``bool[A]`` the actions that are not forbidden."""
        flags = np.ones(actions, bool)
        flags[list(self.forbidden)] = False
        return flags


def misguided(guard: Guard, graph: Graph) -> str:
    """Why ``guard`` does not fit the policy ``graph``; empty if it does."""
    actions, size = graph.actions, graph.obs_type.size
    if graph.units:
        return "it asks about single observations, and the policy remembers those before"
    if graph.branches:
        return "it holds back single actions, and the policy chooses in several dimensions"
    if not all(0 <= action < actions for action in (guard.fallback, *guard.forbidden)):
        return f"its actions are not all in 0..{actions - 1}"
    if guard.fallback in guard.forbidden:
        return f"its fallback is action {guard.fallback}, which it forbids"
    if guard.envelope is not None and graph.obs_type.qtype.is_integer:
        return "an envelope is for numbers: the policy reads pictures"
    if guard.envelope is not None and len(guard.envelope.low) != size:
        return f"its envelope has {len(guard.envelope.low)} entries, the network reads {size}"
    for name, other in (("larger network", guard.larger), ("backup", guard.backup)):
        if other is not None and (other.obs_type, other.actions) != (graph.obs_type, actions):
            return f"its {name} reads {other.obs_type} for {other.actions} actions, not what the policy does"
        if other is not None and other.masked != graph.masked:
            return f"its {name} takes {'a' if other.masked else 'no'} mask, unlike the policy"
    return ""


def describe_guard(guard: Guard) -> list[str]:
    """The guard in words, one fact per line: for the header of emitted code, and for people."""
    lines = []
    if guard.envelope is not None:
        watched = int(((guard.envelope.repeats > 0) | guard.envelope.paired).sum())
        lines.append(
            f"envelope: range and rate of {len(guard.envelope.low)} entries; {watched} of them may not get stuck"
        )
    if guard.forbidden:
        lines.append(f"never taken: action {', '.join(map(str, guard.forbidden))}")
    if guard.larger is not None:
        lines.append(f"a larger network decides where the margin is below {guard.margin:.9g}")
    held = f"the last action for {guard.hold} periods, then " if guard.hold else ""
    after = "the backup policy on the last good observation, before the first one " if guard.backup is not None else ""
    lines.append(f"fallback: {held}{after}action {guard.fallback}")
    if guard.latch:
        lines.append(f"after {guard.latch} faulty periods in a row the fallback stays until a reset")
    return lines
