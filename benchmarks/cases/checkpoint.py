"""What a checkpoint of a full replay of Atari frames costs.

Recorded play as in replay_memory.py fills the replay; then, five times, new transitions come and a checkpoint is
written. Bytes are those written to disk: transitions, frames, and the tables that change everywhere (references,
priorities). What was written is loaded again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.replay_memory import ENVS, STACK, Player, record_frames
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.config import ReplayConfig
from nimbleq.rl.replay.disk_log import ReplayLog, load_replay
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.training.checkpoint import save_checkpoint
from nimbleq.types import ObsSpec

TRANSITIONS = 1_000_000


def filled(config: ReplayConfig, player: Player) -> Replay:
    """A replay that is full and has begun to overwrite."""
    replay = Replay(config, 0.99, ENVS, ObsSpec((STACK, 84, 84), "uint8"))
    while replay.added < 1.1 * config.capacity:
        replay.add(player.step())
    return replay


def checkpoint(replay: Replay, log: ReplayLog) -> dict[str, float]:
    """Write one; bytes and seconds."""
    before = {path: path.stat().st_size for path in log.folder.glob("replay-*")}
    wall, processor = time.monotonic(), time.process_time()
    listed = log.append(replay)
    arrays = replay.arrays()
    save_checkpoint(log.folder, arrays, {"replay": listed})
    log.prune()
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    grown = sum(entry["size_bytes"] for entry in listed) - sum(
        before.get(log.folder / f"replay-{entry['serial']:06d}.log", 0) for entry in listed
    )
    tables = sum(array.nbytes for array in arrays.values())
    return {"mb": (grown + tables) / 1e6, "tables_mb": tables / 1e6, "seconds": wall, "cpu_seconds": processor}


def measure(context: Context) -> dict[str, Any]:
    """The whole replay once, then several checkpoints of what is new."""
    transitions, new = (20_000, 3_000) if context.quick else (TRANSITIONS, 30_000)
    folder = context.scratch
    player = Player(record_frames())
    config = ReplayConfig(capacity=transitions, n_step=3, prioritized=True)
    replay = filled(config, player)
    log = ReplayLog(folder)
    row: dict[str, Any] = {"transitions": transitions, "new": new, "whole": checkpoint(replay, log), "next": []}
    for _ in range(5):
        until = replay.added + new
        while replay.added < until:
            replay.add(player.step())
        row["next"].append(checkpoint(replay, log))
    row["folder_mb"] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    began = time.monotonic()
    other = Replay(config, 0.99, ENVS, ObsSpec((STACK, 84, 84), "uint8"))
    load_replay(other, replay.arrays(), [vars(segment) for segment in log.segments], folder)
    row["load_seconds"] = time.monotonic() - began
    batches = [each.sample(np.random.default_rng(0), 256) for each in (replay, other)]
    assert all(np.array_equal(a, b) for a, b in zip(*(batch[:7] for batch in batches), strict=True))
    return row


def row(_: str, cell: dict[str, Any]) -> str:
    """Two lines: everything, and what is new."""
    later = {key: max(each[key] for each in cell["next"]) for key in cell["whole"]}
    rows = []
    for what, each in (("whole replay", cell["whole"]), (f"{cell['new']:,} new", later)):
        figures = f"{each['mb']:.1f} | {each['tables_mb']:.1f} | {each['seconds']:.2f} | {each['cpu_seconds']:.2f}"
        rows.append(
            f"| {cell['transitions']:,} | {what} | {figures} | {cell['folder_mb']:.0f} | {cell['load_seconds']:.1f} |"
        )
    return "\n".join(rows)


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = (
        "transitions",
        "checkpoint of",
        "MB written",
        "of it tables",
        "seconds",
        "processor seconds",
        "folder MB",
        "load seconds",
    )
    lines = [
        "# Checkpoint of a full, prioritised replay of stacked 84×84×4 observations",
        "",
        "The whole replay, and then what is new (the largest of five). MB are 10⁶ bytes; *folder* is what it holds in "
        "the end. Seconds with fsync.",
        "",
        header(*columns),
        *record.rows(names, row, len(columns)),
        "",
        record.footnote(),
        "",
    ]
    return "\n".join(lines)


CASE = Case("checkpoint", lambda _: [Cell(f"{TRANSITIONS:,} transitions", measure, 60)], table)
