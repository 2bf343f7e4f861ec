"""A self-checking testbench: integers and the interpreter's answers to them, for any simulator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from string import Template

import numpy as np

from nimbleq.deploy.targets.verilog.core import Core
from nimbleq.deploy.targets.verilog.write import action_bits
from nimbleq.deploy.toolchain import CompileError
from nimbleq.graph.golden import random_masks
from nimbleq.graph.graph import ACTION
from nimbleq.types import Array

VECTORS = 64
SECONDS = 300

_TEXT = Template("""// Feeds $name with $count observations and compares its actions; prints one line.
// iverilog -o tb $name.v ${name}_tb.v && vvp tb
// verilator --binary --top-module ${name}_tb $name.v ${name}_tb.v && obj_dir/V${name}_tb
`timescale 1ns / 1ps
module ${name}_tb;
    reg clk = 0, rst = 1, in_valid = 0;
    reg [$obs:0] obs;
$mask_register    wire in_ready, out_valid;
    wire [$action:0] action;
    reg [$obs:0] given [0:$last];
$masks    reg [$action:0] wanted [0:$last];
    integer fed = 0, seen = 0, wrong = 0, clocks = 0;
    $name policy (.clk(clk), .rst(rst), .in_valid(in_valid), .obs(obs), $mask_port.in_ready(in_ready),
        .out_valid(out_valid), .action(action));
    always #5 clk = !clk;
    initial begin
$vectors
    end
    always @(negedge clk) begin
        clocks <= clocks + 1;
        rst <= clocks < 2;
        in_valid <= 0;
        if (clocks > 3 && fed < $count && in_ready) begin
            obs <= given[fed];
$feed            in_valid <= 1;
            fed <= fed + 1;
        end
        if (out_valid && !rst) begin
            if (action !== wanted[seen]) wrong <= wrong + 1;
            seen <= seen + 1;
        end
        if (seen == $count) begin
            $$display("$name: %0d of $count actions differ", wrong);
            $$finish;
        end else if (clocks > $patience) begin
            $$display("$name: only %0d of $count answers came", seen);
            $$finish;
        end
    end
endmodule
""")


def testbench(core: Core, name: str, cycles: int) -> str:
    """Text of ``NAME_tb.v``: random integers and the ends of their range."""
    rng, read, graph = np.random.default_rng(0), core.levels_type, core.policy
    low, high, bits = int(read.qtype.low), int(read.qtype.high), read.qtype.bits
    levels = rng.integers(low, high + 1, (VECTORS, read.size))
    levels[0], levels[1] = low, high
    ends = rng.choice([low, high], (VECTORS // 8, read.size))
    levels[2 : 2 + len(ends)] = ends
    mask = random_masks(rng, VECTORS, graph) if graph.masked else None
    actions = core.answers_of(levels, mask)[ACTION]
    obs_bits, chosen = bits * read.size, action_bits(core)
    lines = []
    for i in range(VECTORS):
        lines.append(
            f"        given[{i}] = {obs_bits}'h{_joined(levels[i], bits):x}; wanted[{i}] = {chosen}'d{actions[i]};"
        )
        if mask is not None:
            lines.append(f"        legal[{i}] = {graph.actions}'h{_joined((mask[i] != 0).astype(int), 1):x};")
    masked = mask is not None
    return _TEXT.substitute(
        name=name, count=VECTORS, last=VECTORS - 1, obs=obs_bits - 1, action=chosen - 1, vectors="\n".join(lines),
        mask_register=f"    reg [{graph.actions - 1}:0] mask;\n" if masked else "",
        masks=f"    reg [{graph.actions - 1}:0] legal [0:{VECTORS - 1}];\n" if masked else "",
        mask_port=".mask(mask), " if masked else "", feed="            mask <= legal[fed];\n" if masked else "",
        patience=(cycles + 2) * (VECTORS + 8),
    )  # fmt: skip


def check_testbench(files: Mapping[str, bytes], name: str, folder: Path) -> None:
    """Run the testbench where Icarus Verilog is installed.

    Raises:
        CompileError: it finds a difference, or is refused.
    """
    if shutil.which("iverilog") is None:
        return
    for file in (f"{name}.v", f"{name}_tb.v"):
        (folder / file).write_bytes(files[file])
    build = ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "tb", f"{name}.v", f"{name}_tb.v"]
    for command in (build, ["vvp", "-n", "tb"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        said = (done.stdout + done.stderr).strip()
        if (
            done.returncode
            or (command[0] == "vvp" and f"0 of {VECTORS} actions differ" not in said)
            or "warning" in said
        ):
            raise CompileError(
                f"the testbench of the circuit {name} fails: {said.splitlines()[-1] if said else command[0]}"
            )


def _joined(numbers: Array, bits: int) -> int:
    return sum((int(number) & ((1 << bits) - 1)) << (bits * i) for i, number in enumerate(numbers))
