"""Which of a target's observations and actions are those of a source, by name and shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.interface import Interface, without_mask
from nimbleq.graph.space import Box, Leaf, Path, leaves, named
from nimbleq.types import Array

Entries = dict[Path, tuple[Leaf, int]]
"""Path → the leaf there, and where its values begin in the flat observation."""


def observed_columns(source: Interface, target: Interface) -> Array | None:
    """``int64[O]`` where each number that the source reads lies in the target's observation; None: both are the same.

    Entries are found by name; an observation without names has to have the source's shape.

    Raises:
        ConfigError: there is no such place for one of them.
    """
    if source.obs == target.obs and _kinds(_entries(source)) == _kinds(_entries(target)):
        return None
    if len(source.obs.shape) != 1 or source.obs.pictures or len(target.obs.shape) != 1 or target.obs.pictures:
        raise ConfigError(
            f"the source reads pictures of shape {source.obs.shape} and the target shows {target.obs.shape}: only "
            "equal ones can be mapped"
        )
    theirs, ours = _entries(source), _entries(target)
    if () in theirs or () in ours:
        raise ConfigError(
            f"the source reads {source.obs.shape[0]} numbers and the target gives {target.obs.shape[0]}: without names "
            "for them (a Dict) there is no telling which is which"
        )
    columns: list[int] = []
    for path, (leaf, _) in theirs.items():
        found = ours.get(path)
        if found is None:
            raise ConfigError(f"the source reads the entry {named(path)!r}, which the target does not give")
        if _kind(found[0]) != _kind(leaf):
            raise ConfigError(
                f"the entry {named(path)!r} is {_kind(leaf)} in the source and {_kind(found[0])} in the target"
            )
        columns += range(found[1], found[1] + leaf.size)
    return np.array(columns, np.int64)


def same_actions(source: Interface, target: Interface) -> Array | None:
    """``int64[A]`` the target's index of each of the source's actions; None where that is not well defined.

    Numbers are the same when there are as many of them, commands when they are equal.
    """
    if source.commands is None and target.commands is None:
        return np.arange(source.actions) if source.actions == target.actions else None
    if source.commands is None or target.commands is None or source.commands.shape[1:] != target.commands.shape[1:]:
        return None
    index = []
    for command in source.commands:
        equal = np.flatnonzero((target.commands == command).reshape(target.actions, -1).all(axis=1))
        if len(equal) == 0:
            return None
        index.append(int(equal[0]))
    return np.array(index, np.int64)


def _entries(interface: Interface) -> Entries:
    found, start = Entries(), 0
    for path, leaf in leaves(without_mask(interface.space, interface.mask)):
        found[path] = leaf, start
        start += leaf.size
    return found


def _kinds(entries: Entries) -> list[tuple[Path, Leaf]]:
    return [(path, _kind(leaf)) for path, (leaf, _) in entries.items()]


def _kind(leaf: Leaf) -> Leaf:
    """``leaf`` without what does not change the meaning of its numbers: the bounds and type of a Box of numbers."""
    if isinstance(leaf, Box) and leaf.picture is None:
        return replace(leaf, low=None, high=None, dtype="float32")
    return leaf
