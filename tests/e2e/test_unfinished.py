"""Runs that are not over: Ctrl-C, their best network, and W&B that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from nimbleq.rl.training.checkpoint import load_checkpoint
from tests.e2e.support import SEARCH_PATH, one_line

WORDS = (
    "--env", "CartPole-v1", "--max-episode-steps", "80", "--network.hidden", "16", "--evaluation.every", "20",
    "--evaluation.episodes", "2", "--evaluation.final-episodes", "4", "--evaluation.stop-return", "None",
)  # fmt: skip


def started(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nimbleq", *map(str, words)], text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SEARCH_PATH}, **options,
    )  # fmt: skip


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def metrics(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


def test_the_best_network_so_far_can_be_watched(inline: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started("train", *WORDS, "--steps", "100000000", "--out", run, "--checkpoint-seconds", "0.1")
    wait_for((run / "checkpoint" / "best.safetensors").exists, process)
    process.kill()
    process.communicate()
    weights = load_file(run / "checkpoint" / "best.safetensors")
    assert weights["body.0.weight"].shape == (16, 4)
    done = inline("watch", run, "--json")
    assert done.code == 0, done.err
    assert len(done.json["returns"]) == 1
    provenance = json.loads((run / "artefacts" / "teacher" / "provenance.json").read_text())
    assert len(provenance["best"]) == 64, "it says which network it was made from"


def test_sigterm_stops_like_ctrl_c(inline: Any, tmp_path: Path) -> None:
    """Also when the whole group gets it: the process of the checks and the workers leave it to training."""
    run = tmp_path / "run"
    words = ("train", *WORDS, "--out", run, "--checkpoint-seconds", "100", "--workers", "2")
    process = started(*words, "--steps", "100000000", start_new_session=True)
    wait_for(lambda: metrics(run) > 500, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 143, told
    assert "stopped; everything so far is saved" in told
    assert "Traceback" not in told
    assert steps_of(run) > 0
    assert "steps = 100000000, not 9" in one_line(inline("train", "--out", run, "--resume", "--steps", "9"))


def test_an_environment_that_hangs_can_be_stopped(tmp_path: Path) -> None:
    """The first Ctrl-C waits for the end of the step, the second one does not; the last checkpoint stands."""
    run = tmp_path / "run"
    env = ("--env", "broken_envs:Hanging", "--env-kwargs", f"folder={tmp_path}", "--max-episode-steps", "50")
    words = ("train", *env, *WORDS[4:6], "--evaluation.every", "1000000", "--checkpoint-seconds", "0.01")
    process = started(*words, "--learn-start", "100000", "--out", run)
    wait_for((run / "checkpoint" / "state.safetensors").exists, process)
    (tmp_path / "hang").touch()
    wait_for((tmp_path / "hung").exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    assert "once more: at once" in told
    assert "stopped; the last checkpoint is intact" in told
    assert steps_of(run) > 0


def steps_of(run: Path) -> int:
    return int(load_checkpoint(run / "checkpoint")[1]["counters"]["steps"])


def test_wandb_offline_and_resumed_as_the_same_run(inline: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    words = ("train", *WORDS, "--out", run, "--checkpoint-seconds", "0.1", "--log.wandb", "offline")
    process = started(*words, "--steps", "60000")
    wait_for(lambda: metrics(run) > 2_000, process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    identity = json.loads((run / "wandb.json").read_text())["id"]
    done = inline("train", "--out", run, "--resume")
    assert done.code == 0, done.err
    assert json.loads((run / "wandb.json").read_text())["id"] == identity
    files = sorted((run / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert len(files) == 2, "two sittings, one run"
    assert all(b"learner" in path.read_bytes() and b"check_return" in path.read_bytes() for path in files)


def test_wandb_that_is_not_installed_is_one_line(inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = one_line(inline("train", *WORDS, "--out", tmp_path / "run", "--log.wandb", "offline"))
    assert "pip install 'nimbleq[wandb]'" in line
    assert not (tmp_path / "run").exists()
