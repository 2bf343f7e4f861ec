"""Memory and sampling rate of a replay of stacked Atari frames.

Frames come from four games (random play, 84×84 grey, frame skip 4) through ale-py; they are recorded once and played to
the replay over and over, by 64 environments, until it is full and the ring has wrapped around. Each row of the table is
a process of its own; memory is what the process grew by.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import process
from benchmarks.case import Case, Cell, Context
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.config import ReplayConfig
from nimbleq.rl.replay.ring import Replay
from nimbleq.types import Array, ObsSpec, Step

GAMES = ("pong", "breakout", "seaquest", "space_invaders")
ENVS, STACK, LANES, FRAMES, EPISODE = 64, 4, 4, 600, 900
FRAMES_AS = ("compressed", "plain")


def record_frames() -> Array:
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


def grown(path: str, transitions: int, compress: bool) -> dict[str, Any]:
    """One row: what this process grows by."""
    frames = np.load(path)
    player = Player(frames)
    player.step()
    before = status("VmRSS")
    config = ReplayConfig(capacity=transitions, n_step=3, prioritized=True, compress=compress)
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


def measure(name: str, context: Context) -> dict[str, Any]:
    """The same in a process of its own, on frames that were recorded outside it."""
    path = context.scratch / "frames.npy"
    np.save(path, record_frames())
    return process.measure("-m", __name__, str(path), str(20_000 if context.quick else 1_000_000), name)


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    per_million = max(cell["full_gb"], cell["wrapped_gb"]) * 1e6 / cell["transitions"]
    return (
        f"| {name} | {cell['transitions']:,} | {cell['full_gb']:.3f} | {cell['wrapped_gb']:.3f} | {per_million:.3f} | "
        f"{cell['add_us']:.1f} | {cell['batches_32']:.0f} | {cell['batches_256']:.0f} | {cell['checkpoint_gb']:.3f} | "
        f"{cell['checkpoint_seconds']:.1f} | {cell['peak_gb']:.2f} |"
    )


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = (
        "frames", "transitions", "full GB", "wrapped GB", "GB per million", "add µs", "batches of 32 /s", "of 256 /s",
        "checkpoint GB", "s", "peak GB meanwhile",
    )  # fmt: skip
    lines = [
        "# Replay of stacked 84×84×4 Atari observations, n = 3",
        "",
        f"Recorded play of {', '.join(GAMES)}; {ENVS} environments; GB are 10⁹ bytes of resident memory, all of the "
        "replay (frames, transitions, sum tree). *Wrapped* is after a tenth of the ring was overwritten. Storing both "
        "observations takes 56.4 GB per million. Times are processor time of one thread.",
        "",
        header(*columns),
        *record.rows(names, row, len(columns)),
        "",
        record.footnote(),
        "",
    ]
    return "\n".join(lines)


CASE = Case("replay_memory", lambda _: [Cell(name, partial(measure, name), 120) for name in FRAMES_AS], table)


if __name__ == "__main__":
    print(json.dumps(grown(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "compressed")))
