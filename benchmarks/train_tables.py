"""Tables of `benchmarks.train`: cells' results → JSON values and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.summary import interval95, median, ratio, summary
from benchmarks.train_peers import TASKS
from benchmarks.train_plan import ENVS, PARTS, PEERS, PIECES, score_of

Results = dict[str, dict[str, Any]]
NAMES = {
    "sb3": "SB3 DQN",
    "sbx": "sbx (JAX) DQN",
    "cleanrl": "CleanRL's recipe in PyTorch",
    "nimbleq": "nimbleq",
    "envpool": "nimbleq, stepping envpool",
}


def of(results: Results, part: str, name: str) -> list[dict[str, Any]]:
    """Results of a trainer, by seed."""
    found = [
        (int(label.rsplit("-", 1)[1]), cell) for label, cell in results.items() if label.startswith(f"{part}-{name}-")
    ]
    return [cell for _, cell in sorted(found, key=lambda entry: entry[0])]


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
    score, told = score_of(part), dict[str, dict[str, Any]]()
    mine = [seconds_to(score, cell) for cell in of(results, part, "nimbleq")]
    for name in (*PEERS, "nimbleq", "envpool"):
        cells = of(results, part, name)
        if not cells:
            continue
        times = [seconds_to(score, cell) for cell in cells]
        told[name] = {
            "seconds": summary(times),
            "reached": sum(map(isfinite, times)),
            "return_mean": [cell.get("return_mean") for cell in cells],
            "times": [_finite_or_none(value) for value in times],
        }
        if name in PEERS and len(mine) == len(cells) and all(isfinite(spent(cell)) for cell in cells):
            told[name]["ratio"] = ratio([spent(cell) for cell in cells], mine)
            told[name]["ratio"]["bound"] = not all(map(isfinite, times))
    return told


def score_table(results: Results, part: str) -> str:
    """Markdown of `score_summary`."""
    task, told = TASKS[ENVS[part]], score_summary(results, part)
    lines = [
        f"## {ENVS[part]} until 100 greedy episodes average ≥ {task.score:g}",
        "",
        "| trainer | reached | median s [95 %] | IQM s [95 %] | each seed, s | fresh return "
        "| ÷ nimbleq, median of pairs [95 %] (range) | apart: set up / compile s | threads |",
        "|" + "---|" * 9,
    ]
    for name, facts in told.items():
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
        "| trainer | every fresh episode held | median s [95 %] | IQM s [95 %] | each seed, s | steps |",
        "|" + "---|" * 6,
        f"| nimbleq | {held} of {len(cells)} seeds | {reached(seconds['median'])} {interval(seconds['median_ci95'])} "
        f"| {reached(seconds['iqm'])} {interval(seconds['iqm_ci95'])} "
        f"| {', '.join(seed_text(cell, 10_000.0) for cell in cells)} | {steps} |",
    ]
    return "\n".join(lines) + "\n"


def recipe_summary(results: Results) -> dict[str, Any]:
    """Seconds and returns of both, the ratio of pairs, and the mean paired difference of returns; of whole pairs."""
    pairs = list(zip(of(results, "recipe", "cleanrl"), of(results, "recipe", "nimbleq"), strict=False))
    whole = [pair for pair in pairs if "error" not in pair[0] and "error" not in pair[1]]
    theirs, mine = [a for a, _ in whole], [b for _, b in whole]
    told: dict[str, Any] = {}
    if not whole:
        return told
    for name, cells in (("cleanrl", theirs), ("nimbleq", mine)):
        returns = [float(cell["return_mean"]) for cell in cells]
        told[name] = {
            "seconds": summary([spent(cell) for cell in cells]),
            "steps": cells[0]["steps"],
            "returns": returns,
            "return_mean": float(np.mean(returns)),
            "return_ci95": list(interval95(returns, _mean)),
        }
    told["ratio"] = ratio([spent(cell) for cell in theirs], [spent(cell) for cell in mine])
    difference = [b["return_mean"] - a["return_mean"] for a, b in zip(theirs, mine, strict=True)]
    told["return_difference"] = {"mean": _mean(difference), "ci95": list(interval95(difference, _mean))}
    return told


def recipe_table(results: Results) -> str:
    """Markdown of `recipe_summary`."""
    told = recipe_summary(results)
    if not told:
        return "## CleanRL's dqn.py recipe\n\nNo pair of runs is finished.\n"
    steps, difference = told["nimbleq"]["steps"], told["return_difference"]
    lines = [
        f"## CleanRL's dqn.py recipe, {steps:,} steps of CartPole-v1",
        "",
        "| | median s [95 %] | steps/s | return of 100 greedy episodes: mean over seeds [95 %] | each seed |",
        "|" + "---|" * 5,
    ]
    for name in ("cleanrl", "nimbleq"):
        facts = told[name]
        seconds = facts["seconds"]
        lines.append(
            f"| {NAMES[name]} | {number(seconds['median'])} {interval(seconds['median_ci95'])} "
            f"| {steps / seconds['median']:,.0f} | {facts['return_mean']:.1f} {interval(facts['return_ci95'])} "
            f"| {', '.join(f'{value:.0f}' for value in facts['returns'])} |"
        )
    lines += [
        "",
        f"Time, theirs ÷ ours: {quotient_text(told['ratio'])}. Return, ours − theirs: {difference['mean']:.1f} "
        f"{interval(difference['ci95'])}.",
    ]
    return "\n".join(lines) + "\n"


def breakout_table(results: Results) -> str:
    """Final returns of the curve's runs."""
    cells = [cell for cell in of(results, "breakout", "nimbleq") if "error" not in cell]
    if not cells:
        return "## MinAtar Breakout\n\nFailed.\n"
    lines = [
        "## MinAtar Breakout: return against time (preset pqn)",
        "",
        "![return against time and steps](breakout.svg)",
        "",
        "| seed | seconds | steps | fresh return [95 %] | best check |",
        "|" + "---|" * 5,
    ]
    for seed, cell in enumerate(cells):
        best = max((point[2] for point in cell["curve"]), default=cell["return_mean"])
        lines.append(
            f"| {seed} | {number(cell['train_seconds'])} | {cell['steps']:,} | {cell['return_mean']:.1f} "
            f"{interval(cell['return_ci95'])} | {best:.1f} |"
        )
    return "\n".join(lines) + "\n"


def summaries(results: Results) -> dict[str, Any]:
    """JSON values of the parts that have statistics."""
    told: dict[str, Any] = {part: score_summary(results, part) for part in ENVS if of(results, part, "nimbleq")}
    return told | {"recipe": recipe_summary(results)}


def sections(results: Results, pieces: Path) -> list[str]:
    """The tables of all parts that have results; ``pieces`` holds those that the pieces' scripts wrote."""
    made = {"balance": balance_table, "recipe": recipe_table, "breakout": breakout_table}
    found = []
    for part in PARTS:
        if part == "pieces":
            done = [name for name in PIECES if "error" not in results.get(f"pieces-{name}-0", {"error": "not run"})]
            texts = [(pieces / f"{name}.md").read_text() for name in done]
            found += [f"#{text}" if text.startswith("# ") else f"## TD step\n\n{text}" for text in texts]
        elif of(results, part, "nimbleq"):
            found.append(score_table(results, part) if part in ENVS else made[part](results))
    return found


def short_table(results: Results) -> str:
    """The README's: one row a task and peer, medians over seeds and our slowest seed."""
    lines = [
        "| training on 2 CPU cores | nimbleq: median, slowest seed | peer: median | theirs ÷ ours [95 %] |",
        "|" + "---|" * 4,
    ]
    for part in ENVS:
        told, task = score_summary(results, part) if of(results, part, "nimbleq") else {}, TASKS[ENVS[part]]
        title = f"{ENVS[part]} to {task.score:g}"
        for peer in (peer for peer in PEERS if peer in told):
            theirs = f"{NAMES[peer]} {reached(told[peer]['seconds']['median'])} s"
            seeds = f"{told[peer]['reached']} of {len(of(results, part, peer))} seeds"
            lines.append(
                f"| {title} | {short_seconds(told['nimbleq']['seconds'])} | {theirs} ({seeds}) "
                f"| {quotient_text(told[peer].get('ratio'), short=True)} |"
            )
        if "envpool" in told:
            lines.append(f"| {title}, stepping envpool | {short_seconds(told['envpool']['seconds'])} | – | – |")
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


def number(value: float | None) -> str:
    """Three significant digits; a dash for none."""
    if value is None or not isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def reached(seconds: float | None) -> str:
    """Seconds to a score, ∞ when it was not reached."""
    return "∞" if seconds is None else number(seconds)


def interval(bounds: Sequence[float | None]) -> str:
    """``[low, high]``."""
    return f"[{', '.join(map(reached, bounds))}]"


def quotient_text(quotient: dict[str, Any] | None, short: bool = False) -> str:
    """``×47 [45, 60] (45–61)``; ``short``: without the range."""
    if quotient is None:
        return "–"
    sign = "≥ " if quotient.get("bound") else ""
    told = f"{sign}×{number(quotient['median'])} {interval(quotient['ci95'])}"
    return told if short else f"{told} ({number(quotient['least'])}–{number(quotient['most'])})"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _median_of(cells: Sequence[dict[str, Any]], key: str) -> float | None:
    known = [float(cell[key]) for cell in cells if key in cell]
    return median(known) if known else None


def _finite_or_none(value: float) -> float | None:
    return value if isfinite(value) else None
