"""Treating sepsis (``examples/medicine.py``): survival computed over all states, beside clinicians and the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import into_docs, size_of, trained
from benchmarks.record import Record
from benchmarks.tables import header
from examples import medicine

FLOOR = 0.865
STEPS = 1_280_000
BOUNDS = ("uniform over admissible actions", "clinicians", "optimum")
HEADER = header("policy", "survival, exact", "kept", "size", "MACs", "training")


def bounds(context: Context) -> dict[str, Any]:
    """What nobody has to learn."""
    ward = medicine.Ward()
    known = (ward.uniform, ward.clinicians, ward.optimum())
    return {"survival": {name: ward.survival(choice) for name, choice in zip(BOUNDS, known, strict=True)}}


def measure(seed: int, context: Context) -> dict[str, Any]:
    """One teacher, its smallest policy, and what both are worth as they run."""
    name, steps = (f"quick-sepsis{seed}", 20_000) if context.quick else (f"sepsis-seed{seed}", STEPS)
    run, said = trained(name, *medicine.TRAIN, "--steps", steps, "--seed", seed)
    ward = medicine.Ward()
    medicine.compress(run.path, ward)
    exact = medicine.judged(run.path, ward)
    small, teacher = size_of(run.artefact("small")), size_of(run.teacher)
    return {
        "survival": exact["returns"],
        "kept": exact["kept"],
        "seed": seed,
        "small": small,
        "teacher_size": teacher,
        "train_seconds": said["train_seconds"],
    }


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The bounds, then a cell a seed."""
    return [Cell("bounds", bounds, 5), *(Cell(f"seed{seed}", partial(measure, seed), 200) for seed in seeds)]


def row(name: str, cell: dict[str, Any]) -> str:
    """Two lines of the table for a seed; one for each bound."""
    if name == "bounds":
        return "\n".join(f"| {policy} | {value:.4f} | | | | |" for policy, value in cell["survival"].items())
    survival, lines = cell["survival"], []
    for which, kept, spent, seconds in (
        ("teacher", "", cell["teacher_size"], f"{cell['train_seconds']:.0f} s"),
        ("small", f"{cell['kept']:.1%}", cell["small"], ""),
    ):
        lines.append(
            f"| {which}, {name} | {survival[which]:.4f} | {kept} | {spent['size_bytes']:,} B | {spent['macs']:,} "
            f"| {seconds} |"
        )
    return "\n".join(lines)


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table alone."""
    return "\n".join([HEADER, *record.rows(names or CASE.names(record), row, 6)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record, names)}\n\n{record.footnote()}\n"


def missed(record: Record) -> list[str]:
    """Policies below the floor."""
    found = ((name, record.cells[name]["survival"]) for name in record.cells if record.finished(name))
    return [
        f"{which} of {name}: survival {survival[which]:.4f}, floor {FLOOR}"
        for name, survival in found
        for which in ("teacher", "small")
        if survival.get(which, 1.0) < FLOOR
    ]


CASE = Case("sepsis", cells, table, (0, 1, 2), draw=into_docs("sepsis", "medicine", short), missed=missed)
