"""What `nimbleq tune` searches: settings by dotted name, each with a range or a list of choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimbleq.config import TrainConfig, from_dict, to_dict, with_changes
from nimbleq.errors import ConfigError
from nimbleq.files import read_json
from nimbleq.rl.rules import check_settings

Plain = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, whole ones where both are; ``log``: evenly spread by ratio."""

    low: float
    high: float
    log: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choices:
    """One of ``values``."""

    values: tuple[Plain, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"choices": [list(value) if isinstance(value, tuple) else value for value in self.values]}


Space = Mapping[str, Range | Choices]

_COMMON: dict[str, Range | Choices] = {
    "learner.lr": Range(1e-4, 1e-2, log=True),
    "learner.batch_size": Choices((32, 64, 128, 256)),
    "learner.gamma": Choices((0.95, 0.98, 0.99, 0.995, 0.999)),
    "updates_per_step": Choices((1, 2, 4)),
    "explore.updates": Range(100, 20_000, log=True),
    "explore.end": Range(0.01, 0.1, log=True),
    "network.hidden": Choices(((64, 64), (128, 128), (256, 256))),
}
_REPLAY: dict[str, Range | Choices] = {
    "replay.n_step": Range(1, 10),
    "replay.prioritized": Choices((False, True)),
    "learner.target": Choices(("none", "hard", "polyak")),
    "learner.tau": Range(0.002, 0.2, log=True),
    "learner.target_every": Range(100, 2_000, log=True),
}
_PQN: dict[str, Range | Choices] = {
    "pqn.epochs": Choices((1, 2, 4)),
    "pqn.trace_decay": Range(0.3, 0.95),
}
_STREAM: dict[str, Range | Choices] = {
    "stream.trace_decay": Range(0.5, 0.95),
    "stream.overshoot": Range(1.5, 4.0),
}


def default_space(config: TrainConfig) -> Space:
    """What is searched around ``config`` by default."""
    if config.algorithm == "pqn":
        space = {name: _COMMON[name] for name in ("learner.lr", "learner.gamma", "explore.updates", "network.hidden")}
        space |= _PQN
    elif config.algorithm == "stream":  # its step size is bounded by itself
        space = {name: _COMMON[name] for name in ("learner.gamma", "explore.updates", "network.hidden")} | _STREAM
    else:
        space = _COMMON | _REPLAY
    if config.network.torso != "mlp":  # convolutions are slow enough as they are
        space = {name: option for name, option in space.items() if name not in ("network.hidden", "learner.batch_size")}
        space["learner.lr"] = Range(3e-5, 1e-3, log=True)
    if config.network.noisy:
        space = {name: option for name, option in space.items() if not name.startswith("explore.")}
    return space


def read_space(path: Path, config: TrainConfig) -> Space:
    """A space from JSON: ``{"learner.lr": {"low": 1e-4, "high": 1e-2, "log": true}, "seed": {"choices": [1, 3]}}``.

    Raises:
        FileError: the file is missing or no JSON.
        ConfigError: a setting does not exist, or what it may be is not a range or list of choices that it can take.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path} is no search space: it has to be an object of settings")
    space = {name: _option(path, name, entry) for name, entry in content.items()}
    for name, option in space.items():
        for value in option.values if isinstance(option, Choices) else (option.low, option.high):
            try:
                check_settings(from_dict(TrainConfig, to_dict(with_changes(config, {name: value}))))
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
    return space


def _option(path: Path, name: str, entry: Any) -> Range | Choices:
    if isinstance(entry, dict) and entry.keys() == {"choices"} and isinstance(entry["choices"], list):
        values = tuple(tuple(value) if isinstance(value, list) else value for value in entry["choices"])
        if values:
            return Choices(values)
    if isinstance(entry, dict) and {"low", "high"} <= entry.keys() <= {"low", "high", "log"}:
        low, high, log = entry["low"], entry["high"], entry.get("log", False)
        numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in (low, high))
        if numbers and isinstance(log, bool) and low < high and (low > 0 or not log):
            return Range(low, high, log)
    raise ConfigError(f'{path}: {name} has to be {{"choices": […]}} or {{"low": …, "high": …, "log": true or false}}')


def narrowed(space: Space, only: Sequence[str]) -> Space:
    """The part of ``space`` that ``only`` names (none: all of it).

    Raises:
        ConfigError: it has no such setting.
    """
    unknown = [name for name in only if name not in space]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not searched; choose from {', '.join(space)}, or give it with --space FILE")
    return {name: option for name, option in space.items() if not only or name in only}


def applied(config: TrainConfig, values: Mapping[str, Plain]) -> TrainConfig:
    """``config`` with ``values``; ``learner.lr_end`` keeps its share of a changed ``learner.lr``."""
    changes = dict(values)
    lr = changes.get("learner.lr")
    if isinstance(lr, float) and "learner.lr_end" not in changes:
        changes["learner.lr_end"] = lr * config.learner.lr_end / config.learner.lr
    changed: TrainConfig = with_changes(config, changes)
    return changed


def current(config: TrainConfig, space: Space) -> dict[str, Plain]:
    """What ``config`` has for the settings of ``space``, where the space allows it."""
    found: dict[str, Plain] = {}
    for name, option in space.items():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        inside = value in option.values if isinstance(option, Choices) else option.low <= value <= option.high
        if inside:
            found[name] = value
    return found
