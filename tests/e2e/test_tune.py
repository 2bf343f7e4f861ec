"""nimbleq tune: a search on CartPole, gone on with, used; and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.rl.training.checkpoint import load_checkpoint
from tests.e2e.support import one_line
from tests.e2e.test_unfinished import metrics, started, wait_for

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
    other = one_line(inline(*words, "--trials", "5", "--steps", "900"))
    assert "was begun with steps = 1600, not 900: give the same options" in other, "it names what differs"
    assert "another space" in one_line(inline(*words[:-5], *words[-3:], "--only", "learner.lr"))
    assert "Too few trials have ended" in page
    assert more.json["importances"] == {}

    saved = json.loads((tmp_path / "out" / "best.json").read_text())
    assert saved["train"]["learner"]["lr"] == pytest.approx(more.json["best"]["learner.lr"])
    run = tmp_path / "run"
    used = inline("train", "--config", tmp_path / "out" / "best.json", "--steps", "640", "--out", run, "--json")
    assert used.code == 0, used.err
    assert used.json["steps"] == 640
    kept = json.loads((run / "config.json").read_text())["train"]
    assert kept["network"]["hidden"] == saved["train"]["network"]["hidden"]
    assert kept["env"]["max_episode_steps"] == 60


ENDLESS = (*SMALL[:4], "--steps", "100000000", "--evaluation.every", "10", "--only", "learner.lr", "learner.batch_size")


def test_seconds_and_seeds(inline: Any, tmp_path: Path) -> None:
    """Two trainings a trial, of 0.3 seconds each whatever the steps; the value is their mean."""
    out = tmp_path / "out"
    words = ("tune", *ENDLESS, "--seconds-per-trial", "0.3", "--seeds", "2", "--seed", "5", "--out", out, "--json")
    done = inline(*words, "--trials", "2")
    assert done.code == 0, done.err
    assert done.json["complete"] == 2
    best, values = out / "trials" / f"{json.loads((out / 'best.json').read_text())['tune']['trial']:04d}", []
    for seed in (5, 6):
        run = best / f"seed{seed}"
        values.append(json.loads((run / "results" / "trial.json").read_text())["return_mean"])
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert any("check_return" in line for line in lines), "one is made at the end at the latest"
        assert not (run / "checkpoint").exists()
    assert done.json["return_mean"] == pytest.approx(np.mean(values))
    assert "2 × 0.3 s a trial" in (out / "tune.html").read_text()
    for name, value, wanted in (
        ("seconds-per-trial", "nan", "positive"),
        ("seconds-per-trial", "inf", "positive"),
        ("seeds", "0", "at least 1"),
    ):  # fmt: skip
        line = one_line(inline("tune", *ENDLESS, "--out", out, f"--{name}", value))
        assert f"--{name} must be {wanted}, not {value}" in line


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.long)]
)
def test_a_trial_that_is_stopped_goes_on(inline: Any, tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out"
    space = ("--only", "learner.lr", "learner.batch_size", "--evaluation.every", "100")
    words = ("tune", *SMALL[:4], "--steps", "50000", *space, "--trials", "1", "--out", out, "--json")
    run = out / "trials" / "0000" / "seed0"
    process = started(*words)
    wait_for(lambda: metrics(run) > 0, process)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == code, told
    assert (run / "checkpoint").exists() == (number != signal.SIGKILL)
    if number != signal.SIGKILL:
        assert "the same command goes on" in told
        before = load_checkpoint(run / "checkpoint")[1]["counters"]["steps"]
        assert 0 < before < 50_000
    done = inline(*words)
    assert done.code == 0, done.err
    assert done.json["trials"] == 1
    assert done.json["best"] == {"learner.lr": 2e-3, "learner.batch_size": 64}, "the preset comes first, still"
    assert [path.name for path in (out / "trials").iterdir()] == ["0000"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if number != signal.SIGKILL:
        assert any(line["step"] <= before for line in lines), "what was learnt before the signal"
    assert lines[-1]["step"] > 40_000
    assert len({line["step"] for line in lines if "loss" in line}) == sum("loss" in line for line in lines)


def test_one_command_at_a_time(inline: Any, tmp_path: Path) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    words = [sys.executable, "-c", hold, str(tmp_path / "lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.read(1)
        assert "another nimbleq command is working" in one_line(inline("tune", *SMALL, "--out", tmp_path))
        assert not (tmp_path / "study.db").exists()


def test_a_search_that_starts_from_a_file_plays_its_environment(inline: Any, tmp_path: Path) -> None:
    file = tmp_path / "start.json"
    words = ("--env", "CartPole-v1", "--max-episode-steps", "50", "--network.hidden", "8", "--steps", "640")
    assert inline("train", *words, "--out", tmp_path / "run").code == 0
    file.write_bytes((tmp_path / "run" / "config.json").read_bytes())
    search = ("tune", "--config", file, "--trials", "1", "--only", "learner.lr", "--evaluation.every", "20", "--json")
    done = inline(*search, "--out", tmp_path / "a")
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "a" / "best.json").read_text())["train"]
    assert (found["env"]["max_episode_steps"], found["network"]["hidden"]) == (50, [8])
    given = inline(*search, "--max-episode-steps", "30", "--env-engine", "gymnasium", "--out", tmp_path / "b")
    assert given.code == 0, given.err
    assert json.loads((tmp_path / "b" / "best.json").read_text())["train"]["env"]["max_episode_steps"] == 30
    for verb in ("tune", "train", "run"):
        line = one_line(inline(verb, "--config", file, "--preset", "rainbow", "--out", tmp_path / "c"))
        assert "--config and --preset" in line
    assert not (tmp_path / "c").exists()


def test_trials_that_diverge_are_given_up(inline: Any, tmp_path: Path) -> None:
    space = tmp_path / "space.json"
    space.write_text(json.dumps({"learner.lr": {"low": 1e29, "high": 1e30}}))
    words = ("--space", space, "--trials", "2", "--out", tmp_path / "out")
    done = inline("tune", *SMALL, "--steps", "12800", *words)
    assert done.code == 0, done.err
    assert "every trial was pruned" in done.out
    assert inline("tune", *SMALL, "--steps", "12800", *words, "--json").json["trials"] == 2


def test_a_search_whose_file_cannot_be_written_is_one_line(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlalchemy, optuna = pytest.importorskip("sqlalchemy"), pytest.importorskip("optuna")

    def full(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(optuna.Study, "ask", full)
    line = one_line(inline("tune", *SMALL, "--trials", "1", "--out", tmp_path / "out"))
    assert "study.db" in line
    assert "disk is full" in line


def test_what_cannot_be_searched_is_one_line(inline: Any, tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    words = ("tune", *SMALL, "--out", tmp_path / "out")
    for content, says in (
        ({"learner.speed": {"low": 1, "high": 2}}, "no setting 'speed'"),
        ({"learner.lr": {"low": 1}}, "learner.lr has to be"),
        ({"learner.gamma": {"low": 0.5, "high": 2.0}}, "learner.gamma must be within 0 and 1"),
        ({"learner.target": {"choices": ["often"]}}, "learner.target"),
        ([], "no search space"),
    ):
        path.write_text(json.dumps(content))
        assert says in one_line(inline(*words, "--space", path))
    assert "no.such is not searched" in one_line(inline(*words, "--only", "no.such"))
    assert "--trials must be at least 1" in one_line(inline(*words, "--trials", "0"))
    assert "no training settings" in one_line(inline("train", "--config", path, "--out", tmp_path / "run"))
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "study.db").write_text("not a database, " * 100)
    assert "study.db is no search" in one_line(inline(*words, "--trials", "1"))


@pytest.mark.long
def test_a_network_that_remembers_is_tuned(inline: Any, tmp_path: Path) -> None:
    space = {"learner.lr": {"low": 1e-3, "high": 1e-2}, "network.memory": {"choices": [4]}}
    (tmp_path / "space.json").write_text(json.dumps(space))
    words = ("--space", tmp_path / "space.json", "--out", tmp_path / "out", "--trials", "1", "--json")
    done = inline("tune", *SMALL, *words)
    assert done.code == 0, done.err
    assert done.json["complete"] == 1
