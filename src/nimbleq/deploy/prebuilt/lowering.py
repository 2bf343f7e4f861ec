"""What the steps of a program are made from: `Lowering`, one step of the graph on its way to instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nimbleq.deploy.prebuilt.program import BYTES, F32, NOWHERE, OBS, Constants, Instruction, Size, type_of
from nimbleq.deploy.targets.c.layout import is_image
from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

EACH = ("count", "period", "type_x", "type_y", "zero_point", "low", "high", "function", "other", "atoms")
"""Fields of the C structure ``Each``, in order."""
_WIDE = 64
"""Parameters that repeat are written out until a loop over them is at least so long."""
_LONGEST = 4096


@dataclass
class Lowering:
    """One step: a function of `ops` reads it and adds instructions.

    Attributes:
        layer: the node and its epilogue, as the C target sees it.
        isa: whose kernels will run it.
        constants: of the program.
        index: of the step, for the names of its scratch.
        made: instructions so far.
        scratch: place → bytes.
    """

    layer: Layer
    isa: str
    constants: Constants
    index: int
    made: list[Instruction] = field(default_factory=list)
    scratch: dict[str, int] = field(default_factory=dict)

    @property
    def op(self) -> Any:
        """The op."""
        return self.layer.op

    @property
    def x(self) -> str:
        """Where its (first) source lies."""
        return self.place(self.layer.source)

    @property
    def y(self) -> str:
        """Where its result goes."""
        return self.place(self.layer.step.output)

    @property
    def type_x(self) -> int:
        """How its source is stored."""
        return type_of(self.layer.source_type)

    @property
    def type_y(self) -> int:
        """How its result is stored."""
        return type_of(self.kind(self.layer.step.output))

    def kind(self, tensor: str) -> TensorType:
        """Type of a tensor."""
        return self.layer.layout.graph.types[tensor]

    def place(self, tensor: str) -> str:
        """Where a tensor lies."""
        root = self.layer.layout.roots[tensor]
        return OBS if root == self.layer.layout.raw_obs else root

    def weight(self, name: str) -> Array:
        """Values of a weight."""
        return self.layer.weight(name)

    def add(
        self,
        op: str,
        x: str,
        y: str,
        sizes: Sequence[Size],
        reals: tuple[float, ...] = (),
        constants: Sequence[Array | None] = (),
    ) -> None:
        """Adds an instruction; arrays become constants."""
        offsets = tuple(None if values is None else self.constants.add(values) for values in constants)
        self.made.append(Instruction(op, x, y, tuple(sizes), reals, offsets))

    def each(
        self,
        op: str,
        type_y: int = F32,
        x: str = "",
        reals: tuple[float, ...] = (),
        constants: Sequence[Array | None] = (),
        **fields: Size,
    ) -> None:
        """Adds an instruction over every element of ``x`` (default: the source); ``fields`` are of `EACH`."""
        default: dict[str, Size] = {"count": self.layer.count, "period": 1, "type_x": self.type_x, "other": NOWHERE}
        given = {**default, "type_y": type_y, **fields}
        assert given.keys() <= set(EACH)
        self.add(op, x or self.x, self.y, [given.get(name, 0) for name in EACH], reals, constants)

    def buffer(self, count: int, kind: int) -> str:
        """A new place of this step."""
        name = f"\0{self.index}.{len(self.scratch)}"
        self.scratch[name] = count * BYTES[kind]
        return name

    def as_type(self, kind: int, offset: int = 0) -> str:
        """The source as another type, ``offset`` added; where it lies."""
        if self.type_x == kind and not offset:
            return self.x
        return self.copied(kind, offset)

    def copied(self, kind: int, offset: int = 0) -> str:
        """A copy of the source as ``kind``."""
        count = self.layer.source_type.size
        made = self.buffer(count, kind)
        self.add("convert", self.x, made, (count, self.type_x, kind, offset))
        return made

    def per_channel(self, *names: str | None, missing: Sequence[float] = ()) -> tuple[int, list[Array]]:
        """Parameters ``(1,)`` or per first axis, in the order of storage: their common period, and each so long.

        Args:
            names: weights; None: ``missing``.
        """
        kind, parts = self.layer.node_type, []
        for index, name in enumerate(names):
            values = np.full(1, missing[index]) if name is None else self.weight(name).reshape(-1)
            if values.size > 1 and not is_image(kind) and len(kind.shape) > 1:
                values = np.repeat(values, kind.size // kind.shape[0])
            parts.append(values)
        return periods(parts, kind.size)


def periods(parts: Sequence[Array], count: int) -> tuple[int, list[Array]]:
    """Arrays whose entries repeat over ``count`` elements, written out to one common period that divides it."""
    base = max(part.size for part in parts)
    longer = [base * k for k in range(1, _LONGEST // base + 1) if count % (base * k) == 0 and base * k >= _WIDE]
    period = min(longer, default=count if count <= _LONGEST else base)
    return period, [np.tile(part, period // part.size) for part in parts]
