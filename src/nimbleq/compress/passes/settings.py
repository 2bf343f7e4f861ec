"""Settings of passes that are shared by all passes of a search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DistillConfig:
    """Attributes:
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
