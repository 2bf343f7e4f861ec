"""Which settings a resumed run may change, and how the settings of two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from nimbleq.config.plain import from_dict
from nimbleq.errors import ConfigError

WITHOUT_EFFECT: Mapping[str, str] = {
    "checkpoint_seconds": "how often the state is saved",
    "distributed.ray": "it says where processes run",
    "env.workers": "an environment plays the same in every process",
    "evaluation.beside": "a check depends on the weights and its seeds, not on when and where it runs",
}
"""Settings that change no result, and why. All others do: a run is resumed with the values from its start.

`LogConfig` is not among the settings of training at all. ``replay.compress`` changes no result either, but what is
saved of the replay is laid out for it.
"""


class Difference(NamedTuple):
    """A setting (dotted name) that has two values."""

    name: str
    before: Any
    now: Any


def differences(before: Any, now: Any) -> list[Difference]:
    """The settings that differ between two configs of one kind, in the order of their names."""
    found: list[Difference] = []
    for each in fields(now):
        old, new = getattr(before, each.name), getattr(now, each.name)
        if is_dataclass(new):
            found += [inner._replace(name=f"{each.name}.{inner.name}") for inner in differences(old, new)]
        elif old != new:
            found.append(Difference(each.name, old, new))
    return sorted(found)


def require_same_result(before: Any, now: Any, what: str) -> None:
    """Refuse to go on with ``what``, which was started with ``before``, where ``now`` would change its result.

    Raises:
        ConfigError: names the first such setting and both values.
    """
    for name, old, new in differences(before, now):
        if name not in WITHOUT_EFFECT:
            raise ConfigError(
                f"{what} was started with {name} = {old}, not {new}: resume with the same settings, or choose another "
                "--out"
            )


def same_settings(saved: Any, config: Any) -> bool:
    """Whether ``saved``, which `to_dict` wrote, gives the result of ``config``.

    Settings that it lacks did not exist when it was saved.
    """
    try:
        require_same_result(from_dict(type(config), saved), config, "it")
    except ConfigError:
        return False
    return True
