"""A graph as a program: steps and layout as the C target plans them, instructions of `ops`, places in one arena."""

from __future__ import annotations

from nimbleq.deploy.prebuilt.lowering import Lowering
from nimbleq.deploy.prebuilt.ops import LOWERED
from nimbleq.deploy.prebuilt.program import BYTES, OBS, Constants, Instruction, Program, type_of
from nimbleq.deploy.targets.c.arena import place
from nimbleq.deploy.targets.c.layout import Layout
from nimbleq.deploy.targets.c.ops.avx2.store import stores_bytes
from nimbleq.deploy.targets.c.ops.layer import Layer
from nimbleq.deploy.targets.c.steps import Step, steps
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.tensor import FLOAT32, UINT8

NAME = "prebuilt"
_ALIGNMENT = 64
_SLACK = 64
"""Kernels read whole groups of inputs, a few bytes past the last tensor."""


def lower(graph: Graph, isa: str, binary: bool = False) -> bytes:
    """The program of a policy for the kernels of ``isa``.

    Args:
        graph: one float32 or uint8 observation in (and a mask, where it takes one), outputs ``q`` and ``action``.
        isa: one of `nimbleq.native._runtime.isas`.
        binary: whether the observation has only zeros and ones (or 255), so that the first layer passes zeros over.

    Raises:
        UnsupportedOpError: the engine does not do an op, or a number format.
    """
    if graph.obs_type.qtype not in (FLOAT32, UINT8):
        raise UnsupportedOpError(f"of a {graph.obs_type} observation", NAME, "use float32 or uint8 observations")
    layout, order, constants = Layout.of(graph, binary=binary), steps(graph, stores_bytes), Constants()
    if not layout.in_arena(Q):
        raise UnsupportedOpError("of action values that are the observation", NAME, "add a layer")
    lowered = [_lowered(layout, step, isa, constants, index) for index, step in enumerate(order)]
    lifetimes, sizes = _lifetimes(layout, order)
    for index, one in enumerate(lowered):
        lifetimes |= dict.fromkeys(one.scratch, (index, index))
        sizes |= one.scratch
    slots, arena_bytes = place(lifetimes, sizes, _ALIGNMENT)
    stages: dict[str, list[Instruction]] = {"both": _load(layout), "action": [], "q": []}
    for step, one in zip(order, lowered, strict=True):
        stages[step.stage] += one.made
    return Program(
        graph.obs_type, graph.actions, graph.masked, {name: slot.offset for name, slot in slots.items()},
        layout.roots[Q], arena_bytes + _SLACK, stages["both"], stages["action"], stages["q"], constants,
    ).to_bytes()  # fmt: skip


def _lowered(layout: Layout, step: Step, isa: str, constants: Constants, index: int) -> Lowering:
    op = step.node.op
    if type(op) not in LOWERED:
        raise UnsupportedOpError(op.kind, NAME, "rewrite the network without it or use another engine")
    made = Lowering(Layer(layout, step), isa, constants, index)
    LOWERED[type(op)](made)
    return made


def _load(layout: Layout) -> list[Instruction]:
    """Brings an image into the order of the arena."""
    if layout.raw_obs is not None:
        return []
    kind, name = layout.graph.obs_type, layout.graph.obs_name
    channels = kind.shape[0]
    return [Instruction("permute", OBS, name, (BYTES[type_of(kind)], 1, channels, kind.size // channels))]


def _lifetimes(layout: Layout, order: tuple[Step, ...]) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """First and last step, and bytes, of every tensor in the arena."""
    graph, lifetimes = layout.graph, dict[str, tuple[int, int]]()
    if layout.raw_obs is None:
        lifetimes[graph.obs_name] = (-1, -1)
    for index, step in enumerate(order):
        for name in (*step.node.inputs, step.output):
            if name != ACTION and layout.in_arena(name):
                root = layout.roots[name]
                lifetimes[root] = (lifetimes.get(root, (index, index))[0], index)
    lifetimes[layout.roots[Q]] = (lifetimes[layout.roots[Q]][0], len(order))
    return lifetimes, {root: graph.types[root].size * BYTES[type_of(graph.types[root])] for root in lifetimes}
