"""Which loops there are, in which order, and which entry points need them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, NEXT_STATE, Graph, Node, Q

Stage = Literal["both", "action", "q"]
Fuses = Callable[[Graph, ops.Requantize], bool]


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


def steps(graph: Graph, fuses: Fuses) -> tuple[Step, ...]:
    """Nodes that the outputs need, epilogues fused, in order: first what both entry points need.

    Args:
        fuses: which requantizations a layer can do itself.
    """
    for_q, for_action = _needed(graph, Q), _needed(graph, ACTION)
    if graph.units:
        for_action |= _needed(graph, NEXT_STATE)
    made: list[Step] = []
    fused: set[str] = set()
    for node in graph.nodes:
        if node.output in fused or node.output not in for_q | for_action:
            continue
        epilogue = _epilogue(graph, node, fuses)
        if epilogue is not None:
            fused.add(epilogue.output)
        result = (epilogue or node).output
        stage: Stage = "both" if result in for_q & for_action else "q" if result in for_q else "action"
        made.append(Step(node, epilogue, stage))
    return tuple(step for stage in ("both", "action", "q") for step in made if step.stage == stage)


def _needed(graph: Graph, output: str) -> set[str]:
    needed = {output}
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    return needed


def _epilogue(graph: Graph, node: Node, fuses: Fuses) -> Node | None:
    """The only reader of a Linear or Conv2d, when it can be done on the accumulators."""
    readers = graph.consumers(node.output)
    if not isinstance(node.op, ops.Linear | ops.Conv2d) or len(readers) != 1 or node.output in graph.outputs:
        return None
    (reader,) = readers
    if isinstance(reader.op, ops.Activation):
        return reader
    if isinstance(reader.op, ops.Requantize) and fuses(graph, reader.op):
        return reader
    return None
