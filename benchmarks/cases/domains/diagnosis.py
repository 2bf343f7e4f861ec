"""Diagnosis with costly tests (``examples/diagnosis.py``): every patient is unseen once, in five folds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, into_docs, size_of, trained
from benchmarks.record import Record
from benchmarks.statistics import Share
from benchmarks.tables import header
from examples import diagnosis
from nimbleq.deploy.runtime import Runtime

COSTS = (0.002, 0.01, 0.03)
STEPS = 150_000
LOGISTIC = "logistic regression, all tests"
HEADER = header("who decides", "right of 569 (95 % interval)", "tests ordered", "largest small policy", "certified")


def logistic(context: Context) -> dict[str, Any]:
    """The baseline, in the same folds."""
    right = [diagnosis.logistic_regression(fold) for fold in range(diagnosis.FOLDS)]
    return {"right": int(np.concatenate(right).sum()), "count": sum(map(len, right)), "tests": diagnosis.TESTS}


def measure(cost: float, context: Context) -> dict[str, Any]:
    """One policy a fold, the small one, on the patients that it has not seen."""
    right, tests, sizes, certified = [], [], [], 0
    for fold in range(diagnosis.FOLDS):
        name, steps = (f"quick-clinic{fold}", 2_000) if context.quick else (f"clinic-{cost:g}-fold{fold}", STEPS)
        run, _ = trained(name, *diagnosis.TRAIN, "--env-kwargs", f"fold={fold}", f"cost={cost}", "--steps", steps)
        made = compressed(run, "--keep", 0.95, "--recipe", "distill")
        met = diagnosis.diagnosed(Runtime(made["artefact"]).act, fold)
        right.append(met.right)
        tests.append(met.tests)
        sizes.append(size_of(Path(made["artefact"]))["size_bytes"])
        certified += made["certified"]
    every = np.concatenate(right)
    return {
        "cost": cost, "right": int(every.sum()), "count": len(every), "tests": float(np.concatenate(tests).mean()),
        "size_bytes": max(sizes), "certified": certified,
    }  # fmt: skip


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The baseline, then a cell a price."""
    policies = [Cell(f"policy, a test costs {cost:g}", partial(measure, cost), 150) for cost in COSTS]
    return [Cell(LOGISTIC, logistic, 2), *policies]


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    share = f"{Share(cell['right'], cell['count'])}"
    size = f"{cell['size_bytes']:,} B" if "size_bytes" in cell else ""
    certified = f"{cell['certified']} of {diagnosis.FOLDS}" if "certified" in cell else ""
    return f"| {name} | {share} | {cell['tests']:.1f} of {diagnosis.TESTS} | {size} | {certified} |"


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table alone."""
    return "\n".join([HEADER, *record.rows(names or CASE.names(record), row, 5)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short(record, names)}\n\n{record.footnote()}\n"


CASE = Case("diagnosis", cells, table, draw=into_docs("diagnosis", "medicine", short))
