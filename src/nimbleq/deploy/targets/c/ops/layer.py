"""What the code of one step is made from, and what it needs: constants, scratch, kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nimbleq.deploy.targets.c.layout import Layout, is_image
from nimbleq.deploy.targets.c.ops.readers import BYTES_PRODUCT, KERNELS, READERS, Stored, plain_reader
from nimbleq.deploy.targets.c.steps import Step
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

SHOWN = 16
"""Up to this many packed weights are said in a comment, too."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant array.

    Attributes:
        name: in C.
        values: its numbers.
        note: what a reader cannot see in them.
        near: it is read through a plain pointer, so that an AVR has to copy it to its RAM.
    """

    name: str
    values: Array
    note: str = ""
    near: bool = False


@dataclass(frozen=True)
class Buffer:
    """Scratch memory of one step: the C variable, its element type, and how many elements."""

    name: str
    c_type: str
    count: int


@dataclass(frozen=True, eq=False)
class Code:
    """One step as C.

    Attributes:
        lines: statements; empty where nothing has to be done.
        constants: that the lines name.
        scratch: variables that the lines use and that are declared before them.
        kernels: files of `native/kernels` that the lines call.
    """

    lines: tuple[str, ...]
    constants: tuple[Constant, ...]
    scratch: tuple[Buffer, ...]
    kernels: frozenset[str]


@dataclass
class Layer:
    """One step while its code is made: a function of `ops` reads it, asks it for what it needs, and returns lines.

    Attributes:
        layout: of the whole graph.
        step: the node and its epilogue.
    """

    layout: Layout
    step: Step
    _constants: list[Constant] = field(default_factory=list)
    _scratch: list[Buffer] = field(default_factory=list)
    _kernels: set[str] = field(default_factory=set)

    @property
    def op(self) -> Any:
        """The op."""
        return self.step.node.op

    @property
    def source(self) -> str:
        """The tensor that it reads (the first)."""
        return self.step.node.inputs[0]

    @property
    def x(self) -> str:
        """C expression of the source."""
        return self.variable(self.source)

    @property
    def y(self) -> str:
        """C expression of the result."""
        return self.variable(self.step.output)

    @property
    def inputs(self) -> list[str]:
        """C expressions of everything that it reads."""
        return [self.variable(name) for name in self.step.node.inputs]

    @property
    def source_type(self) -> TensorType:
        """Type of the source."""
        return self.layout.graph.types[self.source]

    @property
    def node_type(self) -> TensorType:
        """Type of the op's own result, before an epilogue."""
        return self.layout.graph.types[self.step.node.output]

    @property
    def count(self) -> int:
        """Elements of the result."""
        return self.node_type.size

    @property
    def source_element(self) -> str:
        """C element type of the source."""
        return self.layout.element(self.source)

    @property
    def element(self) -> str:
        """C element type of the result."""
        return self.layout.element(self.step.output)

    def variable(self, tensor: str) -> str:
        """C expression of a tensor."""
        return self.layout.variables[tensor]

    def weight(self, name: str) -> Array:
        """Values of a weight."""
        return self.layout.graph.weights[name]

    def constant(self, label: str, values: Array, note: str = "", near: bool = False) -> str:
        """Defines an array, see `Constant`; returns its C name: that of the layer, and ``label``."""
        name = f"nq_{self.layout.names[self.step.node.output]}_{label}"
        assert all(name != made.name for made in self._constants), f"{name} is there already"
        self._constants.append(Constant(name, values, note, near))
        return name

    def stored(self, label: str, weight: str, values: Array | None = None) -> Stored:
        """Defines the array of a weight in its own format, packed.

        Args:
            values: its values in the order in which they will be read, where that is not their own.

        Raises:
            UnsupportedOpError: no row of `READERS` reads the format.
        """
        number = self.layout.graph.stored(weight).format
        if type(number) not in READERS:
            raise UnsupportedOpError(self.op.kind, "c", f"no kernel reads {number} weights: choose another format")
        values = self.weight(weight) if values is None else values
        reader = plain_reader(values, number, self.layout.unpacked) or READERS[type(number)](number)
        if reader.plain and reader.element == "int8_t" and self.source_element in ("uint8_t", "int8_t"):
            reader = replace(reader, product=BYTES_PRODUCT)
        shown = not reader.plain and values.size <= SHOWN
        elements = reader.array(values, number)
        how = f"{number}, packed" if elements.size < values.size else str(number)
        note = f"{how}: {', '.join(f'{value:g}' for value in values.reshape(-1))}" if shown else ""
        return Stored(self.constant(label, elements, note), values.size, reader)

    def per_channel(self, label: str, weight: str) -> Stored:
        """Defines a ``(1,)`` or per-first-axis parameter so that element ``i`` uses entry ``i % count``."""
        return self.stored(label, weight, self._along_first(self.weight(weight)))

    def buffer(self, name: str, element: str, count: int) -> str:
        """Asks for scratch of ``count`` elements under a C name; returns the name."""
        self._scratch.append(Buffer(name, element, count))
        return name

    def use(self, *kernels: str) -> None:
        """Includes kernels."""
        self._kernels.update(kernels)

    def code(self, lines: list[str]) -> Code:
        """``lines`` and what was asked for."""
        text = "\n".join(lines)
        self.use(*(name for name in KERNELS if f"nq_{name}(" in text))
        return Code(tuple(lines), tuple(self._constants), tuple(self._scratch), frozenset(self._kernels))

    def _along_first(self, values: Array) -> Array:
        """A ``(1,)`` or per-first-axis parameter as stored."""
        kind = self.node_type
        if values.size == 1 or is_image(kind) or len(kind.shape) == 1:
            return values.reshape(-1)
        return np.repeat(values.reshape(-1), kind.size // kind.shape[0])


def at(parameter: Stored | None, index: str, missing: str) -> str:
    """C expression of an entry of a parameter, or ``missing`` where there is none."""
    return missing if parameter is None else parameter.at(index)


def loop(count: int, parameters: Sequence[Stored | None], body: Callable[[str], str]) -> list[str]:
    """``body(c)`` for every ``i`` of ``count``, where ``c`` says which entry of the parameters element ``i`` uses."""
    period = max((parameter.count for parameter in parameters if parameter is not None), default=1)
    if period in (1, count):
        return [f"for (int i = 0; i < {count}; ++i) {body('i')}"]
    return [
        f"for (int o = 0; o < {count}; o += {period})",
        f"    for (int c = 0; c < {period}; ++c) {{",
        "        const int i = o + c;",
        f"        {body('c')}",
        "    }",
    ]


def coordinate(out: str, inside: str, op: ops.Conv2d | ops.Pool, axis: int) -> str:
    """C expression of a row or column of the image, from that of the result and that inside of the window."""
    start = out if op.stride[axis] == 1 else f"{out} * {op.stride[axis]}"
    return f"{start} + {inside} - {op.padding[axis]}" if op.padding[axis] else f"{start} + {inside}"


def as_stored(values: Array) -> Array:
    """An array of a tensor's shape in the order of the arena."""
    return values.transpose(1, 2, 0) if values.ndim == 3 else values


def pad_to(values: Array, extent: int, axis: int = -1) -> Array:
    """``values`` with zeros appended along ``axis`` up to ``extent``."""
    border = [(0, 0)] * values.ndim
    border[axis] = (0, extent - values.shape[axis])
    return np.pad(values, border)
