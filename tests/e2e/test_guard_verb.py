"""``nimbleq guard`` and ``nimbleq loop``, and what a guarded artefact is to the other verbs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nimbleq.deploy.toolchain import compile_library, find_compiler
from nimbleq.graph.artefact import attach_certificate, load_artefact

Cli = Any


@pytest.fixture
def guarded(run: Path, inline: Cli) -> Path:
    done = inline("guard", run, "--fallback", "0", "--episodes", "3", "--hold", "1", "--json")
    assert done.code == 0, done.err
    assert done.json["states"] > 0
    return Path(done.json["artefact"])


def test_a_guarded_policy_is_another_policy(run: Path, guarded: Path, inline: Cli, tmp_path: Path) -> None:
    small = load_artefact(run / "artefacts" / "small")
    made = load_artefact(guarded)
    assert made.digest != small.digest
    assert made.certificate is None
    assert made.provenance["parents"] == {"policy": small.digest}
    assert made.guard is not None
    assert made.guard.envelope is not None
    assert json.loads((guarded / "model.json").read_text())["format"] == 3
    assert json.loads((run / "artefacts" / "small" / "model.json").read_text())["format"] < 3
    twice = inline("guard", guarded, "--fallback", "0")
    assert (twice.code, "has a guard already" in twice.err) == (2, True)


def test_certify_plays_it_behind_its_guard(guarded: Path, inline: Cli) -> None:
    done = inline("certify", guarded, "--max-episodes", "4", "--workers", "1", "--json")
    assert done.code in (0, 1), done.err
    assert done.json["guarded"] is True
    held = load_artefact(guarded).certificate
    assert held is not None
    assert held["guarded"] is True
    alone = inline("certify", guarded.parent / "small", "--max-episodes", "4", "--workers", "1", "--json")
    assert alone.json["guarded"] is False
    assert alone.json["student_graph"] != done.json["student_graph"]
    refused = inline("certify", guarded, "--target", "c")
    assert (refused.code, "has a guard" in refused.err) == (2, True)


def test_it_is_exported_with_its_guard_or_not_at_all(guarded: Path, inline: Cli, tmp_path: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("needs a C compiler")
    done = inline("export", guarded, "--to", "c", "--c.loop", "--out", tmp_path / "build", "--json")
    assert done.code == 0, done.err
    assert {"policy_guard.c", "policy_guard.h", "policy_loop.c", "policy_loop.h"} <= done.json["files"].keys()
    texts = {
        file: (tmp_path / "build" / file).read_text()
        for file in ("policy.c", "policy.h", "policy_guard.c", "policy_guard.h")
    }
    compile_library(texts, tmp_path / "lib.so", compiler, ("-O1",))
    named = inline("identify", tmp_path / "lib.so", "--among", guarded.parent, "--json")
    assert named.json["policies"][0]["artefacts"][0]["guard"]
    refused = inline("export", guarded, "--to", "c", "rust", "--out", tmp_path / "other")
    assert (refused.code, "has a guard, which rust cannot run" in refused.err) == (2, True)
    loose = inline("export", guarded.parent / "small", "--to", "c", "--c.loop", "--out", tmp_path / "third")
    assert (loose.code, "needs a guard" in loose.err) == (2, True)


def test_the_loop_runs_and_draws(guarded: Path, inline: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "loop.svg"
    done = inline("loop", guarded, "--hz", "200", "--decisions", "60", "--svg", picture, "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found["periods"] == 60
    assert found["guarded"] is True
    assert found["guard"]["decisions"] == 60
    assert found["misses"] == found["replaced"] + found["skipped"]
    assert (found["joules_per_decision"] is None) == bool(found["why_no_joules"])
    assert picture.read_text().startswith("<svg")


def test_the_loop_refuses_in_one_line(run: Path, guarded: Path, inline: Cli) -> None:
    small = run / "artefacts" / "small"
    for words, said in (
        ((small,), "no guard"), ((small, "--fallback", "9"), "--fallback 9"),
        ((guarded, "--fallback", "0"), "of its own"),
        ((guarded, "--hz", "-1"), "--hz"), ((guarded, "--monitor"), "not certified"),
        ((guarded, "--io", "nowhere_at_all:x"), "no module"), ((guarded, "--svg", "x.png"), ".svg"),
        ((guarded, "--env", "Acrobot-v1"), "something else"),
        ((guarded, "--core", "4096", "--decisions", "2"), "--core"),
    ):  # fmt: skip
        done = inline("loop", *words)
        assert (done.code, said in done.err, done.err.count("\n")) == (2, True, 1), done.err


def test_the_monitor_raises_the_alarm(guarded: Path, inline: Cli) -> None:
    """The certificate says more than this policy of no time at all returns."""
    shown = {
        "certified": True, "keep": 0.99, "teacher_return_mean": 39.0, "random_return_mean": 20.0,
        "return_range": [0.0, 40.0],
    }  # fmt: skip
    attach_certificate(guarded, shown)
    done = inline("loop", guarded, "--hz", "2000", "--decisions", "2500", "--monitor", "--json")
    assert done.json["monitor"]["alarm"], done.json["monitor"]
    assert done.code == 1


def test_ctrl_c_ends_it_with_its_report(guarded: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nimbleq", "loop", str(guarded), "--hz", "50", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "Ctrl-C stops" in process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["hz"] == 50
