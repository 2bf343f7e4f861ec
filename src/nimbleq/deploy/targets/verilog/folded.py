"""The integer core of a policy folded onto a few multipliers: layers that hand on one number per clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nimbleq.deploy.targets.verilog.core import TARGET, Core
from nimbleq.deploy.targets.verilog.rounding import Rounding, narrow
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph


@dataclass(frozen=True)
class Stage:
    """A Linear layer, with the Requantize that follows it.

    Attributes:
        name: of the tensor that it makes.
        rows, bias: its numbers.
        lanes: sums that are built at once, each with a multiplier of its own.
        source: lowest and highest number that it reads.
        sums: lowest and highest sum.
        rounding: of each output, all with one shift; None: the sums leave as they are.
    """

    name: str
    rows: tuple[tuple[int, ...], ...]
    bias: tuple[int, ...]
    lanes: int
    source: tuple[int, int]
    sums: tuple[int, int]
    rounding: tuple[Rounding, ...] | None

    @property
    def groups(self) -> int:
        """How often the lanes run."""
        return -(-len(self.rows) // self.lanes)

    @property
    def made(self) -> tuple[int, int]:
        """Lowest and highest number that leaves."""
        if self.rounding is None:
            return self.sums
        return min(r.low for r in self.rounding), max(r.high for r in self.rounding)


def stages(core: Core, reuse: int) -> tuple[Stage, ...]:
    """The layers of ``core``, each multiplier used about ``reuse`` times a decision.

    Raises:
        UnsupportedOpError: it is not a chain.
    """
    graph, found = core.policy, list[Stage]()
    tensor = core.levels
    bounds = int(core.levels_type.qtype.low), int(core.levels_type.qtype.high)
    for node in core.nodes:
        if node.inputs[0] != tensor:
            raise UnsupportedOpError(node.op.kind, TARGET, "branches cannot be folded: leave --verilog.reuse at 1")
        tensor = node.output
        match node.op:
            case ops.Linear():
                found.append(_stage(node.op, graph, node.output, bounds, reuse))
                bounds = found[-1].made
            case ops.Requantize() if found and found[-1].rounding is None:
                found[-1] = _with_rounding(found[-1], node.op, graph)
                bounds = found[-1].made
            case ops.ArgMax() | ops.Flatten() | ops.Unflatten():
                pass
            case _:
                raise UnsupportedOpError(
                    node.op.kind, TARGET, "only chains of layers can be folded: leave --verilog.reuse at 1"
                )
    return tuple(found)


def _stage(op: ops.Linear, graph: Graph, name: str, source: tuple[int, int], reuse: int) -> Stage:
    weight = graph.weights[op.weight]
    bias = [0] * len(weight) if op.bias is None else graph.weights[op.bias].tolist()
    rows = [list(map(int, row)) for row in weight.tolist()]
    lanes = min(len(rows), max(1, round(weight.size / reuse)))
    products = [[sorted((w * source[0], w * source[1])) for w in row] for row in rows]
    lowest = min(b + sum(low for low, _ in row) for row, b in zip(products, bias, strict=True))
    highest = max(b + sum(high for _, high in row) for row, b in zip(products, bias, strict=True))
    return Stage(name, tuple(map(tuple, rows)), tuple(bias), lanes, source, (lowest, highest), None)


def _with_rounding(stage: Stage, op: ops.Requantize, graph: Graph) -> Stage:
    factors, shifts = op.multipliers(graph.weights), graph.weights[op.shift]

    def of(channel: int, at_least: int) -> Rounding:
        factor, shift = int(factors[channel % factors.size]), int(shifts[channel % shifts.size])
        return narrow(factor, shift, op.zero_point, (op.low, op.high), stage.sums, at_least)

    channels = range(len(stage.rows))
    common = max(of(channel, 0).shift for channel in channels)
    rounding = tuple(_at_shift(of(channel, common), common) for channel in channels)
    return Stage(stage.name, stage.rows, stage.bias, stage.lanes, stage.source, stage.sums, rounding)


def _at_shift(how: Rounding, shift: int) -> Rounding:
    """The same with a larger shift."""
    by = shift - how.shift
    return Rounding(how.multiplier << by, how.offset << by, shift, how.low, how.high)


def cycles(chain: Sequence[Stage]) -> int:
    """Clocks from the observation to the action."""
    load = len(chain[0].rows[0])
    return load + sum(s.groups * (len(s.rows[0]) + 1) + len(s.rows) for s in chain) + len(chain) + 2


def width(low: int, high: int) -> int:
    """Bits of a signed number of this range."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
