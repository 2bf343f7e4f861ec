"""What an op's code writer sees: the graph, the C names of tensors, and where constants and kernels are noted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nimbleq.deploy.targets.c import plan as c_plan
from nimbleq.deploy.targets.c import text as c_text
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array


@dataclass
class Writer:
    """Collects one file.

    Attributes:
        graph: what is being written.
        alignment: of everything in the arena, in bytes; above `c_plan.ALIGNMENT` constants have it too.
        variables: tensor → C expression of its buffer.
        free_flattens: see `c_plan.free_flattens`.
        sparse: tensors with exact zeros worth skipping (a ReLU made them).
        raw_obs: the observation when it stays ``(C, H, W)`` because nothing but Flatten reads it.
        constants: definitions of constant arrays, in order.
        kernels: kernel families used.
        scratch: bytes of scratch that the current step asked for.
        largest: elements of the largest constant.
    """

    graph: Graph
    alignment: int
    variables: dict[str, str]
    free_flattens: frozenset[str]
    sparse: frozenset[str]
    raw_obs: str | None
    constants: list[str] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)
    scratch: int = 0
    largest: int = 0

    def type(self, tensor: str) -> TensorType:
        """Type of a tensor."""
        return self.graph.types[tensor]

    def c_type(self, tensor: str) -> str:
        """C element type of a tensor."""
        return c_plan.c_type(self.type(tensor))

    def constant(self, label: str, values: Array) -> str:
        """Defines an array; returns its C name."""
        name = f"nq_{label}{len(self.constants)}"
        self.constants.append(c_text.array(name, values, aligned=self.alignment > c_plan.ALIGNMENT))
        self.largest = max(self.largest, values.size)
        return name

    def use(self, *kernels: str) -> None:
        """Includes kernel families."""
        self.kernels.update(kernels)

    def take_scratch(self, c_type: str, count: int) -> str:
        """C expression of ``count`` elements of scratch, alive during this step only."""
        offset = self.scratch
        size = np.dtype({"float": "float32"}.get(c_type, c_type.removesuffix("_t"))).itemsize * count
        self.scratch = -(-(offset + size) // self.alignment) * self.alignment
        return f"({c_type} *)(void *)(scratch + {offset})"

    def along_first(self, values: Array, tensor: str) -> tuple[Array, int]:
        """A ``(1,)`` or per-first-axis parameter as stored, and its period: element ``i`` uses entry ``i % period``."""
        kind = self.type(tensor)
        if values.size == 1:
            return values.reshape(1), 1
        if c_plan.is_image(kind) or len(kind.shape) == 1:
            return values.reshape(-1), values.size
        full = np.repeat(values.reshape(-1), kind.size // kind.shape[0])
        return full, full.size


def loop(count: int, period: int, body: str) -> list[str]:
    """``body`` for every ``i`` of ``count``, with ``c = i % period`` when the period is neither one nor all."""
    if period in (1, count):
        c = "0" if period == 1 else "i"
        return [f"for (int i = 0; i < {count}; ++i) {body.replace('[c]', f'[{c}]')}"]
    return [
        f"for (int o = 0; o < {count}; o += {period})",
        f"    for (int c = 0; c < {period}; ++c) {{",
        "        const int i = o + c;",
        f"        {body}",
        "    }",
    ]


def pad_to(values: Array, extent: int, axis: int = -1) -> Array:
    """``values`` with zeros appended along ``axis`` up to ``extent``."""
    border = [(0, 0)] * values.ndim
    border[axis] = (0, extent - values.shape[axis])
    return np.pad(values, border)
