"""``nimbleq train --actors N`` on environments that sleep: ``python -m benchmarks.actors --actors 4``.

It prints one JSON object. ``--kill-every S`` ends one actor by SIGKILL every S seconds, and counts every transition
afterwards.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.meter import CHUNK, SAMPLES_PER_INSERT, FinishedError, Meter, parser_of
from benchmarks.sleeping import LENGTH, processes
from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir


def config_of(actors: int, folder: Path) -> TrainConfig:
    """An environment an actor, a small network."""
    changes: dict[str, Any] = {
        "env": EnvConfig("benchmarks.sleeping:Sleeping", kwargs=(f"folder={folder}",)),
        "steps": 10**8, "envs": 1, "learn_start": 64, "learner.batch_size": 64,
        "update_every": 64 // SAMPLES_PER_INSERT, "replay.prioritized": True, "replay.capacity": 200_000,
        "distributed.actors": actors, "distributed.chunk": CHUNK, "checkpoint_seconds": 1e6, "evaluation.every": 10**8,
        "evaluation.beside": False, "evaluation.episodes": 1,
    }  # fmt: skip
    config: TrainConfig = with_changes(TrainConfig(), changes)
    return config


def rates(actors: int, delays_ms: list[float], seconds: float, windows: int) -> dict[str, Any]:
    """Steps a second in each window of each delay."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meter = Meter(folder, actors, delays_ms, seconds, windows, others=1)  # this process makes one to look at it
        lag: list[str] = []

        def tick(done: float, total: float, note: str = "") -> None:
            lag.append(note)
            try:
                meter(done)
            except FinishedError:
                raise KeyboardInterrupt from None

        with suppress(KeyboardInterrupt):
            train(config_of(actors, folder), RunDir(folder / "run"), tick)
        return {**meter.result(), "lag": lag[-1]}


def killed(actors: int, delay_ms: float, every: float, seconds: float) -> dict[str, Any]:
    """What became of all transitions of a run in which actors are killed."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng, kills = Path(name), random.Random(0), list[float]()
        (folder / "delay_ms").write_text(f"{delay_ms:g}")
        began: list[float] = []
        lag: list[str] = []

        def tick(done: float, total: float, note: str = "") -> None:
            now, playing = time.monotonic(), [pid for pid in processes(folder) if pid != os.getpid()]
            lag.append(note)
            if not began and len(playing) == actors:
                began.append(now)
            if began and playing and now - (kills or began)[-1] >= every and now - began[0] < seconds:
                os.kill(rng.choice(playing), signal.SIGKILL)
                kills.append(now)
            if began and now - began[0] > seconds + every:
                raise KeyboardInterrupt

        config, run = config_of(actors, folder), RunDir(folder / "run")
        with suppress(KeyboardInterrupt):
            train(config, run, tick)
        return {"kills": len(kills), "lag": lag[-1], **_counted(config, run)}


def _counted(config: TrainConfig, run: RunDir) -> dict[str, Any]:
    state = load_state(config, run.checkpoint)
    assert isinstance(state.envs, Ledger)
    assert state.replay is not None
    replay = state.replay.settled()
    numbers = [tuple(row) for row in replay.rows(0, replay.added)["obs"][:, :3].astype(int).tolist()]
    last = Counter((high, low) for high, low, _ in numbers)
    holes = sum(when >= last[high, low] for high, low, when in set(numbers))
    chunks = int(state.envs.counted.sum())
    return {
        "steps": state.counters.steps, "stored": replay.added, "chunks": chunks,
        "lost": chunks * config.distributed.chunk * config.envs - replay.added + holes,
        "doubled": len(numbers) - len(set(numbers)), "longest": max(last.values()), "length": LENGTH,
    }  # fmt: skip


def main() -> None:
    """Measure what is asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--kill-every", type=float, default=0.0, metavar="S")
    args = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # or actors would give way to everything else on the machine
    if args.kill_every:
        result = killed(args.actors, args.delays[0], args.kill_every, args.seconds)
    else:
        result = rates(args.actors, args.delays, args.seconds, args.windows)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
