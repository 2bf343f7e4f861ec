"""Memory and sampling rate of a replay of stacked Atari frames: `benchmarks/results/replay_memory.md`.

    python benchmarks/replay_memory.py [--transitions 1000000]

Frames come from four games (random play, 84×84 grey, frame skip 4) through ale-py; they are recorded once and played to
the replay over and over, by 64 environments, until it is full and the ring has wrapped around. Each row of the table is
a process of its own; memory is what the process grew by.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.config import ReplayConfig
from nimbleq.files import write_bytes, write_json
from nimbleq.rl.replay.ring import Replay
from nimbleq.types import Array, ObsSpec, Step

RESULTS = Path(__file__).parent / "results"
GAMES = ("pong", "breakout", "seaquest", "space_invaders")
ENVS, STACK, LANES, FRAMES, EPISODE = 64, 4, 4, 600, 900


def record() -> Array:
    """Frames of real play, ``uint8[lanes, FRAMES, 84, 84]``."""
    from ale_py.vector_env import AtariVectorEnv

    lanes = []
    for game in GAMES:
        env = AtariVectorEnv(game=game, num_envs=LANES, stack_num=1, num_threads=1)
        rng = np.random.default_rng(0)
        obs, _ = env.reset(seed=0)
        frames = [obs[:, -1].copy()]
        for _ in range(FRAMES - 1):
            obs, *_ = env.step(rng.integers(0, env.single_action_space.n, LANES))
            frames.append(obs[:, -1].copy())
        env.close()
        lanes.append(np.stack(frames, axis=1))
    return np.concatenate(lanes)


class Player:
    """Plays recorded frames to the replay: stacks, episodes of `EPISODE` steps that end at different times."""

    def __init__(self, frames: Array) -> None:
        self.frames, self.time = frames, 0
        self.lane = np.arange(ENVS) % len(frames)
        self.offset = np.arange(ENVS) * 7
        self.age = np.arange(ENVS) * (EPISODE // ENVS)  # steps since the episode began
        self.rng = np.random.default_rng(0)

    def stack(self) -> Array:
        back = np.minimum(np.arange(STACK)[::-1], self.age[:, None])  # a reset repeats its first frame
        at = (self.offset + self.time)[:, None] - back
        stacked: Array = self.frames[self.lane[:, None], at % self.frames.shape[1]]
        return stacked

    def step(self) -> Step:
        obs = self.stack()
        self.time += 1
        self.age += 1
        next_obs = self.stack()
        ended = self.age >= EPISODE
        self.age[ended] = 0
        truncated = ended & (self.rng.random(ENVS) < 0.5)
        action, reward = self.rng.integers(0, 6, ENVS), self.rng.random(ENVS, np.float32)
        return Step(obs, action, reward, ended & ~truncated, truncated, next_obs)


def status(field: str) -> int:
    """A line of ``/proc/self/status`` in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def rate(replay: Replay, size: int, seconds: float) -> float:
    """Batches a second of processor time."""
    rng, began, batches = np.random.default_rng(1), time.process_time(), 0
    while time.process_time() - began < seconds:
        replay.sample(rng, size)
        batches += 1
    return batches / (time.process_time() - began)


def measure(path: str, transitions: int, compress: bool, prioritized: bool) -> dict[str, Any]:
    """One row."""
    frames = np.load(path)
    player = Player(frames)
    player.step()
    before = status("VmRSS")
    config = ReplayConfig(capacity=transitions, n_step=3, prioritized=prioritized, compress=compress)
    replay = Replay(config, 0.99, ENVS, ObsSpec((STACK, 84, 84), "uint8"))
    seconds = 0.0
    full = 0
    steps = int(1.1 * transitions) // ENVS + 4
    for _ in range(steps):
        made = player.step()
        began = time.process_time()
        replay.add(made)
        seconds += time.process_time() - began
        if not full and len(replay) == transitions:
            full = status("VmRSS") - before
    wrapped = status("VmRSS") - before
    row: dict[str, Any] = {
        "compress": compress,
        "transitions": len(replay),
        "full_gb": full / 1e9,
        "wrapped_gb": wrapped / 1e9,
        "add_us": 1e6 * seconds / (steps * ENVS),
        "batches_32": rate(replay, 32, 3.0),
        "batches_256": rate(replay, 256, 3.0),
    }
    began = time.process_time()
    arrays = replay.arrays()
    row["checkpoint_seconds"] = time.process_time() - began
    row["checkpoint_gb"] = sum(value.nbytes for value in arrays.values()) / 1e9
    row["peak_gb"] = (status("VmHWM") - before) / 1e9
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Replay of stacked 84×84×4 Atari observations, n = 3",
        "",
        f"Recorded play of {', '.join(GAMES)}; {ENVS} environments; GB are 10⁹ bytes of resident memory, all of the "
        "replay (frames, transitions, sum tree). *Wrapped* is after a tenth of the ring was overwritten. Storing both "
        "observations takes 56.4 GB per million. Times are processor time of one thread.",
        "",
        "| kept | transitions | full GB | wrapped GB | GB per million | add µs | batches of 32 /s | of 256 /s "
        "| checkpoint GB | s | peak GB meanwhile |",
        "|" + "---|" * 11,
    ]
    for row in rows:
        kept = "compressed" if row["compress"] else "plain"
        per_million = max(row["full_gb"], row["wrapped_gb"]) * 1e6 / row["transitions"]
        lines.append(
            f"| {kept} | {row['transitions']:,} | {row['full_gb']:.3f} | {row['wrapped_gb']:.3f} | {per_million:.3f} | "
            f"{row['add_us']:.1f} | {row['batches_32']:.0f} | {row['batches_256']:.0f} | {row['checkpoint_gb']:.3f} | "
            f"{row['checkpoint_seconds']:.1f} | {row['peak_gb']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)  # frames' path, compress or plain
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.row[0], args.transitions, args.row[1] == "compress", prioritized=True)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/frames.npy"
        np.save(path, record())
        for kept in ("compress", "plain"):
            words = [sys.executable, __file__, "--transitions", str(args.transitions), "--row", path, kept]
            rows.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    write_bytes(args.out / "replay_memory.md", table(rows).encode())
    write_json(args.out / "replay_memory.json", rows)


if __name__ == "__main__":
    main()
