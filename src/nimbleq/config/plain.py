"""Settings to plain JSON values and back, and copies with changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nimbleq.errors import ConfigError


def with_changes(config: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a (nested) frozen config with dotted fields replaced: ``{"learner.lr": 1e-4}``.

    Raises:
        ConfigError: there is no such field.
    """
    for dotted, value in changes.items():
        head, _, rest = dotted.partition(".")
        if head not in {f.name for f in fields(config)}:
            raise ConfigError(f"there is no setting {dotted!r} in {type(config).__name__}")
        before = getattr(config, head)
        changed = with_changes(before, {rest: value}) if rest else _as_kind(type(before), value)
        config = replace(config, **{head: changed})
    return config


def _as_kind(kind: Any, value: Any) -> Any:
    """``value``, as ``kind`` where that is a kind of text of its own (`nimbleq.config.TableName`)."""
    return kind(value) if isinstance(kind, type) and issubclass(kind, str) and isinstance(value, str) else value


def to_dict(config: Any) -> Any:
    """A config as plain JSON values."""
    if is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in fields(config)}
    return list(config) if isinstance(config, tuple) else config


@cache
def _hints(kind: type) -> dict[str, Any]:
    """``get_type_hints`` compiles every annotation anew."""
    return get_type_hints(kind)


def from_dict(kind: Any, value: Any, where: str = "") -> Any:
    """The config that `to_dict` wrote.

    Args:
        kind: the dataclass.
        value: plain JSON values.
        where: dotted path for messages.

    Raises:
        ConfigError: a setting is unknown or has the wrong type.
    """
    hints = _hints(kind)
    names = {f.name for f in fields(kind)}
    if not isinstance(value, Mapping) or value.keys() - names:
        extra = ", ".join(sorted(value.keys() - names)) if isinstance(value, Mapping) else repr(value)
        raise ConfigError(f"unknown settings {where or kind.__name__}: {extra}")
    plain: dict[str, Any] = {}
    for name, inner in value.items():
        hint, path = hints[name], f"{where}.{name}" if where else name
        if is_dataclass(hint):
            plain[name] = from_dict(hint, inner, path)
        elif get_origin(hint) is tuple and isinstance(inner, list):
            plain[name] = tuple(inner)
        elif _fits(hint, inner):
            plain[name] = _as_kind(hint, inner)
        else:
            raise ConfigError(f"the setting {path} cannot be {inner!r}")
    return kind(**plain)


def flat_settings(value: Any, prefix: str = "") -> dict[str, Any]:
    """What `to_dict` gave, by dotted names: ``{"learner.lr": 1e-4}``."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= flat_settings(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (UnionType, Union):
        return any(_fits(option, value) for option in get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if issubclass(hint, str):
        return isinstance(value, str)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
