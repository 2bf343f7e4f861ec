"""What an environment gives and takes, as one value for training, evaluation and every target.

interface = artefact.interface
obs = network_input(interface, raw)                   # what the environment gave → what the network reads
action = environment_action(interface, index)         # what the network chose → what the environment takes
mask = mask_of(interface, raw, info)                  # which actions are legal
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.graph.branches import combinations, nowhere_legal, split
from nimbleq.graph.frames import Frames
from nimbleq.graph.reading import Read, as_array, described, input_spec, reader
from nimbleq.graph.space import (
    AXES,
    SAME,
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Path,
    Space,
    leaves,
    named,
)
from nimbleq.types import Array, ObsSpec

MASKS: Mapping[str, bool] = {
    "obs:action_mask": False,
    "obs:action_masks": False,
    "obs:valid_action_mask": False,
    "info:action_mask": False,
    "info:action_masks": False,
    "info:valid_action_mask": False,
    "info:avail_actions": False,
    "info:admissible_actions": True,
    "info:legal_actions": True,
    "method:action_masks": False,
    "method:valid_action_mask": False,
}
"""Places where an environment gives its mask, in order of preference → whether it is a list of actions (else flags)."""


@dataclass(frozen=True, eq=False)
class Interface:
    """How observations become the network's input, and its output the environment's actions.

    Attributes:
        space: of the raw observations; an image has the order of its axes.
        actions: ``A``, the actions that the network chooses among; with ``branches`` the choices of all of them.
        action_start: the environment's action is the index plus this.
        commands: ``[A, *command]`` the environment's action for each index, if it is not a number (None: it is).
        mask: one of `MASKS` (None: every action is always legal).
        frames: how the screens of a console become the pictures of ``space`` (None: they are not made of any).
        branches: of an action of several dimensions, the choices of each, ``A`` in all (empty: it is a single choice);
            an index is one for all of them, see `nimbleq.graph.branches`.
        starts: of each dimension, what the environment calls its first choice.
        obs: what the network reads.
        read: an observation → an array of ``obs``; like `network_input`, but it accepts NaN and infinity.
    """

    space: Space
    actions: int
    action_start: int = 0
    commands: Array | None = None
    mask: str | None = None
    frames: Frames | None = None
    branches: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    obs: ObsSpec = field(init=False, repr=False)
    read: Read = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.commands is not None:
            commands = np.array(self.commands, order="C")
            commands.flags.writeable = False
            object.__setattr__(self, "commands", commands)
        seen = without_mask(self.space, self.mask)
        object.__setattr__(self, "obs", input_spec(seen))
        object.__setattr__(self, "read", reader(seen))

    def __reduce__(self) -> tuple[Any, ...]:
        # ``read`` is a closure, which cannot be pickled.
        return Interface, (
            self.space, self.actions, self.action_start, self.commands, self.mask, self.frames, self.branches,
            self.starts,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Interface) or _numbers(self) != _numbers(other):
            return False
        mine, others = self.commands, other.commands
        if mine is None or others is None:
            return mine is others
        return mine.dtype == others.dtype and np.array_equal(mine, others)

    def __hash__(self) -> int:
        return hash(_numbers(self))

    @classmethod
    def of_spec(cls, obs: ObsSpec, actions: int, branches: tuple[int, ...] = ()) -> Interface:
        """The interface of a network whose environment is unknown: arrays of ``obs``, actions from 0 on."""
        made = cls(Box(obs.shape, obs.dtype, axes=SAME), actions, branches=branches, starts=(0,) * len(branches))
        object.__setattr__(made, "obs", replace(made.obs, bits=obs.bits))
        return made

    @property
    def choices(self) -> int:
        """How many indices of actions there are."""
        return combinations(self.actions, self.branches)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of the environment's action: ``()`` where it is a number."""
        return self.commands.shape[1:] if self.commands is not None else (len(self.branches),) * bool(self.branches)

    @property
    def plain(self) -> bool:
        """Whether observations are the network's input unchanged, and actions its indices."""
        space = self.space
        as_is = isinstance(space, Box) and not space.offset and (space.axes == SAME or len(space.shape) == 1)
        same = as_is and isinstance(space, Box) and (space.dtype == "float32" or space.axes == SAME)
        return same and self.action_start == 0 and self.commands is None and not self.branches


def _numbers(interface: Interface) -> tuple[Any, ...]:
    """All fields but the commands, which are an array."""
    return (
        interface.space, interface.actions, interface.action_start, interface.mask, interface.frames,
        interface.branches, interface.starts,
    )  # fmt: skip


def network_input(interface: Interface, raw: Any) -> Array:
    """What the network reads of an observation, exactly as in training: an array of ``interface.obs``.

    Takes what the environment gives: arrays of any type that the values allow, lists, numbers, tensors, Dict, Tuple.

    Raises:
        ObservationError: an entry is missing or has another shape, a value does not fit its space, NaN, infinity.
    """
    ready = interface.read(raw)
    if ready.dtype != np.uint8 and not np.isfinite(ready).all():
        raise ObservationError(_not_finite(interface, ready))
    return ready


def environment_action(interface: Interface, index: int) -> int | Array:
    """The environment's action of the network's ``index``: a number, or a command ``[*command]``, or ``int64[D]`` the
    choices of each dimension."""
    if interface.branches:
        choices: Array = split(np.asarray(index), interface.branches) + np.array(interface.starts)
        return choices
    if interface.commands is None:
        return int(index) + interface.action_start
    command: Array = interface.commands[index].copy()
    return command


def mask_of(interface: Interface, raw: Any, info: Any = None, env: Any = None) -> Array | None:
    """``bool[A]`` the legal actions, from the place that ``interface.mask`` names; None without masks.

    Args:
        raw: the observation.
        info: the environment's info that came with it.
        env: the environment, whose method is called where masks come from one.

    Raises:
        ObservationError: there is no mask, or it does not fit the actions.
    """
    if interface.mask is None:
        return None
    place, _, name = interface.mask.partition(":")
    if place == "method":
        value = getattr(env, name)()
    else:
        held = raw if place == "obs" else info
        if not isinstance(held, Mapping) or name not in held:
            where = "observation" if place == "obs" else "info"
            raise ObservationError(
                f"the {where} has no {name!r}, which says which actions are legal: it must be there every time, "
                "from reset on"
            )
        value = held[name]
    return as_mask(interface, value, name)


def as_mask(interface: Interface, value: Any, name: str = "mask") -> Array:
    """``bool[A]`` of a mask in the environment's form: flags 0 and 1 of any type, or a list of legal actions.

    With branches the flags of all dimensions are one after the other, or in a tuple or list with the flags of each.

    Raises:
        ObservationError: another length, or other values; or a dimension has no legal choice.
    """
    if interface.branches:
        return _mask_of_branches(interface, value, name)
    array = _mask_values(value, name)
    count = interface.actions
    if interface.mask is not None and MASKS[interface.mask] and array.dtype.kind != "b":
        return _flags_of(array, interface, name)
    if array.shape != (count,):
        raise ObservationError(f"{name} has the shape {array.shape}: it must have a flag for each of {count} actions")
    mask: Array = array.astype(bool)
    if array.dtype != bool and (mask != array).any():
        raise ObservationError(f"{name} has values other than 0 and 1: it must have one flag per action, 1 for legal")
    return mask


def _mask_of_branches(interface: Interface, value: Any, name: str) -> Array:
    counts = interface.branches
    if isinstance(value, tuple | list) and len(value) == len(counts) and all(np.ndim(part) == 1 for part in value):
        flags = [_mask_values(part, name) for part in value]
        if tuple(map(len, flags)) != counts:
            raise ObservationError(f"{name} has {tuple(map(len, flags))} flags in its dimensions, not {counts}")
        value = np.concatenate(flags)
    array = _mask_values(value, name)
    if array.shape != (interface.actions,) or not np.isin(array, (0, 1)).all():
        raise ObservationError(
            f"{name} must be {interface.actions} flags, 1 for legal: {' + '.join(map(str, counts))} of the action's "
            "dimensions"
        )
    mask: Array = array.astype(bool)
    if nowhere_legal(mask[None], counts)[0]:
        raise ObservationError(f"{name} allows nothing in a dimension of the action: a choice of each has to be legal")
    return mask


def _mask_values(value: Any, name: str) -> Array:
    if isinstance(value, set | frozenset | range):
        value = sorted(value)
    try:
        return as_array(value)
    except ObservationError:
        raise ObservationError(f"{name} is {described(value)}: it must be numbers") from None


def _flags_of(listed: Array, interface: Interface, name: str) -> Array:
    """The flags of a list of legal actions, as the environment numbers them."""
    first, count = interface.action_start, interface.actions
    index = listed.astype(np.int64) - first
    mask = np.zeros(count, bool)
    if listed.ndim == 1 and listed.dtype.kind == "i":  # a list as it should be: this is asked in every step
        inside = [place for place in index.tolist() if 0 <= place < count]
        mask[inside] = True
        if len(inside) == len(index) == np.count_nonzero(mask):
            return mask
    outside = (index + first != listed) | (index < 0) | (index >= count)
    if listed.ndim != 1 or outside.any() or len(np.unique(index)) < len(index):
        raise ObservationError(f"{name} must list legal actions, each once, from {first} to {first + count - 1}")
    mask[index] = True
    return mask


def describe(interface: Interface) -> list[str]:
    """The interface in words, one fact per line: for the header of emitted code, and for people."""
    lines, at = [], 0
    vector = interface.obs.pictures or len(interface.obs.shape) == 1
    found = leaves(without_mask(interface.space, interface.mask))
    for path, leaf in sorted(found, key=lambda entry: getattr(entry[1], "picture", None) is None):
        place = f"obs[{at}..{at + leaf.size - 1}]" if leaf.size > 1 else f"obs[{at}]"
        at += leaf.size
        lines.append(f"{place if vector else 'obs'}: {named(path) or 'observation'}, {_form(leaf)}")
    lines += [] if interface.frames is None else [_screens(interface.frames)]
    count, first = interface.actions, interface.action_start
    if interface.branches:
        digits = [
            f"{start}..{start + size - 1}" for size, start in zip(interface.branches, interface.starts, strict=True)
        ]
        lines.append(f"action: index 0..{interface.choices - 1}; its digits, the last changes first, are the choices")
        lines.append(f"  in {len(digits)} dimensions: {', '.join(digits)}")
    elif interface.commands is not None:
        lines.append(f"action: index 0..{count - 1} of the environment's commands")
        for index, command in enumerate(interface.commands.reshape(count, -1).tolist()):
            lines.append(f"  {index}: {', '.join(f'{value:.9g}' for value in command)}")
    elif first:
        lines.append(f"action: 0..{count - 1}; the environment's action is action + ({first})")
    else:
        lines.append(f"action: 0..{count - 1}, as the environment takes it")
    if interface.mask is not None:
        each = "choice of each dimension" if interface.branches else "action"
        lines.append(f"mask: one flag per {each}, 1 for legal; the environment gives it as {interface.mask}")
    return [
        ascii(line)[1:-1].replace("*/", "* /") for line in lines
    ]  # names may hold anything, even the end of a comment


def _screens(frames: Frames) -> str:
    sides = " x ".join(map(str, frames.shape))
    return (
        f"each picture: the larger of the last two of {frames.skip} screens uint8 {sides}, grey, resized by area; "
        "the newest last, zeros before the first"
    )


def _form(leaf: Any) -> str:
    match leaf:
        case Discrete(n, start):
            return f"one-hot of {start}..{start + n - 1}"
        case MultiDiscrete(nvec):
            return f"one-hot digits of {', '.join(map(str, nvec))} values"
        case MultiBinary():
            return "zeros and ones"
    sides = " x ".join(map(str, leaf.shape))
    if leaf.axes in AXES:
        planes = " x ".join(map(str, leaf.picture))
        what = f"picture {leaf.dtype} {sides} ({leaf.axes}) as {planes} (CHW), {leaf.stored}"
        return f"{what}: 0 or 255" if leaf.binary else what
    off = f", minus {', '.join(f'{value:.17g}' for value in leaf.offset)}" if leaf.offset else ""
    return f"{leaf.dtype} {sides}{off}"


def without_mask(space: Space, mask: str | None) -> Space:
    """The part of ``space`` that the network reads: all but the entry that holds the mask, if one does."""
    if mask is None or not mask.startswith("obs:") or not isinstance(space, Dict):
        return space
    name = mask.partition(":")[2]
    return Dict(tuple(entry for entry in space.entries if entry[0] != name))


def _not_finite(interface: Interface, ready: Array) -> str:
    """Which entry holds NaN or infinity."""
    bad = ~np.isfinite(ready).reshape(-1)
    what, at = "NaN" if np.isnan(ready).any() else "infinity, or a value too large for float32", int(bad.argmax())
    found: list[tuple[Path, Any]] = leaves(without_mask(interface.space, interface.mask))
    for path, leaf in sorted(found, key=lambda entry: getattr(entry[1], "picture", None) is None):
        if at < leaf.size and path:
            return f"the observation's entry {named(path)!r} contains {what}"
        at -= leaf.size
    return f"the observation contains {what}, so there is no action for it"
