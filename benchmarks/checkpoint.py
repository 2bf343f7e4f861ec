"""What a checkpoint of a full replay of Atari frames costs: `benchmarks/results/checkpoint.md`.

    python -m benchmarks.checkpoint [--transitions 200000] [--new 30000] [--folder /tmp]

Recorded play as in replay_memory.py fills the replay; then, five times, ``--new`` transitions come and a checkpoint is
written. *Whole* is the replay written from nothing, as every checkpoint used to be. Bytes are those written to disk:
transitions, frames, and the tables that change everywhere (references, priorities). What was written is loaded again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import stamp
from benchmarks.replay_memory import ENVS, STACK, Player, record
from nimbleq.config import ReplayConfig
from nimbleq.files import write_bytes, write_json
from nimbleq.rl.replay.disk_log import ReplayLog, load_replay
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.training.checkpoint import save_checkpoint
from nimbleq.types import ObsSpec

RESULTS = Path(__file__).parent / "results"


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


def measure(transitions: int, new: int, folder: Path) -> dict[str, Any]:
    """The whole replay once, then several checkpoints of what is new."""
    player = Player(record())
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


def table(row: dict[str, Any]) -> str:
    """Markdown."""
    later = {key: max(each[key] for each in row["next"]) for key in row["whole"]}
    lines = [
        f"# Checkpoint of a full, prioritised replay of {row['transitions']:,} stacked 84×84×4 observations",
        "",
        f"Before, every checkpoint wrote the whole replay; now what is new ({row['new']:,} transitions; the largest "
        f"of five). MB are 10⁶ bytes; the folder holds {row['folder_mb']:.0f} MB in the end and loads in "
        f"{row['load_seconds']:.1f} s. Seconds with fsync.",
        "",
        "| | MB written | of it tables | seconds | processor seconds |",
        "|---|---|---|---|---|",
    ]
    for name, each in (("whole replay (before)", row["whole"]), ("what is new (now)", later)):
        figures = f"{each['mb']:.1f} | {each['tables_mb']:.1f} | {each['seconds']:.2f} | {each['cpu_seconds']:.2f}"
        lines.append(f"| {name} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=200_000)
    parser.add_argument("--new", type=int, default=30_000)
    parser.add_argument("--folder", type=Path, default=None, help="on which disk (default: that of temporary files)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        row = measure(args.transitions, args.new, Path(folder))
    print(table(row))
    write_bytes(RESULTS / "checkpoint.md", table(row).encode())
    write_json(RESULTS / "checkpoint.json", row | {"stamp": stamp()})


if __name__ == "__main__":
    main()
