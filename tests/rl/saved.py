"""Saving and loading a replay, and comparing what training runs left."""

import json
from pathlib import Path

import numpy as np

from nimbleq.config import TrainConfig, from_dict
from nimbleq.rl.replay.buffer import ReplayBuffer
from nimbleq.rl.replay.disk_log import ReplayLog, load_replay
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.state import load_state
from nimbleq.rundir import RunDir
from nimbleq.types import Array

IGNORED = ("seconds",)  # differs between any two runs


def through_disk(replay: Replay, empty: Replay, folder: Path) -> Replay:
    """``empty``, filled with what ``replay`` wrote to ``folder``."""
    load_replay(empty, replay.arrays(), ReplayLog(folder).append(replay), folder)
    return empty


def whole(buffer: ReplayBuffer) -> dict[str, Array]:
    """Everything that a replay holds, planes included, but not where they lie on disk."""
    replay = buffer.settled()
    content = replay.arrays() | replay.rows(replay.added - replay.size, replay.size)
    if replay.frames is not None:
        alive = np.flatnonzero(content["frames.references"]).astype(np.int32)
        content |= replay.frames.dump(alive)
    return content


def records(run: RunDir) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in IGNORED} for line in lines]


def assert_same_arrays(a: dict[str, Array], b: dict[str, Array]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype, name
        assert np.array_equal(value, b[name]), name


def assert_same_run(a: RunDir, b: RunDir) -> None:
    """Weights, optimizer, best network, environments, random states, counters, replay and metrics, bit for bit."""
    (arrays, values), (other_arrays, other_values) = load_checkpoint(a.checkpoint), load_checkpoint(b.checkpoint)
    assert_same_arrays(arrays, other_arrays)
    config = from_dict(TrainConfig, values["config"])
    if config.algorithm == "dqn":
        replays = [load_state(config, run.checkpoint).replay for run in (a, b)]
        assert replays[0] is not None
        assert replays[1] is not None
        assert_same_arrays(whole(replays[0]), whole(replays[1]))
    for each in (values, other_values):
        del each["replay"]  # cut into other files
        del each["counters"]["seconds"], each["counters"]["metrics_bytes"]
    assert values == other_values
    assert records(a) == records(b)
