"""A quantity in an environment's ``info`` in place of its return: what people fear, a crash or a missed deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from nimbleq.config import EnvConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.envs.serial import SerialEnvBatch

_INFO = "info"
REDUCTIONS: Mapping[str, Callable[[list[float]], float]] = {
    "max": max,
    "mean": lambda values: sum(values) / len(values),
    "last": lambda values: values[-1],
}
"""What an episode's value is made of → how, from the values of its steps that have one."""


@dataclass(frozen=True)
class Measure:
    """A quantity of an episode: ``info:NAME`` is the largest ``info[NAME]`` from reset to the end.

    Attributes:
        name: of the entry, ``a.b`` for one inside another.
        reduction: one of `REDUCTIONS`.
    """

    name: str
    reduction: str = "max"

    def __str__(self) -> str:
        return f"{_INFO}:{self.name}:{self.reduction}"

    @classmethod
    def parse(cls, text: str) -> Measure:
        """``info:NAME`` or ``info:NAME:REDUCTION``.

        Raises:
            ConfigError: it is neither.
        """
        place, _, rest = text.partition(":")
        name, _, reduction = rest.partition(":")
        if place != _INFO or not name or reduction not in ("", *REDUCTIONS):
            raise ConfigError(
                f"--measure is {_INFO}:NAME for the largest info[NAME] of an episode, or {_INFO}:NAME: and one of "
                f"{', '.join(REDUCTIONS)}, not {text!r}"
            )
        return cls(name, reduction or "max")

    def of(self, info: Mapping[str, Any]) -> float | None:
        """The value that a step says; None where it says none.

        Raises:
            ConfigError: it is no number in [0, 1].
        """
        value: Any = info
        for part in self.name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"info[{self.name!r}] is {value!r}: a measure is a number in [0, 1]") from None
        if not 0 <= number <= 1:
            raise ConfigError(
                f"info[{self.name!r}] is {number:g}: a measure is in [0, 1]; divide it by its largest value in the "
                "environment"
            )
        return number


@dataclass(frozen=True)
class MeasuredEnv(EnvConfig):
    """An environment whose episodes return the value of ``measure``."""

    measure: Measure = Measure("")

    @classmethod
    def of(cls, env: EnvConfig, measure: Measure) -> MeasuredEnv:
        """``env`` measured so."""
        return cls(**{field.name: getattr(env, field.name) for field in fields(EnvConfig)}, measure=measure)


class MeasuredEnvBatch(SerialEnvBatch):
    """Its reward is 0 but at the end of an episode, where it is the measure: so that is what the episode returns."""

    def __init__(self, config: MeasuredEnv, count: int) -> None:
        super().__init__(config, count)
        self.measure = config.measure
        self._seen: list[list[float]] = [[] for _ in range(count)]

    def begun(self, index: int, info: Mapping[str, Any]) -> None:
        """See `SerialEnvBatch`."""
        first = self.measure.of(info)
        self._seen[index] = [] if first is None else [first]

    def gain(self, index: int, reward: float, over: bool, info: Mapping[str, Any]) -> float:
        """See `SerialEnvBatch`."""
        value, seen = self.measure.of(info), self._seen[index]
        if value is not None:
            seen.append(value)
        if not over:
            return 0.0
        if not seen:
            raise ConfigError(
                f"{self.name} never said info[{self.measure.name!r}] in an episode: the last step has "
                f"{', '.join(map(repr, info)) or 'nothing'} in its info"
            )
        return REDUCTIONS[self.measure.reduction](seen)
