"""The first pass: what the C of a policy will consist of, for one instruction set, before any text is put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nimbleq.deploy.targets.c.arena import Slot, place
from nimbleq.deploy.targets.c.isa import Isa
from nimbleq.deploy.targets.c.layout import BYTES, Layout, c_type
from nimbleq.deploy.targets.c.ops.layer import Buffer, Code, Constant, Layer
from nimbleq.deploy.targets.c.steps import Stage, Step, steps
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.graph import ACTION, NEXT_STATE, Graph, Q


@dataclass(frozen=True, eq=False)
class Block:
    """One step: its code, and where each of its scratch variables begins in the arena, in bytes."""

    step: Step
    code: Code
    scratch: tuple[tuple[Buffer, int], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Attributes:
    isa: what it is for.
    layout: variables of the tensors.
    blocks: in execution order.
    slots: tensor (its root) → its place in the arena.
    arena_bytes: size of the arena; it is on the stack where `Isa.stack_bytes` allows, else static.
    """

    isa: Isa
    layout: Layout
    blocks: tuple[Block, ...]
    slots: Mapping[str, Slot]
    arena_bytes: int

    @property
    def graph(self) -> Graph:
        """The policy."""
        return self.layout.graph

    @property
    def on_stack(self) -> bool:
        """Whether the arena is on the stack."""
        return self.arena_bytes <= self.isa.stack_bytes

    @property
    def constants(self) -> tuple[Constant, ...]:
        """In order of use."""
        return tuple(constant for block in self.blocks for constant in block.code.constants)

    @property
    def constant_bytes(self) -> int:
        """Size of all constants, padding for vectors included."""
        return sum(constant.values.nbytes for constant in self.constants)

    @property
    def largest_index(self) -> int:
        """What an ``int`` has to count to."""
        tensors = (kind.size for kind in self.graph.types.values())
        return max(
            self.arena_bytes, self.graph.choices, *(constant.values.size for constant in self.constants), *tensors
        )

    def of(self, stage: Stage) -> tuple[Block, ...]:
        """The blocks of one stage that do something."""
        return tuple(block for block in self.blocks if block.step.stage == stage and block.code.lines)


def plan(graph: Graph, isa: Isa, skips: bool = True, binary: bool = False) -> Plan:
    """Steps, their code, and places for tensors and scratch.

    Args:
        skips: whether zeros are passed over where that is faster.
        binary: whether the observation has only zeros and ones (or 255).

    Raises:
        UnsupportedOpError: an op or number format has no C form.
    """
    layout, order = Layout.of(graph, skips, isa.words(graph), isa.unpacked, binary), steps(graph, isa.fuses)
    codes = [_code(layout, isa, step) for step in order]
    lifetimes, sizes = _tensors(layout, isa, order)
    for index, code in enumerate(codes):
        if code.scratch:
            lifetimes[_scratch(index)] = (index, index)
            sizes[_scratch(index)] = sum(_aligned(buffer, isa) for buffer in code.scratch)
    slots, arena_bytes = place(lifetimes, sizes, isa.alignment)
    blocks = []
    for index, (step, code) in enumerate(zip(order, codes, strict=True)):
        placed, offset = [], slots[_scratch(index)].offset if code.scratch else 0
        for buffer in code.scratch:
            placed.append((buffer, offset))
            offset += _aligned(buffer, isa)
        blocks.append(Block(step, code, tuple(placed)))
    return Plan(isa, layout, tuple(blocks), slots, arena_bytes)


def _code(layout: Layout, isa: Isa, step: Step) -> Code:
    op = step.node.op
    if type(op) not in isa.ops:
        raise UnsupportedOpError(op.kind, "c", "rewrite the network without it or use another target")
    layer = Layer(layout, step)
    return layer.code(isa.ops[type(op)](layer))


def _scratch(index: int) -> str:
    """What the scratch of a step is called among the slots; no tensor is called so."""
    return f"\0scratch {index}"


def _aligned(buffer: Buffer, isa: Isa) -> int:
    return -(-buffer.count * BYTES[buffer.c_type] // isa.alignment) * isa.alignment


def _tensors(layout: Layout, isa: Isa, order: tuple[Step, ...]) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """First and last step, and bytes, of every tensor in the arena."""
    graph = layout.graph
    lifetimes: dict[str, tuple[int, int]] = {}
    sizes: dict[str, int] = {}
    if layout.raw_obs is None:
        lifetimes[graph.obs_name] = (-1, -1)
        sizes[graph.obs_name] = graph.obs_type.size * BYTES[c_type(graph.obs_type)]
    for index, step in enumerate(order):
        for name in (*step.node.inputs, step.output):
            if name == ACTION or not layout.in_arena(name):
                continue
            root = layout.roots[name]
            lifetimes[root] = (lifetimes.get(root, (index, index))[0], index)
            count = -(-graph.types[root].size // isa.lanes) * isa.lanes
            sizes[root] = count * BYTES[layout.element(root)]
    for result in (Q, *([NEXT_STATE] if graph.units else [])):  # read when all steps are done
        if layout.roots[result] in lifetimes:
            lifetimes[layout.roots[result]] = (lifetimes[layout.roots[result]][0], len(order))
    return lifetimes, sizes
