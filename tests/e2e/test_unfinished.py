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

from tests.e2e.support import one_line

WORDS = (
    "--env", "CartPole-v1", "--max-episode-steps", "80", "--network.hidden", "16", "--evaluation.every", "20",
    "--evaluation.episodes", "2", "--evaluation.final-episodes", "4", "--evaluation.stop-return", "None",
)  # fmt: skip


def started(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nimbleq", *map(str, words)], text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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
