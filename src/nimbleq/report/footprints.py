"""What the policy takes of each processor: one row per target, as `nimbleq bench` measured it."""

from __future__ import annotations

from nimbleq.report import units
from nimbleq.report.html import paragraph, table
from nimbleq.report.markup import Markup, join
from nimbleq.report.read import Record, RunData

HEADINGS = ("target", "compiled by", "flash", "static RAM", "stack", "one decision", "energy, estimated")
WORDS = (
    "Flash is code, constants and starting values, with what the code needs of the compiler's library. An emulator "
    "counts instructions, which say nothing about time. Energy is an estimate, not measured: cycles, or instructions "
    "as one cycle each, times what a data sheet says of a cycle."
)


def footprint_table(data: RunData) -> Markup | None:
    """The table; None where nothing was measured."""
    rows = [_row(record) for record in data.bench.records("flash")]
    if not rows:
        return None
    return join(table(HEADINGS, rows, text_columns=2), paragraph(WORDS))


def _row(record: Record) -> tuple[str, ...]:
    text, data = record.number("text_bytes"), record.number("data_bytes")
    flash = None if text is None else text + (data or 0)
    spent, energy = record.number("instructions"), record.number("energy_nj")
    return (
        record.text("target") or units.MISSING,
        record.text("compiler") or units.MISSING,
        *(_bytes(value) for value in (flash, record.number("ram_bytes"), record.number("stack_bytes"))),
        units.MISSING if spent is None else f"{units.count(spent)} {record.text('unit') or ''}",
        units.MISSING if energy is None else f"{energy:,.3g} nJ",
    )


def _bytes(value: float | None) -> str:
    return units.MISSING if value is None else units.size(value)
