"""Ranges of the verbs' numeric options (those of training settings are in `nimbleq.config.rules`)."""

from __future__ import annotations

import math
from typing import Any

from nimbleq.errors import ConfigError

AT_LEAST: dict[str, float] = {
    "episodes": 1,
    "max_episodes": 2,
    "max_flash": 0,
    "max_frames": 1,
    "max_ram": 0,
    "observations": 0,
    "rounds": 1,
    "seed": 0,
    "select_episodes": 2,
    "seeds": 1,
    "states": 2,
    "trials": 1,
    "steps": 1,
    "eval_every": 1,
    "workers": 1,
}
"""Option of any verb → its smallest value."""
POSITIVE = ("seconds_per_trial", "seconds", "radius")
"""Options that are above 0 and finite."""
SHARES = ("keep",)
"""Options above 0 and at most 1."""


def check_ranges(args: Any) -> None:
    """Refuse options out of range, before the verb starts.

    Args:
        args: the ``Args`` of any verb.

    Raises:
        ConfigError: names the option, its value and the range.
    """
    for name, value in vars(args).items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        wanted = _wanted(name, value)
        if wanted:
            raise ConfigError(f"--{name.replace('_', '-')} must be {wanted}, not {value}")


def _wanted(name: str, value: float) -> str:
    """The range that ``value`` breaks, in words; empty when it breaks none."""
    if name in AT_LEAST and not value >= AT_LEAST[name]:
        return f"at least {AT_LEAST[name]}"
    if name in POSITIVE and not 0 < value < math.inf:
        return "positive"
    if name in SHARES and not 0 < value <= 1:
        return "above 0 and at most 1"
    return ""
