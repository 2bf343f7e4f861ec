"""The whole line over several seeds, and the picture of what compression tried.

Each row is one ``nimbleq run --json`` in a process of its own, training included. No run is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.process import nimbleq
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.report.picture import write_frontier_svg
from nimbleq.rundir import RunDir

SEEDS = (0, 1, 2)
ENVS = ("LunarLander-v3", "CartPole-v1")
HEADER = header(
    "environment", "seed", "training", "teacher's return", "small: size", "smaller", "fewer MACs", "kept (99 % asked)",
    "episodes", "decision in C", "whole line",
)  # fmt: skip


def measure(env: str, seed: int, context: Context) -> dict[str, Any]:
    """One run; the verb's JSON with the seconds it took. Exit status 1: the certificate was refused."""
    out = context.scratch / env / f"seed{seed}"
    words = ("run", "--env", env, "--preset", "wide", "--seed", str(seed), "--out", str(out))
    result = nimbleq(*words, *(("--steps", "1000") if context.quick else ()), accepted=(0, 1))
    result["seconds"] = result.pop("process_seconds")
    if seed == SEEDS[0]:
        write_frontier_svg(RunDir(out), context.results / f"frontier-{env}.svg")
    slimmed: dict[str, Any] = json.loads(json.dumps(slim(result)).replace(f"{context.scratch}/", "runs/"))
    return slimmed | {"seed": seed}


def row(_: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    train, small, certificate = result["train"], result["compress"], result["certify"]
    low = certificate["teacher_return_mean"] - certificate["random_return_mean"]
    kept = 1 + certificate["difference_lower95"] / low
    p50 = next(r["p50_us"] for r in result["bench"]["rows"] if (r["engine"], r["what"]) == ("nimbleq-c", "artefact"))
    cells = [
        train["env"], result["seed"], f"{train['train_seconds']:.1f} s", f"{train['return_mean']:.1f}",
        f"{small['size_bytes']:,} B", f"×{small['teacher_size_bytes'] / small['size_bytes']:.0f}",
        f"×{small['teacher_macs'] / small['macs']:.0f}",
        f"≥ {kept:.2%} {'certified' if certificate['certified'] else 'REFUSED'}", certificate["episodes"],
        f"{p50 * 1000:.0f} ns", f"{result['seconds']:.0f} s",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Percentiles in place of histograms."""
    if "bench" not in result:
        return result
    rows = [{key: value for key, value in r.items() if key != "histogram"} for r in result["bench"]["rows"]]
    return result | {"bench": result["bench"] | {"rows": rows}}


def short_table(record: Record, names: Sequence[str]) -> str:
    """The README's."""
    return "\n".join([HEADER, *record.rows(names, row, 11)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return f"{short_table(record, names)}\n\n{record.footnote()}\n"


def cells(seeds: Sequence[int]) -> list[Cell]:
    """Environments one after the other."""
    return [Cell(f"{env} seed{seed}", partial(measure, env, seed), 200) for env in ENVS for seed in seeds]


def readme(record: Record) -> str:
    """The README's table: the seeds of the committed one."""
    return short_table(record, [cell.name for cell in cells(SEEDS)])


CASE = Case("line", cells, table, SEEDS, readme=readme)
