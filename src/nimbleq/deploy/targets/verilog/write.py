"""Verilog text of a pipeline: the module that people use, and the core in it, which also shows the values compared."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.targets.c.text import comment_safe
from nimbleq.deploy.targets.verilog.core import Core
from nimbleq.deploy.targets.verilog.pipeline import Pipeline
from nimbleq.graph.cost import cost
from nimbleq.version import VERSION


def action_bits(core: Core) -> int:
    """Width of the action."""
    return max(1, (core.policy.actions - 1).bit_length())


def value_bits(core: Core) -> int:
    """Width of one of the integers that are compared."""
    return core.value_type.bits


def ports(core: Core) -> list[str]:
    """Declarations of the ports of the policy, without commas."""
    read, graph = core.levels_type, core.policy
    return [
        "input wire clk",
        "input wire rst",
        "input wire in_valid",
        f"input wire [{read.size * read.qtype.bits - 1}:0] obs",
        *([f"input wire [{graph.actions - 1}:0] mask"] if graph.masked else []),
        "output wire in_ready",
        "output wire out_valid",
        f"output wire [{action_bits(core) - 1}:0] action",
    ]


def value_port(core: Core) -> str:
    """Declaration of the port of the integers that are compared."""
    return f"output wire [{core.policy.actions * value_bits(core) - 1}:0] values"


def policy_module(core: Core, name: str) -> str:
    """The module ``name``: the core, without the values, so that no logic is spent on them."""
    declared = ports(core)
    wiring = ",\n        ".join(f".{port}({port})" for port in (line.split()[-1] for line in declared))
    return (
        f"module {name} (\n    "
        + ",\n    ".join(declared)
        + f"\n);\n    {name}_core core (\n        {wiring},\n        .values()\n    );\nendmodule\n"
    )


def pipeline_module(core: Core, made: Pipeline, name: str) -> str:
    """The module ``NAME_core`` of a pipeline: a decision enters at every clock."""
    circuit, last = made.circuit, made.cycles
    outputs = (made.action, *made.values)
    until = circuit.needed(outputs, last)
    wires, registers, moves = [], [], []
    for signal in circuit.signals.values():
        if signal.name not in until or signal.constant:
            continue
        read = {operand: circuit.signals[operand].at(signal.stage) for operand in signal.operands}
        remark = f"  // {signal.remark}: {signal.low}..{signal.high}" if signal.remark else ""
        kind = f"signed [{signal.bits - 1}:0]"
        wires.append(f"wire {kind} {signal.name} = {signal.text.format(**read)};{remark}")
        for stage in range(signal.stage, until[signal.name]):
            registers.append(f"reg {kind} {signal.at(stage + 1)};")
            moves.append(f"{signal.at(stage + 1)} <= {signal.at(stage)};")
    wide = value_bits(core)
    ends = [f"wire signed [{wide - 1}:0] v_{i} = {circuit.signals[v].at(last)};" for i, v in enumerate(made.values)]
    joined = ", ".join(f"v_{i}" for i in reversed(range(len(made.values))))
    valid = f"{{valid[{last - 2}:0], in_valid}}" if last > 1 else "in_valid"
    body = [
        *registers,
        f"reg [{last - 1}:0] valid;",
        "",
        *wires,
        "",
        "always @(posedge clk) begin",
        f"    valid <= rst ? {last}'d0 : {valid};",
        *(f"    {move}" for move in moves),
        "end",
        "",
        f"wire signed [{action_bits(core)}:0] chosen = {circuit.signals[made.action].at(last)};",
        f"assign action = chosen[{action_bits(core) - 1}:0];",
        *ends,
        f"assign values = {{{joined}}};",
        f"assign out_valid = valid[{last - 1}];",
        "assign in_ready = 1'b1;",
    ]
    return module(f"{name}_core", [*ports(core), value_port(core)], body)


def module(name: str, declared: list[str], body: list[str]) -> str:
    """Text of a module."""
    lines = "\n".join(f"    {line}".rstrip() for line in body)
    return f"module {name} (\n    " + ",\n    ".join(declared) + f"\n);\n{lines}\nendmodule\n"


def title(core: Core, name: str, origin: str, cycles: int, interval: int) -> str:
    """Comment: what made the file, how it is used, and how an observation becomes what it reads."""
    graph, read, quantize = core.policy, core.levels_type, core.quantize
    total = cost(graph)
    number = f"{'signed' if read.qtype.low < 0 else 'unsigned'} {read.qtype.bits}-bit"
    lines = [
        f"{name}: a policy written by nimbleq {VERSION}; do not edit.",
        f"from: {comment_safe(origin) or 'a graph in memory'}",
        f"one decision: {total.macs} multiply-accumulates; {cycles} clocks; a new one every {interval} "
        + ("clock" if interval == 1 else "clocks"),
        "",
        f"obs: {read.size} {number} numbers, the first in the lowest bits"
        + (", each from a feature of the observation:" if quantize else ", as the environment gives them"),
    ]
    if quantize is not None:
        scales = np.broadcast_to(graph.weights[quantize.inverse_scale], read.size)
        zeros = np.broadcast_to(quantize.zero_points(graph.weights), read.size)
        low, high = int(read.qtype.low), int(read.qtype.high)
        for i, (scale, zero) in enumerate(zip(scales.tolist(), zeros.tolist(), strict=True)):
            lines.append(f"    {i}: clamp(floor(feature * {scale!r} + 0.5) + {zero}, {low}, {high})")
    if graph.masked:
        lines.append(f"mask: {graph.actions} bits, 1 where an action is legal; at least one is")
    lines += [
        "in_valid: obs is taken at a rising edge of clk where in_valid and in_ready are 1",
        "out_valid: 1 while action is the answer to the observation that entered so many clocks before",
        "rst: synchronous; forgets what is on its way",
    ]
    return "\n".join(f"// {line}".rstrip() for line in lines) + "\n`default_nettype none\n"
