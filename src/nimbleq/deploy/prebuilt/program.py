"""Programs as bytes: steps over named places and constants, as `native/engine/program.h` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

F32, I32, I16, I8, U8 = range(5)
BYTES = (4, 4, 2, 1, 1)
"""Of one element of each type."""
OPS = (
    "permute", "copy", "convert", "border", "affine", "activate", "tanh", "add", "dueling", "expectation", "layer_norm",
    "pool", "quantize", "dequantize", "requantize", "sums_f32", "dots_f32", "sums_u8", "sums_i16", "sparse_f32",
    "sparse_int", "scatter_f32", "scatter_int", "oblique_tree", "axis_tree", "argmax",
)  # fmt: skip
"""In the order of the C enumeration."""
SIZES, REALS, CONSTANTS = 20, 3, 6
OBS = "\0obs"
"""The place of what the caller gives."""
NOWHERE = "\0nowhere"
_MAGIC, _OBS, _NONE = 0x3151514E, -1, -1
_ALIGNMENT = 64

Size = int | str
"""A number, or the place whose offset it is."""


def type_of(kind: TensorType) -> int:
    """How the elements of a tensor are stored: the narrowest type that holds them."""
    number = kind.qtype
    if not number.is_integer:
        return F32
    if number.low >= 0 and number.high <= 255:
        return U8
    if number.low >= -128 and number.high <= 127:
        return I8
    return I16 if number.low >= -(2**15) and number.high < 2**15 else I32


@dataclass(frozen=True)
class Instruction:
    """One step, with places by name.

    Attributes:
        op: one of `OPS`.
        x, y: where it reads and writes.
        sizes: fields of its C structure, in order.
        reals: bounds of an activation, or an epsilon.
        constants: offsets in the constants; None where one is missing.
    """

    op: str
    x: str
    y: str
    sizes: tuple[Size, ...]
    reals: tuple[float, ...] = ()
    constants: tuple[int | None, ...] = ()

    def words(self, places: Mapping[str, int]) -> Array:
        """The step as C reads it, ``int32[32]``."""
        sizes = [places[size] if isinstance(size, str) else size for size in self.sizes]
        constants = [_NONE if offset is None else offset for offset in self.constants]
        numbers = [OPS.index(self.op), places[self.x], places[self.y], *sizes, *[0] * (SIZES - len(sizes))]
        reals = np.array([*self.reals, *[0.0] * (REALS - len(self.reals))], np.float32).view(np.int32)
        return np.concatenate([numbers, reals, constants, [_NONE] * (CONSTANTS - len(constants))]).astype(np.int32)


@dataclass
class Constants:
    """The constants of a program, while it is written.

    Attributes:
        data: all of them, each aligned.
    """

    data: bytearray = field(default_factory=bytearray)

    def add(self, values: Array) -> int:
        """Appends an array; returns its offset."""
        self.data.extend(bytes(-len(self.data) % _ALIGNMENT))
        offset = len(self.data)
        self.data.extend(np.ascontiguousarray(values).tobytes())
        return offset


@dataclass(frozen=True)
class Program:
    """A program before it becomes bytes.

    Attributes:
        obs: type of the observation.
        actions: how many.
        masked: whether it takes a mask.
        places: name → offset in the arena; `OBS` besides.
        q: the place of the action values.
        arena_bytes: size of the arena.
        trunk, action, values: steps that both answers need, and those of each.
        constants: what they refer to.
    """

    obs: TensorType
    actions: int
    masked: bool
    places: Mapping[str, int]
    q: str
    arena_bytes: int
    trunk: Sequence[Instruction]
    action: Sequence[Instruction]
    values: Sequence[Instruction]
    constants: Constants

    def to_bytes(self) -> bytes:
        """What `nimbleq.native._runtime.Decider` loads."""
        places = {**self.places, OBS: _OBS, NOWHERE: 0}
        constants = bytes(self.constants.data) + bytes(-len(self.constants.data) % _ALIGNMENT)
        head = [
            _MAGIC, self.obs.size, type_of(self.obs), self.actions, int(self.masked), self.arena_bytes, places[self.q],
            len(self.trunk), len(self.action), len(self.values), len(constants),
        ]  # fmt: skip
        steps = [each.words(places).tobytes() for part in (self.trunk, self.action, self.values) for each in part]
        return np.array(head, np.int32).tobytes() + b"".join(steps) + constants
