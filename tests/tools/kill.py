"""Kill training over and over, at random and at the worst moments, and compare what it leaves with a run left in peace.

    python tests/tools/kill.py [--kills 100] [--only native torch …] [--seed 0]

Every process is a fork of this one, in which nothing but imports has happened, so that a kill costs no start of torch.
Half of the kills come from outside after a random time, half from inside a checkpoint: right before or right after the
n-th of the system calls that put it on the disk. A line of JSON a setting; exit 1 when one bit differs.
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nimbleq.config import TrainConfig, from_dict, with_changes
from nimbleq.files import sha256
from nimbleq.graph.artefact import save_artefact
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.presets import preset
from nimbleq.rl.training.checkpoint import has_checkpoint, load_checkpoint
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir

MEMORY = Path("/dev/shm")  # a killed process loses nothing that it wrote, so a real disk would only be slower
FORK = multiprocessing.get_context("fork")


def settings() -> dict[str, TrainConfig]:
    """What is trained: a second or so each, with checks, and a checkpoint whenever one can be written."""
    common = {
        "network.hidden": (16,), "replay.capacity": 500, "learner.batch_size": 16, "explore.updates": 50,
        "evaluation.every": 60, "evaluation.episodes": 2, "evaluation.final_episodes": 2,
        "evaluation.stop_return": None, "steps": 2_000, "envs": 4, "learn_start": 200, "checkpoint_seconds": 0.01,
    }  # fmt: skip
    short = {"evaluation.every": 40, "steps": 500, "learn_start": 100}
    pictures = {
        "env.id": "benchmarks.corridor:pictures",
        "env.max_episode_steps": None,
        "network.torso": "nature",
    } | short
    pictures |= {"network.normalize_obs": False, "replay.capacity": 150, "replay.prioritized": True, "steps": 280}
    masks = {
        "env.id": "benchmarks.corridor:masked",
        "env.max_episode_steps": None,
        "replay.prioritized": True,
        "steps": 1_000,
    }
    changes: dict[str, dict[str, Any]] = {
        "native": {"learner.engine": "native", "learner.target": "polyak"},
        "torch": {"learner.engine": "torch", "learner.target": "hard", "learner.target_every": 13} | short,
        "masks": masks | {"evaluation.beside": False, "explore.hold": 5},
        "rainbow": {"network.head": "c51", "network.noisy": True, "replay.prioritized": True} | short,
        "images": pictures,
        "images-plain": pictures | {"replay.compress": False, "replay.prioritized": False},
        "pqn": {"algorithm": "pqn", "learner.target": "none", "learner.optimizer": "radam"},
        "pair": {"policy.network": "6", "policy.format": "int8", "policy.collects": "policy"},
        "from": {"transfer.source": source(), "transfer.patience": 3},
    }
    base = with_changes(preset("CartPole-v1"), {"env.max_episode_steps": 40} | common)
    return {name: with_changes(base, each) for name, each in changes.items()}


def source() -> str:
    """A fresh artefact of a policy that pushes towards where the pole falls."""
    config = preset("CartPole-v1")
    network = with_changes(config, {"network.hidden": (), "network.normalize_obs": False}).network
    weight = np.array([[0, 0, -1, -1], [0, 0, 1, 1]], np.float32)
    spec = spec_of(config.env)
    graph = network_graph(spec, network, {"advantage.weight": weight, "advantage.bias": np.zeros(2, np.float32)})
    place = tempfile.mkdtemp(dir=MEMORY if MEMORY.exists() else None)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return str(
        save_artefact(Path(place) / "policy", graph, np.zeros((1, 4), np.float32), {}, interface=spec.interface).path
    )


def begun(work: Callable[[], object]) -> Any:
    """``work`` in a fork."""
    process = FORK.Process(target=work)
    process.start()
    return process


def dying(calls: int, after: bool) -> None:
    """From now on this process kills itself at its ``calls``-th fsync or replace."""
    left = calls

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def kill_one(config: TrainConfig, run: RunDir, rng: np.random.Generator, longest: float) -> bool:
    """Go on with a run until it is killed (True) or over (False)."""
    inside = rng.random() < 0.5
    calls, after, seconds = int(rng.integers(1, 25)), bool(rng.random() < 0.5), float(rng.uniform(0, longest))

    def work() -> None:
        if inside:
            dying(calls, after)
        train(config, run, resume=True)

    process = begun(work)
    if not inside:
        while not has_checkpoint(run.checkpoint) and process.is_alive():
            time.sleep(0.002)
        process.join(seconds)
        process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a resumed training ended with {process.exitcode}")
    return bool(process.exitcode)


def left_by(run: RunDir) -> dict[str, str]:
    """Digests of everything that a finished run left, but for times and for where the replay lies on disk."""
    arrays, values = load_checkpoint(run.checkpoint)
    config = from_dict(TrainConfig, values["config"])
    replay = load_state(config, run.checkpoint).replay
    if replay is not None:
        arrays |= {
            f"rows.{name}": value for name, value in replay.rows(replay.added - replay.size, replay.size).items()
        }
        if replay.frames is not None:
            alive = np.flatnonzero(arrays["replay.frames.references"]).astype(np.int32)
            arrays |= {f"planes.{name}": value for name, value in replay.frames.dump(alive).items()}
    del values["replay"], values["counters"]["seconds"], values["counters"]["metrics_bytes"]
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
    texts = {"values": json.dumps(values, sort_keys=True), "metrics": json.dumps(lines)}
    return {name: sha256(value.tobytes()) for name, value in arrays.items()} | texts


def loop(name: str, config: TrainConfig, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill ``kills`` times, in as many trainings as it takes."""
    rng, began = np.random.default_rng([seed, len(name)]), time.monotonic()
    quiet = begun(lambda: train(config, RunDir(folder / "whole")))
    quiet.join()
    longest = (time.monotonic() - began) / 4
    whole = left_by(RunDir(folder / "whole"))
    done = trainings = 0
    different: set[str] = set()
    while done < kills:
        run, trainings = RunDir(folder / f"killed{trainings}"), trainings + 1
        while done < kills and kill_one(config, run, rng, longest):
            done += 1
        begun(lambda run=run: train(config, run, resume=True)).join()  # type: ignore[misc]
        parts = left_by(run)
        different |= {key for key in whole.keys() | parts.keys() if whole.get(key) != parts.get(key)}
    seconds = round(time.monotonic() - began, 1)
    return {
        "setting": name, "kills": done, "trainings": trainings, "compared": len(whole), "different": sorted(different),
        "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of each setting")
    parser.add_argument("--only", nargs="*", help="settings (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    same = True
    torch.set_num_threads(1)  # threads do not live on in a fork
    importlib.import_module("tensorboard.summary.writer.event_file_writer")
    for name, config in settings().items():
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            result = loop(name, config, args.kills, args.seed, Path(folder))
        print(json.dumps(result), flush=True)
        same = same and not result["different"]
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
