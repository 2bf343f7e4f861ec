"""Greedy checks beside training: the same outcome as in the process itself, and every way they can fail."""

import gc
import multiprocessing
import os
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.learners.device import transfer
from nimbleq.rl.learners.engines import checking_engine, for_playing, make_learner
from nimbleq.rl.training import check as checks
from nimbleq.rl.training.check import Checker, EvalJob, EvalResult
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from tests.rl.envs.test_envs import Corridor
from tests.rl.training.test_train import records

BESIDE = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="checks go beside training where a core is free")


@BESIDE
@pytest.mark.parametrize("stop", [None, 1.0])
def test_a_run_is_the_same_with_checks_beside_it_and_in_between(
    small: TrainConfig, tmp_path: Path, stop: float | None
) -> None:
    runs, trained = [], []
    for beside in (True, False):
        config = with_changes(small, {"evaluation.beside": beside, "evaluation.stop_return": stop})
        runs.append(RunDir(tmp_path / str(beside)))
        trained.append(train(config, runs[-1]))
    one, other = trained
    assert np.array_equal(one.final.returns, other.final.returns)
    assert (one.steps, one.updates, one.best_return, one.solved) == (
        other.steps, other.updates, other.best_return, other.solved,
    )  # fmt: skip
    assert one.solved == (stop is not None)
    if stop is None:  # where it stops, training had gone on for a while
        (arrays, _), (other_arrays, _) = (load_checkpoint(run.checkpoint) for run in runs)
        assert all(np.array_equal(value, other_arrays[name]) for name, value in arrays.items())
        assert records(runs[0]) == records(runs[1])


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_the_average_is_checked_and_kept(engine: str, small: TrainConfig, tmp_path: Path) -> None:
    changes = {"evaluation.network": "average", "evaluation.average_updates": 40, "evaluation.every": 10_000}
    run = RunDir(tmp_path)
    shipped = train(with_changes(small, {**changes, "learner.engine": engine}), run).weights
    arrays, _ = load_checkpoint(run.checkpoint)
    for name, value in shipped.items():
        assert np.array_equal(value, arrays[f"average.weights.{name}"])
    assert not np.array_equal(shipped["advantage.weight"], arrays["learner.online.advantage.weight"])


class OnlyHere(Corridor):
    """Works in the process that imported this file and fails in any other."""

    home = os.getpid()
    fate = "raises"

    def step(self, action: object) -> object:
        if os.getpid() != self.home:
            if self.fate == "dies":
                os._exit(3)
            raise RuntimeError("no simulator here")
        return super().step(action)


@BESIDE
@pytest.mark.parametrize(("fate", "message"), [("raises", "no simulator here"), ("dies", "for a check died")])
def test_what_goes_wrong_in_a_check_ends_the_run_in_one_line(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str, message: str
) -> None:
    gymnasium.register("test/OnlyHere-v0", OnlyHere, max_episode_steps=50)
    monkeypatch.setattr(OnlyHere, "fate", fate)
    monkeypatch.setitem(gymnasium.registry["test/OnlyHere-v0"].kwargs, "length", 9)
    config = with_changes(small, {"env": EnvConfig("test/OnlyHere-v0")})
    run = RunDir(tmp_path / "run")
    with pytest.raises(EnvError, match=message) as caught:
        train(config, run)
    assert "\n" not in str(caught.value)
    assert run.checkpoint.exists(), "what was learnt is kept"
    gymnasium.registry.pop("test/OnlyHere-v0")


class Forgotten:
    """Garbage that only the process it comes from can clear away, as threads of others are not in a fork."""

    def __init__(self) -> None:
        self.me, self.home = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.home:
            os._exit(4)


class Tidy(Corridor):
    """Collects the garbage."""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()


@BESIDE
@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_garbage_from_before_a_fork_stays(small: TrainConfig, tmp_path: Path, workers: int) -> None:
    gymnasium.register("test/Tidy-v0", Tidy, max_episode_steps=5)
    config = with_changes(small, {"env": EnvConfig("test/Tidy-v0", workers=workers), "steps": 400})
    gc.disable()
    try:
        Forgotten()
        train(config, RunDir(tmp_path))
    finally:
        gc.enable()
        gc.collect()
        gymnasium.registry.pop("test/Tidy-v0")


def played(checker: Checker, check: EvalJob) -> object:
    checker.start(check)
    return checker.result(wait=True)


@pytest.mark.parametrize("beside", [True, False])
def test_nobody_waits_for_a_check_after_ctrl_c(small: TrainConfig, beside: bool) -> None:
    config = with_changes(
        small, {"evaluation.beside": beside, "env.max_episode_steps": 10_000, "evaluation.episodes": 400_000}
    )
    pressed: list[bool] = []
    with Checker(config, lambda: bool(pressed)) as checker:
        learner = make_learner(config, spec_of(config.env), 0)
        check = EvalJob(0, 0, 0, -np.inf, learner.weights())
        pressed.append(True)
        with pytest.raises(KeyboardInterrupt):
            played(checker, check)


def test_a_check_whose_training_was_killed_meanwhile_ends_in_silence(
    small: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Player:
        def __init__(self, *_: object) -> None:
            pass

        def play(self, _: EvalJob) -> EvalResult:
            return EvalResult(0.0, 1, False)

    monkeypatch.setattr(checks, "_Player", Player)
    monkeypatch.setattr(checks, "ignore_stop_signals", lambda: None)
    training, checking = multiprocessing.Pipe()
    training.send(EvalJob(0, 0, 0, 0.0, {}))
    checks._serve(small, checking, training, os.getppid())  # closes the end of training, as its death would


def test_what_learns_on_a_gpu_is_checked_there_in_a_fresh_process(
    small: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_changes(small, {"learner.engine": "device", "learner.precision": "bf16"})
    for device, engine, method in (("cpu", False, "fork"), ("cuda", True, "spawn")):
        monkeypatch.setattr(transfer, "choose_device", lambda _, kind=device: torch.device(kind))
        assert (checking_engine(config, spec_of(config.env)).name == "device") == engine
        assert checks._context(config).get_start_method() == method
    assert for_playing(config).learner.precision == "float32", "as what is saved"
