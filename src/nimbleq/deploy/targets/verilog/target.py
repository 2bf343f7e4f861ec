"""The row of Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nimbleq.deploy.target import Files, Run, Source, Target
from nimbleq.deploy.targets.verilog.core import core_of
from nimbleq.deploy.targets.verilog.folded import cycles as folded_cycles
from nimbleq.deploy.targets.verilog.folded import stages
from nimbleq.deploy.targets.verilog.folded_text import folded_modules
from nimbleq.deploy.targets.verilog.pipeline import pipeline
from nimbleq.deploy.targets.verilog.simulate import cannot_simulate, simulate
from nimbleq.deploy.targets.verilog.testbench import check_testbench, testbench
from nimbleq.deploy.targets.verilog.write import pipeline_module, policy_module, title
from nimbleq.errors import ConfigError


@dataclass(frozen=True)
class VerilogOptions:
    """How circuits are written.

    Attributes:
        levels: of logic between two registers of the pipeline: an addition is one, a comparison with its choice two.
        reuse: products that one multiplier makes for a decision; 1: no multipliers, all constants are adders, and a
            decision enters at every clock.
    """

    levels: int = 3
    reuse: int = 1

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ConfigError(f"--verilog.levels is at least 2, not {self.levels}")
        if self.reuse < 1:
            raise ConfigError(f"--verilog.reuse is at least 1, not {self.reuse}")


def _emit(source: Source, name: str, options: VerilogOptions) -> Files:
    core = core_of(source.graph)
    if options.reuse == 1:
        made = pipeline(core, options.levels)
        text, cycles, interval = pipeline_module(core, made, name), made.cycles, 1
    else:
        chain = stages(core, options.reuse)
        text = folded_modules(core, chain, name)
        cycles = interval = folded_cycles(chain)
    head = title(core, name, source.origin, cycles, interval)
    return {
        f"{name}.v": "\n".join([head, text, policy_module(core, name)]).encode(),
        f"{name}_tb.v": testbench(core, name, cycles).encode(),
    }


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    core = core_of(source.graph)
    check_testbench(files, name, folder)
    return {"verilog (verilator)": simulate(core, files, name, folder)}


VERILOG = Target(
    name="verilog",
    purpose="a circuit for FPGAs",
    options=VerilogOptions,
    emit=_emit,
    open=_open,
    exact=True,
    timed=False,
    cannot_open=cannot_simulate,
)
