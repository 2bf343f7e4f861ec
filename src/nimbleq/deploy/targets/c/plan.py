"""What is decided before any C is written: fused steps, tensor layouts, who needs what, and places in the arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import Float32, TensorType

ALIGNMENT = 8
"""Bytes that the widest element needs."""
Stage = Literal["both", "action", "q"]


@dataclass(frozen=True)
class Step:
    """One or two nodes that become one loop.

    Attributes:
        node: the op.
        epilogue: an Activation or Requantize applied to its result before that is stored, or None.
        stage: which entry points need it.
    """

    node: Node
    epilogue: Node | None
    stage: Stage

    @property
    def output(self) -> str:
        """The tensor that the step makes."""
        return (self.epilogue or self.node).output


def steps(graph: Graph) -> tuple[Step, ...]:
    """Nodes that the outputs need, in order, epilogues fused."""
    for_q, for_action = _needed(graph, Q), _needed(graph, ACTION)
    made: list[Step] = []
    fused: set[str] = set()
    for node in graph.nodes:
        if node.output in fused or node.output not in for_q | for_action:
            continue
        epilogue = _epilogue(graph, node)
        if epilogue is not None:
            fused.add(epilogue.output)
        result = (epilogue or node).output
        stage: Stage = "both" if result in for_q & for_action else "q" if result in for_q else "action"
        made.append(Step(node, epilogue, stage))
    return tuple(made)


def _needed(graph: Graph, output: str) -> set[str]:
    needed = {output}
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    return needed


def _epilogue(graph: Graph, node: Node) -> Node | None:
    """The only reader of a Linear or Conv2d, when it can be done on the accumulators."""
    readers = graph.consumers(node.output)
    if not isinstance(node.op, ops.Linear | ops.Conv2d) or len(readers) != 1 or node.output in graph.outputs:
        return None
    (reader,) = readers
    if isinstance(reader.op, ops.Activation):
        return reader
    if isinstance(reader.op, ops.Requantize) and reader.op.bits <= 8 and graph.weights[reader.op.shift].min() >= 31:
        return reader
    return None


def c_type(kind: TensorType) -> str:
    """Element type in C.

    Raises:
        UnsupportedOpError: an unsigned integer of more than 31 bits.
    """
    if isinstance(kind.qtype, Float32):
        return "float"
    bits, signed = kind.qtype.bits, kind.qtype.signed
    if bits > 31 and not signed:
        raise UnsupportedOpError(f"of a {kind}", "c", "use at most 31 bits for unsigned integers")
    width = 8 if bits <= 8 else 16 if bits <= 16 else 32
    return f"{'int' if signed else 'uint'}{width}_t"


def element_bytes(kind: TensorType) -> int:
    """Bytes of one element in C."""
    return {"float": 4, "int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2}.get(c_type(kind), 4)


def is_image(kind: TensorType) -> bool:
    """True for ``(C, H, W)``, which is kept as ``(H, W, C)`` in the arena."""
    return len(kind.shape) == 3


def permutes(kind: TensorType) -> bool:
    """True when ``(C, H, W)`` and ``(H, W, C)`` order the elements differently."""
    return is_image(kind) and kind.shape[0] > 1 and kind.shape[1] * kind.shape[2] > 1


def free_flattens(graph: Graph) -> frozenset[str]:
    """Flatten outputs that only Linear ops read: these permute their weights, so flattening costs nothing."""
    return frozenset(
        node.output
        for node in graph.nodes
        if isinstance(node.op, ops.Flatten)
        and node.output not in graph.outputs
        and all(isinstance(reader.op, ops.Linear) for reader in graph.consumers(node.output))
    )


@dataclass(frozen=True)
class Slot:
    """A piece of the arena, in bytes."""

    offset: int
    size: int


def place(
    lifetimes: Mapping[str, tuple[int, int]], sizes: Mapping[str, int], alignment: int
) -> tuple[dict[str, Slot], int]:
    """First fit, largest first: tensors alive at the same step never overlap.

    Args:
        lifetimes: name → first and last step, both inclusive.
        sizes: name → bytes.
        alignment: of every slot, in bytes.

    Returns:
        Slots by name, and the size of the arena.
    """
    placed: dict[str, Slot] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        size = -(-max(sizes[name], 1) // alignment) * alignment
        others = sorted((placed[other] for other in placed if _meet(lifetimes[name], lifetimes[other])), key=_offset)
        offset = 0
        for slot in others:
            if offset + size <= slot.offset:
                break
            offset = max(offset, slot.offset + slot.size)
        placed[name] = Slot(offset, size)
    return placed, max((slot.offset + slot.size for slot in placed.values()), default=0)


def _meet(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _offset(slot: Slot) -> int:
    return slot.offset
