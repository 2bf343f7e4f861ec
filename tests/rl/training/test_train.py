"""Training end to end: repeatable, resumable bit for bit, stopped by Ctrl-C, NaN, a kill, a solved task."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from nimbleq.config import TrainConfig, to_dict, with_changes
from nimbleq.errors import ConfigError, EnvError, FileError
from nimbleq.rl.training import check as check_module
from nimbleq.rl.training import state as state_module
from nimbleq.rl.training.check import Checker, EvalJob
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.train import train
from nimbleq.rl.training.trained import Trained
from nimbleq.rundir import RunDir
from tests.rl.envs.test_envs import Corridor
from tests.rl.saved import assert_same_run, records


class Stop:
    """A `Tick` that interrupts the ``n``-th step."""

    def __init__(self, n: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.calls, self.n, self.error = 0, n, error

    def __call__(self, done: float, total: float, note: str = "") -> None:
        self.calls += 1
        if self.calls == self.n:
            raise self.error


VARIANTS = {
    "torch": {"learner.engine": "torch"},
    "native": {},  # where it was compiled
    "prioritized": {"replay.prioritized": True, "learner.target": "hard", "learner.target_every": 13},
    "polyak": {"learner.target": "polyak", "network.dueling": True, "network.normalize_obs": False, "replay.n_step": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_and_resumed_equals_uninterrupted(small: TrainConfig, tmp_path: Path, variant: str) -> None:
    config = with_changes(small, VARIANTS[variant])
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(config, whole)
    for stop in (30, 77, 119):  # before learning; in the middle; after a check
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(stop), resume=True)
    trained = train(config, parts, resume=True)
    assert_same_run(whole, parts)
    assert np.array_equal(expected.final.returns, trained.final.returns)
    again = train(config, parts, resume=True)
    assert np.array_equal(expected.final.returns, again.final.returns), "a finished run is only read"
    assert_same_run(whole, parts)


class Picture(Corridor):
    """The corridor seen from above, in stacked frames that change with every step."""

    def __init__(self) -> None:
        super().__init__(length=4, space=spaces.Box(0, 255, (36, 36), np.uint8))

    def observed(self) -> object:
        frame = np.zeros((36, 36), np.uint8)
        frame[:, int(36 * self.start)] = 200
        frame[self.count] = 90
        return frame


@pytest.mark.parametrize("compress", [True, pytest.param(False, marks=pytest.mark.long)])
def test_images_resume_bit_for_bit(small: TrainConfig, tmp_path: Path, compress: bool) -> None:
    name = "test/Picture-v0"
    gymnasium.register(name, lambda: gymnasium.wrappers.FrameStackObservation(Picture(), 4), max_episode_steps=9)
    changes = {"env.id": name, "env.max_episode_steps": None, "network.torso": "nature", "replay.capacity": 90}
    changes |= {"network.normalize_obs": False, "replay.prioritized": True, "replay.compress": compress}
    changes |= {"steps": 160, "learn_start": 100, "learner.batch_size": 4, "evaluation.final_episodes": 2}
    config, whole, parts = with_changes(small, changes), RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    try:
        train(config, whole)
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(32), resume=True)
        train(config, parts, resume=True)
        assert_same_run(whole, parts)
    finally:
        del gymnasium.registry[name]


def test_a_crash_between_checkpoints_repeats_what_was_lost(small: TrainConfig, tmp_path: Path) -> None:
    config = with_changes(small, {"checkpoint_seconds": 0.05})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(config, whole)
    with pytest.raises(ZeroDivisionError):
        train(config, parts, Stop(231, ZeroDivisionError))
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


CHILD = """
import sys
from pathlib import Path
from nimbleq.config import TrainConfig, from_dict
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
import json
def tick(done, total, note=""):
    print(done, flush=True)
train(from_dict(TrainConfig, json.loads(sys.argv[1])), RunDir(Path(sys.argv[2])), tick, resume=True)
"""


def child(config: TrainConfig, run: RunDir, after: int, kill: signal.Signals) -> int:
    """Train in a process of its own and send it ``kill`` after that many steps."""
    words = [sys.executable, "-c", CHILD, json.dumps(to_dict(config)), str(run.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for _ in itertools.islice(process.stdout, after):
            pass
        os.kill(process.pid, kill)
        process.stdout.read()
        return process.wait()


def test_killed_and_interrupted_processes_resume_bit_for_bit(small: TrainConfig, tmp_path: Path) -> None:
    config = with_changes(small, {"checkpoint_seconds": 0.02})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(config, whole)
    assert child(config, parts, 150, signal.SIGKILL) == -signal.SIGKILL
    assert child(config, parts, 40, signal.SIGINT) != 0
    steps_when_interrupted = load_checkpoint(parts.checkpoint)[1]["counters"]["steps"]
    assert steps_when_interrupted < config.steps
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


@pytest.mark.parametrize("beside", [True, False])
def test_ctrl_c_while_a_check_is_played(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """It stops at once, not when thousands of episodes are over; the check is played anew, and no bit differs."""
    changes = {"evaluation.beside": beside, "evaluation.episodes": 40_000, "evaluation.every": 90}
    config = with_changes(small, changes)
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train(config, whole)
    begun, pressed, timers = Checker.start, [], list[threading.Timer]()

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def start(self: Checker, check: EvalJob) -> None:
        if not timers:  # a second signal could come after training, when it ends the tests
            timers.append(threading.Timer(0.02, press))
            timers[0].start()
        begun(self, check)

    with monkeypatch.context() as patch:
        patch.setattr(Checker, "start", start)
        with pytest.raises(KeyboardInterrupt):
            train(config, parts)
        took = time.monotonic() - pressed[0]
    assert took < 10, "well under a second on a quiet machine"
    assert load_checkpoint(parts.checkpoint)[1]["counters"]["best_return"] is None, "the check was not over"
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


def test_checks_in_a_fresh_process_change_nothing(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for engines on a GPU, which a fork could not use."""
    forked, fresh = RunDir(tmp_path / "forked"), RunDir(tmp_path / "fresh")
    train(small, forked)
    methods = []

    def spawn(config: TrainConfig) -> Any:
        methods.append(config)
        return multiprocessing.get_context("spawn")

    monkeypatch.setattr(check_module, "_context", spawn)
    train(small, fresh)
    assert methods, "the context is asked for"
    assert_same_run(forked, fresh)


def test_seconds_are_a_budget_over_all_sittings(small: TrainConfig, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert train(small, run, seconds=1e9).steps == small.steps
    run = RunDir(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        train(small, run, Stop(100))
    spent = load_checkpoint(run.checkpoint)[1]["counters"]["seconds"]
    trained = train(small, run, resume=True, seconds=spent / 2)
    assert trained.steps == 100 * small.envs, "nothing was left"
    assert trained.best_return is not None


def test_when_nobody_reads_its_progress_any_more_it_saves(small: TrainConfig, tmp_path: Path) -> None:
    """As in ``nimbleq train 2>&1 | tee log`` when Ctrl-C ends ``tee`` first."""
    with pytest.raises(BrokenPipeError):
        train(small, RunDir(tmp_path), Stop(60, BrokenPipeError))
    assert load_checkpoint(RunDir(tmp_path).checkpoint)[1]["counters"]["steps"] == 60 * small.envs


def test_a_seed_decides_everything(small: TrainConfig, tmp_path: Path) -> None:
    runs = [RunDir(tmp_path / name) for name in "abc"]
    for run, seed in zip(runs, (1, 1, 2), strict=True):
        train(with_changes(small, {"seed": seed}), run)
    assert_same_run(runs[0], runs[1])
    assert records(runs[0]) != records(runs[2])


def test_without_resume_it_starts_anew(small: TrainConfig, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    first = train(small, run)
    before = records(run)
    assert np.array_equal(train(small, run).final.returns, first.final.returns)
    assert records(run) == before


def test_other_settings_cannot_resume(small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(small, RunDir(tmp_path), Stop(60))
    with pytest.raises(ConfigError, match=r"was started with learner\.lr = 0\.002, not 0\.5"):
        train(with_changes(small, {"learner.lr": 0.5}), RunDir(tmp_path), resume=True)


def test_settings_that_change_no_result_may_change_on_the_way(small: TrainConfig, tmp_path: Path) -> None:
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(small, whole)
    for stop, changes in (
        (30, {"env.workers": 2, "evaluation.beside": False}),
        (77, {"env.workers": 3, "checkpoint_seconds": 0.0}),
        (119, {"checkpoint_seconds": 7.0}),
    ):
        with pytest.raises(KeyboardInterrupt):
            train(with_changes(small, changes), parts, Stop(stop), resume=True)
    trained = train(small, parts, resume=True)
    assert np.array_equal(expected.final.returns, trained.final.returns)
    assert_same_run(whole, parts)


def test_nan_stops_cleanly_with_a_checkpoint(small: TrainConfig, tmp_path: Path) -> None:
    gymnasium.register("test/LateNan-v0", entry_point=LateNan, max_episode_steps=20)
    try:
        config = with_changes(small, {"env.id": "test/LateNan-v0"})
        with pytest.raises(EnvError, match=r"test/LateNan-v0 .* returned NaN in its observation"):
            train(config, RunDir(tmp_path))
    finally:
        del gymnasium.registry["test/LateNan-v0"]
    arrays, values = load_checkpoint(RunDir(tmp_path).checkpoint)
    assert 0 < values["counters"]["steps"] < small.steps
    assert all(np.isfinite(value).all() for name, value in arrays.items() if name.startswith(("learner", "replay")))
    assert records(RunDir(tmp_path)) is not None


class LateNan(Corridor):
    """Goes wrong in the hundredth step of its life."""

    lived = 0

    def step(self, action: object) -> tuple[object, float, bool, bool, dict[str, object]]:
        self.lived += 1
        self.bad_at = self.count + 1 if self.lived >= 100 else -1
        return super().step(action)


def test_a_full_disk_keeps_the_last_checkpoint(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = with_changes(small, {"replay.capacity": 60})  # overwritten as a whole while the disk is full
    run = RunDir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(small, run, Stop(90))
    before = load_checkpoint(run.checkpoint)[1]

    def full(*_: object) -> None:
        raise FileError("cannot write the checkpoint: No space left on device")

    monkeypatch.setattr(state_module, "save_checkpoint", full)
    with pytest.raises(FileError, match="No space left"):
        train(small, run, Stop(20), resume=True)
    monkeypatch.undo()
    assert load_checkpoint(run.checkpoint)[1] == before
    train(small, run, resume=True)


def test_metrics_and_summary_say_what_the_contract_promises(small: TrainConfig, tmp_path: Path) -> None:
    trained = train(with_changes(small, {"updates_per_step": 2}), RunDir(tmp_path))
    lines = [json.loads(line) for line in RunDir(tmp_path).metrics.read_text().splitlines()]
    keys = {"step", "update", "seconds", "loss", "q_mean", "epsilon", "return_mean"}
    assert any(keys <= line.keys() for line in lines)
    assert any("check_return" in line for line in lines)
    summary = trained.summary()
    assert summary.keys() >= {"steps", "train_seconds", "return_mean", "return_ci95", "episodes", "solved", "learner"}
    assert summary["steps"] == 1_000
    assert summary["return_ci95"][0] <= summary["return_mean"] <= summary["return_ci95"][1]
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(("every", "per_step", "updates"), [(1, 1, 113), (10, 1, 11), (10, 3, 33)])
def test_updates_come_in_rounds_between_steps(
    small: TrainConfig, tmp_path: Path, every: int, per_step: int, updates: int
) -> None:
    """1,000 steps of 8 environments are 125; rounds follow the 13th on, or the 20th, 30th … 120th."""
    changes = {"envs": 8, "learn_start": 100, "update_every": every, "updates_per_step": per_step}
    assert train(with_changes(small, changes), RunDir(tmp_path)).updates == updates


def solved(small: TrainConfig, path: Path, stop_return: float) -> Trained:
    return train(with_changes(small, {"evaluation.stop_return": stop_return}), RunDir(path))


def test_training_stops_when_fresh_episodes_confirm(small: TrainConfig, tmp_path: Path) -> None:
    stopped = solved(small, tmp_path / "a", stop_return=8.0)
    assert stopped.solved
    assert stopped.updates < 40
    assert not solved(small, tmp_path / "b", stop_return=501.0).solved


@pytest.mark.parametrize(
    "changes", [{"learner.gamma": 1.5}, {"envs": 0}, {"learner.lr": 0.0}, {"replay.capacity": 1}, {"seed": -1}]
)
def test_impossible_settings_are_named(small: TrainConfig, tmp_path: Path, changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes)).replace(".", r"\.")):
        train(with_changes(small, changes), RunDir(tmp_path))


def test_a_run_too_short_for_a_check_keeps_what_it_learnt(small: TrainConfig, tmp_path: Path) -> None:
    config = with_changes(small, {"evaluation.every": 1_000_000, "evaluation.network": "online"})
    trained = train(config, RunDir(tmp_path))
    arrays, _ = load_checkpoint(RunDir(tmp_path).checkpoint)
    assert trained.best_return is not None
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(value, arrays[f"learner.online.{name}"])
