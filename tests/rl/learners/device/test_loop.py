"""Training on the device end to end: repeatable, resumable bit for bit, overlapped with a fixed lag."""

import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from nimbleq import cli
from nimbleq.config import TrainConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.learners.device.learner import DeviceLearner
from nimbleq.rl.learners.device.replay import DeviceReplay
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Step
from tests.rl.saved import assert_same_run
from tests.rl.training.test_train import Picture, Stop

DEVICE = {"learner.engine": "device", "learner.device": "cpu", "evaluation.beside": False}


def test_interrupted_and_resumed_equals_uninterrupted(small: TrainConfig, tmp_path: Path) -> None:
    config = with_changes(small, DEVICE | {"replay.prioritized": True, "network.noisy": True, "steps": 600})
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    expected = train(config, whole)
    for stop in (30, 77):  # before learning; in the middle
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(stop), resume=True)
    trained = train(config, parts, resume=True)
    assert_same_run(whole, parts)
    assert np.array_equal(expected.final.returns, trained.final.returns)
    assert trained.learner == "device"


def test_images_in_bf16_resume_bit_for_bit(small: TrainConfig, tmp_path: Path) -> None:
    name = "test/DevicePicture-v0"
    gymnasium.register(name, lambda: gymnasium.wrappers.FrameStackObservation(Picture(), 4), max_episode_steps=9)
    changes = DEVICE | {"env.id": name, "env.max_episode_steps": None, "network.torso": "nature"}
    changes |= {"replay.capacity": 90, "network.normalize_obs": False, "learner.precision": "bf16", "steps": 132}
    changes |= {"learn_start": 100, "learner.batch_size": 4, "evaluation.final_episodes": 2, "evaluation.episodes": 2}
    config, whole, parts = with_changes(small, changes), RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    try:
        train(config, whole)
        with pytest.raises(KeyboardInterrupt):
            train(config, parts, Stop(29), resume=True)
        train(config, parts, resume=True)
        assert_same_run(whole, parts)
    finally:
        del gymnasium.registry[name]


def test_updates_go_on_while_a_step_is_played_and_see_the_steps_before_it(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of the environments ends only after the updates beside it: in one thread that would never end."""
    learnt, sizes = threading.Semaphore(0), []
    real_step, real_learn = VectorEnv.step, DeviceLearner.learn
    steps = 0

    def step(self: VectorEnv, action: Array) -> Step:
        nonlocal steps
        outcome = real_step(self, action)
        steps += 1
        if steps > 100 // 4:  # learning has begun
            assert learnt.acquire(timeout=300), "nothing was learnt beside this step"
        return outcome

    def learn(self: DeviceLearner, replay: DeviceReplay) -> None:
        real_learn(self, replay)
        sizes.append(int(replay.size))
        learnt.release()

    monkeypatch.setattr(VectorEnv, "step", step)
    monkeypatch.setattr(DeviceLearner, "learn", learn)
    train(with_changes(small, DEVICE | {"steps": 140, "learn_start": 100, "replay.n_step": 1}), RunDir(tmp_path))
    assert sizes == list(range(100, 140, 4))


def test_a_missing_gpu_ends_the_command_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "run"
    assert cli.main(["train", "--learner.engine", "device", "--learner.device", "cuda", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no CUDA device" in error
    assert not out.exists()


def test_an_environment_that_fails_ends_the_run_in_one_error(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: VectorEnv, action: Array) -> Step:
        raise EnvError("broken")

    monkeypatch.setattr(VectorEnv, "step", step)
    with pytest.raises(EnvError, match="broken"):
        train(with_changes(small, DEVICE), RunDir(tmp_path))
