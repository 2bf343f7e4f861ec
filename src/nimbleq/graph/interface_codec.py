"""An `Interface` as JSON values, as `model.json` holds it, and back."""

from __future__ import annotations

from dataclasses import asdict, fields
from math import prod
from typing import Any

import numpy as np

from nimbleq.errors import FileError
from nimbleq.graph.branches import MOST
from nimbleq.graph.frames import Frames
from nimbleq.graph.interface import MASKS, Interface, without_mask
from nimbleq.graph.space import SAME, Box, Dict, Space, leaves
from nimbleq.graph.space_codec import items, number, record, space_from_dict, space_to_dict, whole
from nimbleq.types import Array

_COMMAND_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "int8", "int16")
_MAX_ACTIONS = 1 << 20
_MAX_PIXELS = 1 << 22


def to_dict(interface: Interface) -> dict[str, Any]:
    """JSON values."""
    content: dict[str, Any] = {
        "space": space_to_dict(interface.space),
        "actions": interface.actions,
        "action_start": interface.action_start,
        "mask": interface.mask,
        "commands": None,
    }
    commands = interface.commands
    if commands is not None:
        values = commands.reshape(-1).tolist()
        content["commands"] = {"dtype": str(commands.dtype), "shape": list(commands.shape), "values": values}
    if interface.frames is not None:
        content["frames"] = asdict(interface.frames)
    if interface.branches:
        content["branches"] = [list(pair) for pair in zip(interface.branches, interface.starts, strict=True)]
    return content


def from_dict(content: Any) -> Interface:
    """What `to_dict` wrote.

    Raises:
        FileError: it is not valid; says where.
    """
    record(content, "interface", {"space", "actions", "action_start", "mask", "commands"}, {"frames", "branches"})
    actions = whole(content["actions"], "interface.actions", 1)
    start, mask = whole(content["action_start"], "interface.action_start", -(1 << 62)), content["mask"]
    space = space_from_dict(content["space"], "interface.space")
    if actions > _MAX_ACTIONS:
        raise FileError(f"interface.actions is {actions}, more than {_MAX_ACTIONS}")
    if mask is not None and (not isinstance(mask, str) or mask not in MASKS):
        raise FileError(f"interface.mask must be null or one of {', '.join(MASKS)}")
    if mask is not None and mask.startswith("obs:") and not _has_entry(space, mask):
        raise FileError(f"interface.space has no entry for the mask {mask}")
    if without_mask(space, mask).size == 0:
        raise FileError("interface.space has nothing but the mask")
    single = len(leaves(without_mask(space, mask))) == 1
    if not single and any(isinstance(leaf, Box) and leaf.axes == SAME for _, leaf in leaves(space)):
        raise FileError(f"interface.space: only a Box by itself has the axes {SAME!r}")
    frames = _frames(content.get("frames"), space)
    branches, starts = _branches(content.get("branches"), actions)
    commands = _commands(content["commands"], actions)
    if branches and (commands is not None or start):
        raise FileError("interface has commands or a first action beside branches")
    return Interface(space, actions, start, commands, mask, frames, branches, starts)


def _branches(content: Any, actions: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and first choices."""
    if content is None:
        return (), ()
    pairs = [items(pair, "interface.branches") for pair in items(content, "interface.branches")]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise FileError("interface.branches must be pairs of a size and a first choice")
    sizes = tuple(whole(size, "interface.branches", 1) for size, _ in pairs)
    starts = tuple(whole(first, "interface.branches", -(1 << 31)) for _, first in pairs)
    if sum(sizes) != actions or prod(sizes) > MOST or max(map(abs, starts)) > MOST:
        raise FileError(f"interface.branches {list(sizes)} are not those of {actions} choices")
    return sizes, starts


def _frames(content: Any, space: Space) -> Frames | None:
    if content is None:
        return None
    names = tuple(field.name for field in fields(Frames))
    record(content, "interface.frames", set(names))
    frames = Frames(*(whole(content[name], f"interface.frames.{name}", 1) for name in names))
    stack = isinstance(space, Box) and space.dtype == "uint8" and space.axes == "CHW" and len(space.shape) == 3
    if not stack or frames.colours not in (1, 3) or frames.height * frames.width > _MAX_PIXELS:
        raise FileError("interface.frames needs screens in grey or colour, and a space of stacked uint8 pictures (CHW)")
    assert isinstance(space, Box)
    if space.shape[1] > frames.height or space.shape[2] > frames.width:
        raise FileError("interface.frames: the screens are smaller than the pictures")
    return frames


def _commands(content: Any, actions: int) -> Array | None:
    if content is None:
        return None
    record(content, "interface.commands", {"dtype", "shape", "values"})
    if content["dtype"] not in _COMMAND_DTYPES:
        raise FileError(f"interface.commands.dtype must be one of {', '.join(_COMMAND_DTYPES)}")
    sides = items(content["shape"], "interface.commands.shape")
    shape = tuple(whole(side, "interface.commands.shape", 0) for side in sides)
    values = [number(value, "interface.commands") for value in items(content["values"], "interface.commands.values")]
    if not shape or shape[0] != actions or np.prod(shape, dtype=float) != len(values):
        raise FileError(f"interface.commands has {len(values)} values, not those of {actions} commands")
    with np.errstate(over="ignore", invalid="ignore"):
        commands = np.array(values).astype(content["dtype"]).reshape(shape)
    if not np.isfinite(commands).all():
        raise FileError("interface.commands has values that its dtype cannot hold")
    return commands


def _has_entry(space: Space, mask: str) -> bool:
    name = mask.partition(":")[2]
    return isinstance(space, Dict) and any(entry == name for entry, _ in space.entries)
