"""nimbleq tune: a search on CartPole, gone on with, used; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import one_line

pytest.importorskip("optuna")
SMALL = ("--env", "CartPole-v1", "--max-episode-steps", "60", "--steps", "1600", "--evaluation.every", "10")
SPACE = {
    "learner.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "network.hidden": {"choices": [[8], [16, 8]]},
    "replay.n_step": {"low": 1, "high": 4},
}


def test_three_trials_and_more_later(inline: Any, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    words = ("tune", *SMALL, "--space", tmp_path / "space.json", "--out", tmp_path / "out", "--json")
    first = inline(*words, "--trials", "3")
    assert first.code == 0, first.err
    assert first.json["trials"] == 3
    assert first.json["complete"] >= 1
    assert first.json["best"].keys() == SPACE.keys()
    again = inline(*words, "--trials", "3")
    assert again.json["return_mean"] == first.json["return_mean"], "nothing is left to do"
    more = inline(*words, "--trials", "4")
    assert more.json["trials"] == 4
    assert more.json["return_mean"] >= first.json["return_mean"]
    page = (tmp_path / "out" / "tune.html").read_text()
    assert "learner.lr" in page
    assert "best.json" in page
    assert "<script" not in page
    assert "--space" not in one_line(inline(*words, "--trials", "5", "--steps", "900")), "it names what differs"

    saved = json.loads((tmp_path / "out" / "best.json").read_text())
    assert saved["train"]["learner"]["lr"] == pytest.approx(more.json["best"]["learner.lr"])
    run = tmp_path / "run"
    used = inline("train", "--config", tmp_path / "out" / "best.json", "--steps", "640", "--out", run, "--json")
    assert used.code == 0, used.err
    assert used.json["steps"] == 640
    kept = json.loads((run / "config.json").read_text())["train"]
    assert kept["network"]["hidden"] == saved["train"]["network"]["hidden"]
    assert kept["env"]["max_episode_steps"] == 60


def test_what_cannot_be_searched_is_one_line(inline: Any, tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    words = ("tune", *SMALL, "--out", tmp_path / "out")
    for content, says in (
        ({"learner.speed": {"low": 1, "high": 2}}, "no setting 'speed'"),
        ({"learner.lr": {"low": 1}}, "learner.lr has to be"),
        ({"learner.gamma": {"low": 0.5, "high": 2.0}}, "learner.gamma has to be within 0 and 1"),
        ({"learner.target": {"choices": ["often"]}}, "learner.target"),
        ([], "no search space"),
    ):
        path.write_text(json.dumps(content))
        assert says in one_line(inline(*words, "--space", path))
    assert "no.such is not searched" in one_line(inline(*words, "--only", "no.such"))
    assert "--trials has to be positive" in one_line(inline(*words, "--trials", "0"))
    assert "no training settings" in one_line(inline("train", "--config", path, "--out", tmp_path / "run"))
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "study.db").write_text("not a database, " * 100)
    assert "study.db is no search" in one_line(inline(*words, "--trials", "1"))
