"""A Crazyflie (``examples/robot.py``): the same hundred flights for everybody, in crazyflow itself.

It runs in an environment of its own, see ``make bench-domains``. The policies that fly are the small ones; no run is
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.domains.parts import compressed, into_docs, size_of, trained
from benchmarks.cases.domains.robot_plot import write_plot
from benchmarks.process import inline
from benchmarks.record import Record
from benchmarks.statistics import Share
from benchmarks.tables import header, owed
from nimbleq.deploy.runtime import Runtime

TASKS = ("FigureOfEight", "BehindThePillar")
FLOOR_TIMES, FLOOR_CRASHES = 1.5, 2
"""Of the small policy's tracking error over the built-in controller's, and crashes of a hundred."""
BOARD = "cortex-m4"
HEADER = header(
    "task", "who flies", "off the curve, RMS", "arrives (95 % interval)", "crashes", "size", "flash", "instructions"
)


def values(task: str, done: Any) -> dict[str, Any]:
    """JSON values of flights, with the path of the first one in millimetres."""
    from examples import robot

    found: dict[str, Any] = {"flights": len(done.crashed), "crashes": int(done.crashed.sum())}
    if task == "FigureOfEight":
        found["rms_m"] = robot.tracking_rms(done)
    else:
        found["arrived"] = int(robot.arrived(done).sum())
    last = int(done.flying[:, 0].sum())
    path = np.rint(1000 * done.pos[: max(last, 1), 0]).astype(int)
    return found | {"path_mm": path.tolist(), "course": done.course[0].tolist()}


def controlled(task: str, name: str, context: Context) -> dict[str, Any]:
    """crazyflow's own controller, told a way."""
    from examples import crazyflie, robot

    seeds = robot.SEEDS[:2] if context.quick else robot.SEEDS
    return values(task, robot.by_controller(crazyflie.TASKS[task], robot.WAYS[task][name], seeds))


def measure(task: str, seed: int, context: Context) -> dict[str, Any]:
    """One teacher, its smallest policy, the flights of both, and the small one on a board."""
    from examples import crazyflie, robot

    name, steps = (f"quick-{task}", 4_000) if context.quick else (f"{task}-seed{seed}", robot.STEPS[task])
    words = (*robot.words_for(task), "--steps", steps, "--seed", seed)
    run, said = trained(name, *words)
    made = compressed(run, *robot.compress_words(task))
    seeds, flight = robot.SEEDS[:2] if context.quick else robot.SEEDS, crazyflie.TASKS[task]
    small = Path(made["artefact"])
    pilots = {"small": Runtime(small).act, "teacher": Runtime(run.teacher).act}
    flights = {who: values(task, robot.flown(flight, act, seeds)) for who, act in pilots.items()}
    [board] = inline("bench", small, "--rounds", 1, "--flash", BOARD)["flash"]
    return {
        **flights, "size": size_of(small), "teacher_size": size_of(run.teacher), "board": board,
        "certified": made["certified"], "keep": made["keep"], "train_seconds": said["train_seconds"],
    }  # fmt: skip


def ways(task: str) -> list[str]:
    """What the built-in controller is told; known without crazyflow."""
    return ["built-in controller" if task == "FigureOfEight" else "built-in, straight", "holding still"] + (
        ["built-in, planned way"] if task == "BehindThePillar" else []
    )


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The controllers, then the policies."""
    told = [Cell(f"{task} {name}", partial(controlled, task, name), 20) for task in TASKS for name in ways(task)]
    return [*told, *(Cell(f"{task} seed{seed}", partial(measure, task, seed), 600) for seed in seeds for task in TASKS)]


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table; two for a policy and its teacher."""
    task, _, who = name.partition(" ")
    if not who.startswith("seed"):
        return line(task, who, cell, "", "", "")
    board, size, teacher = cell["board"], cell["size"]["size_bytes"], cell["teacher_size"]["size_bytes"]
    said = f"certified, keeps {cell['keep']:g}" if cell["certified"] else "not certified"
    flash = f"{board['text_bytes'] + board['data_bytes']:,} B"
    return "\n".join([
        line(task, f"small policy, {who} ({said})", cell["small"], f"{size:,} B", flash, f"{board['instructions']:,}"),
        line(task, f"teacher, {who}", cell["teacher"], f"{teacher:,} B", "", ""),
    ])  # fmt: skip


def line(task: str, who: str, done: dict[str, Any], *rest: str) -> str:
    """One row."""
    off = f"{100 * done['rms_m']:.1f} cm" if "rms_m" in done else ""
    there = f"{Share(done['arrived'], done['flights'])}" if "arrived" in done else ""
    words = (task, who, off, there, f"{done['crashes']} of {done['flights']}", *rest)
    return f"| {' | '.join(words)} |"


def short(record: Record) -> str:
    """The table alone."""
    return "\n".join([HEADER, *record.rows(CASE.names(record), row, 8)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return "\n".join([short(record), *owed(missed(record)), "", record.footnote(), ""])


def draw(record: Record, results: Path) -> None:
    """The flown paths, and the page."""
    for task in TASKS:
        who = {"built-in controller": f"{task} {ways(task)[0]}", "small policy": f"{task} seed0"}
        if all(map(record.finished, who.values())):
            theirs, ours = record.cells[who["built-in controller"]], record.cells[who["small policy"]]["small"]
            write_plot(task, ours, theirs, results / f"robot-{task}.svg")
    into_docs("robot", "robot", short)(record, results)


def missed(record: Record) -> list[str]:
    """Policies below the floors."""
    found, own = [], "FigureOfEight built-in controller"
    for name, cell in record.cells.items():
        if "small" in cell and record.finished(name):
            small = cell["small"]
            if small["crashes"] > FLOOR_CRASHES:
                found.append(f"{name}: {small['crashes']} crashes, floor {FLOOR_CRASHES}")
            if "rms_m" in small and record.finished(own):
                most = FLOOR_TIMES * record.cells[own]["rms_m"]
                if small["rms_m"] > most:
                    found.append(f"{name}: {small['rms_m']:.4f} m off the curve, floor {most:.4f}")
    return found


CASE = Case("robot", cells, table, (0,), draw=draw, missed=missed)
