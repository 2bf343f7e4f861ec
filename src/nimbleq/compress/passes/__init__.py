"""Passes: one technique a file, ``(graph, context) → graph``. A new one is a file beside these, a line in `PASSES`."""

from nimbleq.compress.passes import (
    direct,
    distill,
    encode,
    fold,
    freeze_norms,
    hint,
    lowrank,
    prune,
    qat,
    quantize,
    sparsify,
    student,
    students,
)
from nimbleq.compress.passes.base import PassRow

PASSES: dict[str, PassRow] = {
    "fold": fold.ROW,
    "freeze-norms": freeze_norms.ROW,
    "prune": prune.ROW,
    "sparsify": sparsify.ROW,
    "lowrank": lowrank.ROW,
    "student": student.ROW,
    "students": students.ROW,
    "hint": hint.ROW,
    "distill": distill.ROW,
    "qat": qat.ROW,
    "direct": direct.ROW,
    "encode": encode.ROW,
    **quantize.ROWS,
}
"""Name on the command line → pass."""
