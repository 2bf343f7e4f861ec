"""Between which undiscounted returns lie, where an environment's own rules say it exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
from gymnasium.error import Error

from nimbleq.config import EnvConfig


@dataclass(frozen=True)
class Rule:
    """How the rewards of one environment add up.

    Attributes:
        ends: time limit in steps → ``(low, high)`` of the return.
        words: the rule, with ``{steps}`` for the time limit.
        kwargs: arguments of the environment that leave the rule true; with any other it is not used.
    """

    ends: Callable[[int], tuple[float, float]]
    words: str
    kwargs: tuple[str, ...] = ()


def _goal(steps: int) -> tuple[float, float]:
    return 0.0, 1.0


def _minus_one_a_step(steps: int) -> tuple[float, float]:
    return -float(steps), 0.0


_GOAL_WORDS = "a reward of 1 at the goal and none elsewhere"
_STEP_WORDS = "a reward of −1 or 0 a step, at most {steps} steps"
_PENDULUM = 16.2736045  # π² + 0.1·8² + 0.001·2², rounded up
RULES: dict[str, Rule] = {
    "CartPole-v0": Rule(lambda steps: (0.0, float(steps)), "a reward of 1 a step, at most {steps} steps"),
    "CartPole-v1": Rule(lambda steps: (0.0, float(steps)), "a reward of 1 a step, at most {steps} steps"),
    "FrozenLake-v1": Rule(_goal, _GOAL_WORDS, ("desc", "map_name", "is_slippery", "success_rate")),
    "FrozenLake8x8-v1": Rule(_goal, _GOAL_WORDS, ("desc", "map_name", "is_slippery", "success_rate")),
    "MountainCar-v0": Rule(_minus_one_a_step, _STEP_WORDS, ("goal_velocity",)),
    "Acrobot-v1": Rule(_minus_one_a_step, _STEP_WORDS),
    "Taxi-v4": Rule(
        lambda steps: (-10.0 * steps, 20.0),
        "rewards of −10, −1 and, once, 20 in at most {steps} steps",
        ("is_rainy", "fickle_passenger"),
    ),
    "Pendulum-v1": Rule(
        lambda steps: (-_PENDULUM * steps, 0.0), "a reward of −16.2736 to 0 a step, at most {steps} steps", ("g",)
    ),
    "Blackjack-v1": Rule(lambda steps: (-1.0, 1.0), "a game is lost, drawn or won: −1, 0 or 1", ("sab",)),
}


def known_range(env: EnvConfig) -> tuple[float, float, str] | None:
    """``(low, high, why)`` of the returns of ``env``; None where its rules do not say."""
    rule = RULES.get(env.id)
    if rule is None or any(entry.split("=")[0] not in rule.kwargs for entry in env.kwargs):
        return None
    steps = env.max_episode_steps or _time_limit(env.id)
    if steps is None and "{steps}" in rule.words:
        return None
    low, high = rule.ends(steps or 0)
    return low, high, f"{env.id} gives {rule.words.format(steps=f'{steps or 0:,}')}"


def _time_limit(name: str) -> int | None:
    try:
        steps = gymnasium.spec(name).max_episode_steps
    except Error:
        return None
    return None if steps is None else int(steps)
