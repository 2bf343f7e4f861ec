"""The integer core of a policy as a pipeline: a decision enters and one leaves at every clock."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.deploy.targets.verilog.circuit import Circuit
from nimbleq.deploy.targets.verilog.core import Core
from nimbleq.deploy.targets.verilog.rounding import narrow
from nimbleq.deploy.targets.verilog.trees import tree
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Node


@dataclass(frozen=True)
class Pipeline:
    """Attributes:
    circuit: all signals.
    action: the signal of the answer.
    values: the signals of the integers that are compared.
    """

    circuit: Circuit
    action: str
    values: tuple[str, ...]

    @property
    def cycles(self) -> int:
        """Clocks from the observation to the action."""
        return self.circuit.after((self.action,))


def pipeline(core: Core, levels: int) -> Pipeline:
    """All layers side by side, with a register after every ``levels`` levels of logic."""
    graph, circuit = core.policy, Circuit(levels)
    read = core.levels_type
    bits = read.qtype.bits
    start = [f"x_{i}" for i in range(read.size)]
    low, high = int(read.qtype.low), int(read.qtype.high)
    for i, name in enumerate(start):
        part = f"obs[{bits * i} +: {bits}]"
        circuit.input(name, part if low < 0 else f"{{{{1'b0, {part}}}}}", low, high)
    made: dict[str, list[str]] = {core.levels: start}
    best: dict[str, str] = {}  # by tensor: its largest, where the layer that makes it knows
    if graph.masked:
        made[MASK] = [circuit.input(f"m_{i}", f"{{{{1'b0, mask[{i}]}}}}", 0, 1) for i in range(graph.actions)]
    for node in core.nodes:
        if isinstance(node.op, ops.ObliqueTree | ops.AxisTree):
            made[node.output], best[node.output] = tree(node.op, graph, circuit, made[node.inputs[0]], node.output)
        elif isinstance(node.op, ops.ArgMax) and not graph.masked and node.inputs[0] in best:
            made[node.output] = [best[node.inputs[0]]]
        else:
            made[node.output] = _signals(node, graph, circuit, made)
    return Pipeline(circuit, made[ACTION][0], tuple(made[core.values]))


def _signals(node: Node, graph: Graph, circuit: Circuit, made: dict[str, list[str]]) -> list[str]:
    """Signals of the tensor that ``node`` makes, in C order."""
    source = made[node.inputs[0]]
    match node.op:
        case ops.Linear():
            weight = graph.weights[node.op.weight]
            bias = [0] * len(weight) if node.op.bias is None else graph.weights[node.op.bias].tolist()
            return circuit.linear(weight.tolist(), source, bias, node.output)
        case ops.Requantize():
            multipliers, shifts = node.op.multipliers(graph.weights), graph.weights[node.op.shift]
            rounded = []
            for i, name in enumerate(source):
                sums = circuit.signals[name].low, circuit.signals[name].high
                factor, shift = int(multipliers[i % multipliers.size]), int(shifts[i % shifts.size])
                how = narrow(factor, shift, node.op.zero_point, (node.op.low, node.op.high), sums)
                rounded.append(circuit.rounded(name, how, f"{node.output}[{i}]"))
            return rounded
        case ops.ArgMax():
            return [circuit.largest(source, made[node.inputs[1]] if len(node.inputs) > 1 else ())]
        case ops.Slice():
            return source[node.op.start : node.op.stop]
        case ops.Concat():
            return [name for part in node.inputs for name in made[part]]
        case _:
            return source
