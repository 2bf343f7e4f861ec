"""Settings of passes that are shared by all passes of a search."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from nimbleq.errors import ConfigError


@dataclass(frozen=True)
class DistillConfig:
    """Distillation: rounds of playing the student and training it on what it met.

    Attributes:
        rounds: of playing and training.
        updates: gradient steps per round.
        last_updates: gradient steps of the last round, on all that was collected.
        batch_size: states per step, half of them student-visited from the second round on.
        lr: peak of Adam's step size; cosine to zero over each round, the peak halves by the last round.
        episodes: played by the student for each round's states.
        states: at most this many of these episodes are trained on, per round.
        epsilon: share of random actions while playing.
        temperature: in median action gaps of the teacher.
        advantage_weight: of the Huber term (λ), on advantages in units of the temperature.
        by_stake: the more is at stake in a state (the teacher's best value less its worst), the more often draw it
            (Q-DAgger [1805.08328]). Helps narrow students where few states decide: one wrong action and it crashes.
        low_fidelity: play the environment's cheaper copy, where it has one (envpool's roads, say); nothing is selected
            or certified there.
        max_grad_norm: gradients are cut to this length (0: never).
    """

    rounds: int = 6
    updates: int = 1500
    last_updates: int = 8000
    batch_size: int = 512
    lr: float = 1e-2
    episodes: int = 48
    states: int = 12_000
    epsilon: float = 0.02
    temperature: float = 0.5
    advantage_weight: float = 0.1
    by_stake: bool = False
    low_fidelity: bool = True
    max_grad_norm: float = 0.0


_AT_LEAST = {"rounds": 1, "updates": 1, "last_updates": 1, "batch_size": 2, "episodes": 1, "states": 1}
_POSITIVE = ("lr", "temperature")
_NOT_NEGATIVE = ("advantage_weight", "max_grad_norm")


def check_distill(config: DistillConfig) -> None:
    """Raise `ConfigError` for a setting that is out of range; names the option."""
    wrong = [f"{name} must be at least {low}" for name, low in _AT_LEAST.items() if getattr(config, name) < low]
    wrong += [f"{name} must be positive" for name in _POSITIVE if not 0 < getattr(config, name) < inf]
    if not 0 <= config.epsilon <= 1:
        wrong.append("epsilon must be between 0 and 1")
    wrong += [f"{name} cannot be negative" for name in _NOT_NEGATIVE if not 0 <= getattr(config, name) < inf]
    if wrong:
        name = wrong[0].split()[0]
        raise ConfigError(f"distill.{wrong[0]}, not {getattr(config, name)}")
