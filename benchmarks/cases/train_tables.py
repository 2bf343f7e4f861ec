"""Tables of `benchmarks.cases.train`: cells → statistics and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf, isfinite
from typing import Any

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.peers.tasks import TASKS
from benchmarks.statistics import finite, interval95, mean, median, ratio, summary
from benchmarks.tables import header, interval, number, quotient_text, reached

Results = Mapping[str, dict[str, Any]]
ENVS = {"cartpole": "CartPole-v1", "lunarlander": "LunarLander-v3"}
"""Parts that train to a score."""
NAMES = {
    **{name: peer.title for name, peer in PEERS.items()},
    "cleanrl": "CleanRL's recipe in PyTorch",
    "nimbleq": "nimbleq",
    "envpool": "nimbleq, stepping envpool",
}


def by_seed(results: Results, part: str, name: str) -> dict[int, dict[str, Any]]:
    """Cells of a trainer, in the order of their seeds."""
    start = f"{part}-{name}-"
    found = {int(label.removeprefix(start)): cell for label, cell in results.items() if label.startswith(start)}
    return dict(sorted(found.items()))


def of(results: Results, part: str, name: str) -> list[dict[str, Any]]:
    """Cells of a trainer, by seed."""
    return list(by_seed(results, part, name).values())


def pairs_of(results: Results, part: str, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """``(theirs, ours)`` of each seed that both have."""
    theirs, ours = by_seed(results, part, name), by_seed(results, part, "nimbleq")
    return [(theirs[seed], ours[seed]) for seed in theirs if seed in ours]


def seconds_to(score: float, cell: dict[str, Any]) -> float:
    """Training seconds until ``score``; infinite when it was not reached, or when the process failed."""
    if "error" in cell:
        return inf
    if "reached" in cell:  # a peer, judged by its checks
        return float(cell["seconds"]) if cell["reached"] else inf
    return float(cell["train_seconds"]) if cell["return_mean"] >= score else inf


def spent(cell: dict[str, Any]) -> float:
    """Training seconds, whatever they led to (not a number when the process failed)."""
    return float(cell.get("seconds", cell.get("train_seconds", np.nan)))


def score_summary(results: Results, part: str) -> dict[str, Any]:
    """Time to score of each trainer, and ratios of pairs to nimbleq.

    A peer that did not reach the score enters the ratio with the time it spent, which makes the ratio a lower bound
    (``bound``); if nimbleq did not, the pair's ratio is 0.
    """
    score, found = TASKS[ENVS[part]].score, dict[str, dict[str, Any]]()
    for name in (*PEERS, "nimbleq", "envpool"):
        cells = of(results, part, name)
        if not cells:
            continue
        times = [seconds_to(score, cell) for cell in cells]
        found[name] = {
            "seconds": summary(times),
            "reached": sum(map(isfinite, times)),
            "return_mean": [cell.get("return_mean") for cell in cells],
            "times": [finite(value) for value in times],
        }
        pairs = [pair for pair in pairs_of(results, part, name) if "error" not in pair[0]]
        if name in PEERS and pairs:
            found[name]["ratio"] = ratio([spent(a) for a, _ in pairs], [seconds_to(score, b) for _, b in pairs])
            found[name]["ratio"]["bound"] = not all(isfinite(seconds_to(score, a)) for a, _ in pairs)
    return found


def score_table(results: Results, part: str) -> str:
    """Markdown of `score_summary`."""
    task, found = TASKS[ENVS[part]], score_summary(results, part)
    lines = [
        f"## {ENVS[part]} until 100 greedy episodes average ≥ {task.score:g}",
        "",
        header(
            "trainer",
            "reached",
            "median s [95 %]",
            "IQM s [95 %]",
            "each seed, s",
            "fresh return",
            "÷ nimbleq, median of pairs [95 %] (range)",
            "apart: set up / compile s",
            "threads",
        ),
    ]
    for name, facts in found.items():
        cells = of(results, part, name)
        seconds, quotient = facts["seconds"], facts.get("ratio")
        apart = "–"
        if name in PEERS:
            apart = " / ".join(number(_median_of(cells, key)) for key in ("setup_seconds", "compile_seconds"))
        lines.append(
            f"| {NAMES[name]} | {facts['reached']} of {len(cells)} "
            f"| {reached(seconds['median'])} {interval(seconds['median_ci95'])} "
            f"| {reached(seconds['iqm'])} {interval(seconds['iqm_ci95'])} "
            f"| {', '.join(seed_text(cell, task.score) for cell in cells)} "
            f"| {', '.join(number(value) for value in facts['return_mean'])} "
            f"| {quotient_text(quotient)} | {apart} | {cells[0].get('threads', 'default')} |"
        )
    return "\n".join(lines) + "\n"


def seed_text(cell: dict[str, Any], score: float) -> str:
    """Seconds of one run, or how far it came."""
    if "error" in cell:
        return f"failed ({cell['error']})"
    seconds = seconds_to(score, cell)
    if isfinite(seconds):
        return number(seconds)
    best = max(filter(None, (cell.get("best"), cell["return_mean"])), default=0.0)
    return f"not in {cell['steps']:,} steps (best {best:.0f}, {spent(cell):.0f} s)"


def balance_table(results: Results) -> str:
    """CartPole without a limit: does it hold, and after how long."""
    cells = of(results, "balance", "nimbleq")
    seconds = summary([seconds_to(10_000.0, cell) for cell in cells])
    steps = ", ".join(f"{cell['steps']:,}" if "steps" in cell else "–" for cell in cells)
    held = sum(cell.get("return_mean", 0.0) >= 10_000 for cell in cells)
    lines = [
        "## CartPole-v1 with episodes of 10,000 steps, until 20 of 20 hold to the end",
        "",
        header("trainer", "every fresh episode held", "median s [95 %]", "IQM s [95 %]", "each seed, s", "steps"),
        f"| nimbleq | {held} of {len(cells)} seeds | {reached(seconds['median'])} {interval(seconds['median_ci95'])} "
        f"| {reached(seconds['iqm'])} {interval(seconds['iqm_ci95'])} "
        f"| {', '.join(seed_text(cell, 10_000.0) for cell in cells)} | {steps} |",
    ]
    return "\n".join(lines) + "\n"


def recipe_summary(results: Results) -> dict[str, Any]:
    """Seconds and returns of both, the ratio of pairs, and the mean paired difference of returns; of whole pairs."""
    whole = [
        pair for pair in pairs_of(results, "recipe", "cleanrl") if "error" not in pair[0] and "error" not in pair[1]
    ]
    theirs, mine = [a for a, _ in whole], [b for _, b in whole]
    found: dict[str, Any] = {}
    if not whole:
        return found
    for name, cells in (("cleanrl", theirs), ("nimbleq", mine)):
        returns = [float(cell["return_mean"]) for cell in cells]
        found[name] = {
            "seconds": summary([spent(cell) for cell in cells]),
            "steps": cells[0]["steps"],
            "returns": returns,
            "return_mean": mean(returns),
            "return_ci95": list(interval95(returns, mean)),
        }
    found["ratio"] = ratio([spent(cell) for cell in theirs], [spent(cell) for cell in mine])
    difference = [b["return_mean"] - a["return_mean"] for a, b in zip(theirs, mine, strict=True)]
    found["return_difference"] = {"mean": mean(difference), "ci95": list(interval95(difference, mean))}
    return found


def recipe_table(results: Results) -> str:
    """Markdown of `recipe_summary`."""
    found = recipe_summary(results)
    if not found:
        return "## CleanRL's dqn.py recipe\n\nNo pair of runs is finished.\n"
    steps, difference = found["nimbleq"]["steps"], found["return_difference"]
    lines = [
        f"## CleanRL's dqn.py recipe, {steps:,} steps of CartPole-v1",
        "",
        "| | median s [95 %] | steps/s | return of 100 greedy episodes: mean over seeds [95 %] | each seed |",
        "|" + "---|" * 5,
    ]
    for name in ("cleanrl", "nimbleq"):
        facts = found[name]
        seconds = facts["seconds"]
        lines.append(
            f"| {NAMES[name]} | {number(seconds['median'])} {interval(seconds['median_ci95'])} "
            f"| {steps / seconds['median']:,.0f} | {facts['return_mean']:.1f} {interval(facts['return_ci95'])} "
            f"| {', '.join(f'{value:.0f}' for value in facts['returns'])} |"
        )
    lines += [
        "",
        f"Time, theirs ÷ ours: {quotient_text(found['ratio'])}. Return, ours − theirs: {difference['mean']:.1f} "
        f"{interval(difference['ci95'])}.",
    ]
    return "\n".join(lines) + "\n"


def breakout_table(results: Results) -> str:
    """Final returns of the curve's runs."""
    cells = {seed: cell for seed, cell in by_seed(results, "breakout", "nimbleq").items() if "error" not in cell}
    if not cells:
        return "## MinAtar Breakout\n\nFailed.\n"
    lines = [
        "## MinAtar Breakout: return against time (preset pqn)",
        "",
        "![return against time and steps](breakout.svg)",
        "",
        header("seed", "seconds", "steps", "fresh return [95 %]", "best check"),
    ]
    for seed, cell in cells.items():
        best = max((point[2] for point in cell["curve"]), default=cell["return_mean"])
        lines.append(
            f"| {seed} | {number(cell['train_seconds'])} | {cell['steps']:,} | {cell['return_mean']:.1f} "
            f"{interval(cell['return_ci95'])} | {best:.1f} |"
        )
    return "\n".join(lines) + "\n"


def sections(results: Results) -> list[str]:
    """The tables of all parts that have results."""
    tables: dict[str, Callable[[Results], str]] = {
        **{part: partial(score_table, part=part) for part in ENVS},
        "balance": balance_table,
        "recipe": recipe_table,
        "breakout": breakout_table,
    }
    return [table(results) for part, table in tables.items() if of(results, part, "nimbleq")]


def short_table(results: Results) -> str:
    """The README's: one row a task and peer, medians over seeds and our slowest seed."""
    lines = [
        header("training on 2 CPU cores", "nimbleq: median, slowest seed", "peer: median", "theirs ÷ ours [95 %]"),
    ]
    for part in ENVS:
        found, task = score_summary(results, part) if of(results, part, "nimbleq") else {}, TASKS[ENVS[part]]
        title = f"{ENVS[part]} to {task.score:g}"
        for peer in (peer for peer in PEERS if peer in found):
            theirs = f"{NAMES[peer]} {reached(found[peer]['seconds']['median'])} s"
            seeds = f"{found[peer]['reached']} of {len(of(results, part, peer))} seeds"
            lines.append(
                f"| {title} | {short_seconds(found['nimbleq']['seconds'])} | {theirs} ({seeds}) "
                f"| {quotient_text(found[peer].get('ratio'), short=True)} |"
            )
        if "envpool" in found:
            lines.append(f"| {title}, stepping envpool | {short_seconds(found['envpool']['seconds'])} | – | – |")
    recipe = recipe_summary(results) if of(results, "recipe", "cleanrl") else {}
    if recipe:
        theirs = f"in PyTorch {number(recipe['cleanrl']['seconds']['median'])} s"
        lines.append(
            f"| CleanRL's recipe, {recipe['nimbleq']['steps']:,} steps | {short_seconds(recipe['nimbleq']['seconds'])} "
            f"| {theirs} | {quotient_text(recipe['ratio'], short=True)} |"
        )
    balance = [seconds_to(10_000.0, cell) for cell in of(results, "balance", "nimbleq")]
    if balance:
        lines.append(f"| CartPole-v1, episodes of 10,000 steps held | {short_seconds(summary(balance))} | – | – |")
    return "\n".join(lines) + "\n"


def short_seconds(seconds: dict[str, Any]) -> str:
    """Of a `summary`: ``0.2 s, 0.4 s``."""
    return f"{reached(seconds['median'])} s, {reached(seconds['most'])} s"


def _median_of(cells: Sequence[dict[str, Any]], key: str) -> float | None:
    known = [float(cell[key]) for cell in cells if key in cell]
    return median(known) if known else None
