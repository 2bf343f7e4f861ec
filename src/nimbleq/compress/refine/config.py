"""Settings of direct search."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from nimbleq.errors import ConfigError


@dataclass(frozen=True)
class DirectConfig:
    """Direct search of a small policy's integers.

    Attributes:
        population: candidates of a generation.
        episodes: that each of them plays, on the same seeds.
        generations: at most; fewer once the return reaches the teacher's.
        regret_generations: before these, on regret, without playing.
        patience: generations without a better mean return before the search gives up.
        sigma: first step size, in mean magnitudes of a weight; at least half a level.
        risk: a candidate is worth its mean return less this many standard deviations.
        rounds: of moves of single integers after that, of twice as many candidates.
        zeros: rounds that try to set weights to zero at the end, where the return reaches the aim.
    """

    population: int = 14
    episodes: int = 32
    generations: int = 60
    regret_generations: int = 60
    patience: int = 15
    sigma: float = 0.1
    risk: float = 0.2
    rounds: int = 1
    zeros: int = 4


_AT_LEAST = {
    "population": 4, "episodes": 2, "generations": 1, "patience": 1, "regret_generations": 0, "rounds": 0, "zeros": 0,
}  # fmt: skip


def check_direct(config: DirectConfig) -> None:
    """Raise `ConfigError` for a setting that is out of range; names the option."""
    low = [(name, f"must be at least {low}") for name, low in _AT_LEAST.items() if getattr(config, name) < low]
    if not 0 < config.sigma < inf:
        low.append(("sigma", "must be positive"))
    if not 0 <= config.risk < inf:
        low.append(("risk", "cannot be negative"))
    for name, why in low:
        raise ConfigError(f"direct.{name} {why}, not {getattr(config, name)}")
