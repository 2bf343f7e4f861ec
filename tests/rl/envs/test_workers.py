"""Worker processes against the same environments in one process: the same bits; and what happens when one fails."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.config import EnvConfig, TrainConfig, validate, with_changes
from nimbleq.errors import ConfigError, EnvError
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.envs.workers import WorkerEnvBatch
from nimbleq.rl.masks import nth_legal
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Step

MIXED = EnvConfig("tests.rl.own_envs:Mixed")
FRAGILE = EnvConfig("tests.rl.own_envs:Fragile", workers=2)


def legal(vector: VectorEnv, rng: np.random.Generator) -> Array:
    if vector.mask is None:
        return rng.integers(vector.spec.actions, size=vector.count)
    return nth_legal(vector.mask, rng.integers(1 << 31, size=vector.count))


def same(mine: Step, its: Step) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b))
        for a, b in zip(mine, its, strict=True)
    )


@pytest.mark.parametrize("env", [MIXED, EnvConfig("LunarLander-v3", 60), EnvConfig("CartPole-v1")], ids=lambda e: e.id)
def test_every_step_has_the_bits_of_one_process_and_so_has_going_on_from_a_state(env: EnvConfig) -> None:
    """Five environments in two and in three workers: shares of unequal size, terminations, truncations, masks."""
    plain, rng, ends = VectorEnv(env, 5, seed=3), np.random.default_rng(0), 0
    shared = [VectorEnv(replace(env, workers=workers), 5, seed=3) for workers in (2, 3)]
    late = VectorEnv(replace(env, workers=4), 5, seed=99)
    late.seed = plain.seed
    for time_step in range(130):
        if time_step == 70:
            late.load_arrays(plain.arrays())
            shared.append(late)
        action = legal(plain, rng)
        step = plain.step(action)
        ends += int((step.terminated | step.truncated).sum())
        for other in shared:
            assert same(step, other.step(action))
            assert np.array_equal(plain.obs, other.obs)
            assert plain.finished == other.finished
    assert ends > 5
    for vector in (plain, *shared):
        vector.close()


def test_training_gives_the_same_state(small: TrainConfig, tmp_path: Path) -> None:
    states = []
    for workers in (1, 2):
        config = with_changes(small, {"env": MIXED, "steps": 400, "learn_start": 100, "env.workers": workers})
        train(config, RunDir(tmp_path / str(workers)))
        states.append(load_checkpoint(tmp_path / str(workers) / "checkpoint")[0])
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raise", r"Fragile.*ZeroDivisionError: the motor has no current"),
        ("exit", r"worker process.*environments 0 to 1 of .*Fragile died \(exit code 7\)"),
        ("nan", r"Fragile.*returned NaN in its reward"),
    ],
)
def test_a_failing_environment_is_one_clear_line(how: str, told: str) -> None:
    batch = WorkerEnvBatch(replace(FRAGILE, kwargs=(f"how={how}",)), 4)
    for index in range(4):
        batch.reset(index, seed=1 if index == 0 else 2)  # odd: eight steps; even: three, and nobody steps on
    for _ in range(3):
        batch.step(np.arange(4), np.zeros(4, np.int64))
    batch.step(np.array([0]), np.zeros(1, np.int64))
    with pytest.raises(EnvError, match=told) as raised:
        batch.step(np.array([0]), np.zeros(1, np.int64))
    assert "\n" not in str(raised.value)
    batch.close()


def test_what_cannot_be_made_is_told_at_once() -> None:
    with pytest.raises(EnvError, match="no Python module 'nowhere'"):
        VectorEnv(EnvConfig("nowhere:Env", workers=2), 4, 0)
    with pytest.raises(ConfigError, match="workers must be within 1 and envs"):
        validate(with_changes(TrainConfig(), {"env.workers": 17}))


@pytest.mark.parametrize("then", ["time.sleep(60)", "pass"])
def test_workers_end_with_their_parent(then: str) -> None:
    """Killed, or at its end with the environments still open."""
    code = (
        "import time; from nimbleq.config import EnvConfig; from nimbleq.rl.envs.vector import VectorEnv\n"
        f"v = VectorEnv(EnvConfig({MIXED.id!r}, workers=2), 4, 0)\n"
        f"print(*[p.pid for p in v.batch._processes], flush=True); {then}"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2
        if then != "pass":
            parent.send_signal(signal.SIGKILL)
        parent.wait(60)
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()  # nobody may collect orphans here
