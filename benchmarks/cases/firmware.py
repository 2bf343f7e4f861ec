"""What policies take of microcontrollers: flash and RAM by the compiler's ``size``, stack and instructions by running.

The smallest certified policies, each on several processors, and a network of bytes with and without the instructions
that some processors have for products of bytes. Floors on a Cortex-M4 at -Os, code and mark included: CartPole's policy
250 bytes of flash; LunarLander's 600, and 128 of RAM and stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases import fpga
from benchmarks.cases.decide import observations
from benchmarks.networks import int_mlp
from benchmarks.record import ROOT, Record
from benchmarks.tables import header
from nimbleq.deploy.targets.cross.processor import Processor
from nimbleq.deploy.targets.cross.processors import PROCESSORS
from nimbleq.deploy.targets.cross.row import row as row_of
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph

BOARDS = ("cortex-m4", "cortex-m7", "cortex-m55", "avr")
BY_BYTES = "4-64-64-2 int8"
Known = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Policy:
    """A row of `POLICIES`.

    Attributes:
        make: cells so far → the policy.
        most_flash, most_memory: bytes on a Cortex-M4: flash; static RAM and stack.
    """

    make: Callable[[Any], Graph]
    most_flash: int | None = None
    most_memory: int | None = None


def zoo(_: Known) -> Graph:
    """CartPole's certified policy of the zoo."""
    return load_artefact(ROOT / "zoo" / "cartpole" / "artefacts" / "small").graph


def lander(_: Known) -> Graph:
    """LunarLander's certified policy, which the case fpga has made."""
    return fpga.certified(Record(ROOT / "benchmarks" / "results" / "fpga.json").cells)


POLICIES = {
    "CartPole-v1, certified (zoo)": Policy(zoo, 250, 128),
    "LunarLander-v3, certified": Policy(lander, 600, 128),
    BY_BYTES: Policy(lambda _: int_mlp(4, 64, 64, 2)),
}


def processors() -> dict[str, Processor]:
    """Name → processor; those with products of bytes once more without."""
    known = {one.name: one for one in PROCESSORS}
    arm = known["aarch64"]
    return {
        **{name: known[name] for name in BOARDS},
        "cortex-m4, plain C": replace(known["cortex-m4"], dots=()),
        "aarch64, sdot": replace(arm, flags=(*arm.flags, *arm.compiler.more[0])),
        "aarch64, plain C": replace(arm, flags=(*arm.flags, *arm.compiler.more[0]), dots=()),
    }


def measure(policy: str, processor: str, context: Context) -> dict[str, Any]:
    """One policy on one processor."""
    graph, chosen = POLICIES[policy].make(context.known), processors()[processor]
    if why := chosen.lacks():
        raise CellError(why)
    footprint = row_of(chosen).footprint
    assert footprint is not None
    total = cost(graph)
    return vars(footprint(graph, None, observations(graph), context.scratch)) | {
        "bytes": total.size_bytes, "macs": total.macs, "policy": policy, "processor": processor,
    }  # fmt: skip


def cells() -> dict[str, tuple[str, str]]:
    """Name of the cell → policy and processor."""
    pairs = [(policy, board) for policy in POLICIES for board in BOARDS]
    pairs += [(BY_BYTES, name) for name in processors() if name not in BOARDS]
    return {f"{policy}; {processor}": (policy, processor) for policy, processor in pairs}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""

    def row(name: str, cell: dict[str, Any]) -> str:
        flash = cell["text_bytes"] + cell["data_bytes"]
        stack = "–" if cell["stack_bytes"] is None else cell["stack_bytes"]
        spent = "–" if cell["instructions"] is None else f"{cell['instructions']:,} {cell['unit']}"
        shown = (cell["policy"], cell["bytes"], cell["macs"], cell["processor"], flash, cell["ram_bytes"], stack, spent)
        return f"| {' | '.join(map(str, shown))} |"

    return "\n".join([
        "# Firmware", "",
        "Flash: code, constants, the mark of the artefact and starting values; one decision. Instructions say nothing "
        f"about time. {record.footnote()}", "",
        header("policy", "bytes", "MACs", "processor", "flash", "static RAM", "stack", "a decision"),
        *record.rows(names, row, 8), "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """Policies above their floor on a Cortex-M4."""
    lines = []
    for name, (policy, processor) in cells().items():
        floor = POLICIES[policy]
        if processor != "cortex-m4" or floor.most_flash is None or not record.finished(name):
            continue
        cell = record.cells[name]
        flash, memory = cell["text_bytes"] + cell["data_bytes"], cell["ram_bytes"] + (cell["stack_bytes"] or 0)
        if flash > floor.most_flash:
            lines.append(f"{name}: {flash} bytes of flash, more than {floor.most_flash}")
        if floor.most_memory is not None and memory > floor.most_memory:
            lines.append(f"{name}: {memory} bytes of RAM and stack, more than {floor.most_memory}")
    return lines


CASE = Case(
    "firmware",
    cells=lambda _: [Cell(name, partial(measure, *which), 5) for name, which in cells().items()],
    table=table,
    missed=missed,
)
