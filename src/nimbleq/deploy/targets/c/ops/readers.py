"""How C reads a weight of each number format: `READERS`. A new format needs a row here.

Weights are stored in the C file as they are stored in the model, packed, and decoded where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.formats import FORMATS, POWER4, Format, Scaled
from nimbleq.types import Array


@dataclass(frozen=True)
class Reader:
    """A row of `READERS`.

    Attributes:
        element: C type of the array's elements.
        read: C expression of weight number ``{i}`` of the array ``{w}``.
        kernels: files of `native/kernels` that the expression calls.
    """

    element: str
    read: str
    kernels: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the array's elements are the weights."""
        return self.read == _PLAIN


_PLAIN = "{w}[{i}]"

READERS: Mapping[str, Reader] = {
    "float32": Reader("float", _PLAIN),
    "int8": Reader("int8_t", _PLAIN),
    "int32": Reader("int32_t", _PLAIN),
    **{
        f"int{bits}": Reader("uint8_t", f"nq_int({{w}}, {{i}}, {bits})", ("packed", "packed_int"))
        for bits in range(2, 8)
    },
    **{
        str(row): Reader("uint8_t", f"(nq_int({{w}}, {{i}}, {row.bits}) * {1 << row.shift})", ("packed", "packed_int"))
        for row in FORMATS.values()
        if isinstance(row, Scaled)
    },
    str(POWER4): Reader(
        "uint8_t", f"nq_power({{w}}, {{i}}, {POWER4.bits}, {POWER4.least})", ("packed", "packed_power")
    ),
}
"""Name of a format → how its weights are read."""


@dataclass(frozen=True)
class Stored:
    """A constant array of weights in the order in which C uses them.

    Attributes:
        name: in C.
        reader: of its format.
    """

    name: str
    reader: Reader

    def at(self, index: str) -> str:
        """C expression of one weight."""
        return self.reader.read.format(w=self.name, i=index)

    @property
    def start(self) -> str:
        """A declaration: reading in order begins."""
        return f"const {self.reader.element} *w = {self.name};" if self.reader.plain else "uint32_t w = 0;"

    @property
    def next(self) -> str:
        """C expression of the next weight in order."""
        return "*w++" if self.reader.plain else self.at("w++")


def stored(layer: Layer, label: str, weight: str, values: Array) -> Stored:
    """Defines the array of the weight ``weight``, whose ``values`` are in the order in which they will be read.

    Raises:
        UnsupportedOpError: the format has no row in `READERS`.
    """
    number = layer.layout.graph.stored(weight).format
    if str(number) not in READERS:
        raise UnsupportedOpError(layer.op.kind, "c", f"no kernel reads {number} weights: choose another format")
    reader = READERS[str(number)]
    layer.use(*reader.kernels)
    return Stored(layer.constant(label, values if reader.plain else packed(values, number)), reader)


def packed(values: Array, number: Format) -> Array:
    """``uint8[bytes]`` codes of ``values`` without gaps."""
    return np.frombuffer(number.pack(number.encode(values)), np.uint8)


def per_channel(layer: Layer, *parameters: tuple[str, str | None, str]) -> tuple[list[str], int]:
    """C expressions of entry ``c`` of per-channel parameters, and their period: element ``i`` uses ``c = i % period``.

    Args:
        parameters: for each its label, its weight (None: it has none), and what stands in its place then.
    """
    size = max((layer.weight(name).size for _, name, _ in parameters if name is not None), default=1)
    period = layer.along_first(np.zeros(size))[1]
    place = "0" if period == 1 else "i" if period == layer.count else "c"
    made = []
    for label, name, absent in parameters:
        if name is None:
            made.append(absent)
            continue
        one = layer.weight(name).size == 1
        values = layer.weight(name).reshape(1) if one else layer.along_first(layer.weight(name))[0]
        made.append(stored(layer, label, name, values).at("0" if one else place))
    return made, period
