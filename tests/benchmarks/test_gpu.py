"""Every part of the GPU benchmark, tiny and on the CPU; the sentence that ends it where there is no GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import main
from nimbleq.graph.artefact import load_artefact
from nimbleq.rl.training.train import train
from nimbleq.rundir import open_run
from nimbleq.verbs.common import run_env


def test_without_a_gpu_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["graph", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_graphs_and_eager_are_compared(tmp_path: Path) -> None:
    assert main(["graph", "--smoke", "--env", "CartPole-v1", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "benchmarks/results/gpu-graph.json").read_text())
    assert len(result["rows"]) == 8
    assert result["agrees"]


def test_learning_goes_on_and_leaves_a_teacher(tmp_path: Path) -> None:
    words = ["--smoke", "--env", "CartPole-v1", "--stop", "0", "--out", str(tmp_path)]
    assert main(["learn", *words, "--minutes", "0"]) == 1, "the time was over at once"
    assert main(["learn", *words]) == 0, "solved, and then the run has a teacher"
    run = open_run(tmp_path / "runs" / "gpu" / "cartpole")
    assert run_env(run).id == "CartPole-v1"
    assert run.load_result("train")["episodes"] == 2
    teacher = load_artefact(run.teacher)
    assert run.load_result("train")["teacher_digest"] == teacher.digest
    assert {str(kind) for kind in teacher.graph.storage.values()} == {"dense bf16"}


@pytest.mark.parametrize("stopped", [False, True])
def test_the_best_network_of_an_unsolved_run_stays(
    stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_stopped(*words: Any, **options: Any) -> Any:
        trained = train(*words, **options)
        if stopped:
            raise KeyboardInterrupt
        return trained

    monkeypatch.setattr("benchmarks.gpu.train", until_stopped)
    words = ["--smoke", "--env", "CartPole-v1", "--stop", "1000", "--out", str(tmp_path)]
    assert main(["learn", *words]) == 1, "no return of 20 steps is 1,000"
    run = open_run(tmp_path / "runs" / "gpu" / "cartpole")
    assert load_artefact(run.teacher).graph.actions == 2
    assert not run.load_result("train")["solved"]


def test_speed_is_measured_beside_the_recipe(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    assert main(["check", "--smoke", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "benchmarks/results/gpu-speed.json").read_text())
    assert result["nimbleq"]["ratio"] > 0
    assert result["cleanrl_recipe"]["samples_per_s"] > 0
