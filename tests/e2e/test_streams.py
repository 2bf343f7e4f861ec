"""What a command prints, and where: one JSON object, whatever happens; streams that are closed, piped or old."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nimbleq import cli
from nimbleq.console import Pace
from nimbleq.verbs import doctor
from tests.e2e.conftest import BRIEF
from tests.e2e.support import SEARCH_PATH
from tests.e2e.test_unfinished import WORDS, metrics, started, wait_for

ENV = {**os.environ, "PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1"}


def shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which ``nimbleq`` is this one."""
    program = f"nimbleq() {{ '{sys.executable}' -m nimbleq \"$@\"; }}; {line}"
    return subprocess.run(
        ["bash", "-c", program], env={**ENV, **env}, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "x", "--rounds", "0"), ("import", "x", "--episodes", "0"), ("export", "x"), ("nosuch",),
        ("train", "--lr", "1"),
        ("verify", "x", "--observations", "-5"), ("certify", "x", "--workers", "-3"), ("watch", "x", "--episodes", "0"),
        ("compress", "x", "--keep", "nan"), ("tune", "--trials", "0"), ("report", "x"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line_and_one_object(inline: Any, words: tuple[str, ...]) -> None:
    done = inline(*words, "--json")
    assert done.code == 2
    assert done.json == {"error": done.err.removeprefix("nimbleq: ").rstrip("\n"), "exit": 2}
    assert done.err.count("\n") == 1
    assert inline(*words).out == ""


def test_a_fault_that_nobody_foresaw_is_one_line_and_one_object(inline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(*_: object) -> None:
        raise ZeroDivisionError("what\nis this")

    monkeypatch.setattr(doctor, "main", main)
    done = inline("doctor", "--json")
    assert done.code == 2
    assert "ZeroDivisionError: what is this (test_streams.py, line " in done.json["error"]
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(ZeroDivisionError):
        inline("doctor")


def test_a_result_that_is_no_json_is_an_error(inline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "main", lambda *_: ({"value": float("nan")}, True))
    assert "error" in inline("doctor", "--json").json


def test_an_environment_that_prints_does_not_spoil_the_object(cli: Any, tmp_path: Path) -> None:
    words = ("train", *BRIEF[4:], "--env", "broken_envs:Talking", "--workers", "2", "--out", tmp_path / "run")
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert done.json["steps"] == 640
    for said in ("a new episode", "from C", "from a child"):
        assert said in done.err


def test_ctrl_c_leaves_one_object(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started("train", *WORDS, "--steps", "100000000", "--out", run, "--json")
    wait_for(lambda: metrics(run) > 300, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert json.loads(out)["exit"] == 130
    assert "everything so far is saved: --resume goes on" in json.loads(out)["error"]


def test_closed_streams(tmp_path: Path) -> None:
    done = shell("nimbleq bench nowhere --json 2>&-")
    assert (done.returncode, json.loads(done.stdout)["exit"]) == (2, 2)
    assert shell("nimbleq --help >&-").returncode == 0
    words = " ".join(map(str, BRIEF))
    done = shell(f"nimbleq train {words} --out {tmp_path}/run --json 2>&- <&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["steps"] == 640
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"stopping" not in path.read_bytes()
    assert shell("nimbleq --help | head -1").stderr == ""


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.long) for name in ("latin-1", "utf-8"))]
)
def test_streams_that_cannot_show_every_character(encoding: str) -> None:
    done = shell(f"nimbleq --help && nimbleq export --help && PYTHONIOENCODING={encoding} nimbleq --help")
    assert done.returncode == 0, done.stderr
    arrow = "→" if encoding == "utf-8" else "->"
    assert f"train {arrow} compress" in done.stdout.split("usage:")[-1]


def on_terminal(words: str, columns: int = 80, **env: str) -> str:
    """What a command shows on a terminal."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in ENV.items() if name not in ("COLUMNS", "LINES")}  # they outweigh its size
    process = subprocess.Popen(
        [sys.executable, *words.split()], stdout=slave, stderr=slave, env={**clean, "TERM": "xterm", **env}
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.wait()
    os.close(master)
    return shown.decode()


def test_no_color_is_honoured() -> None:
    assert "\x1b[" in on_terminal("-m nimbleq export --help")
    page = on_terminal("-m nimbleq export --help", NO_COLOR="1")
    assert "\x1b[" not in page
    assert "--out" in page


PROGRESS = """
import time, nimbleq.console as console
console.PLAIN_SECONDS = 0.0
with console.Console().progress("train CartPole-v1") as tick:
    for done in range(1000, 1800, 100):
        tick(done, 2000, "return 231.0, best 400.0")
        time.sleep(0.11)
"""


def test_progress_on_a_narrow_terminal_and_on_a_dumb_one(tmp_path: Path) -> None:
    program = tmp_path / "progress.py"
    program.write_text(PROGRESS)
    narrow = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_terminal(str(program), columns=40))
    assert re.search(r"\d+ s left", narrow), narrow
    assert [line for line in re.split(r"[\r\n]+", narrow) if len(line) > 40] == []
    dumb = on_terminal(str(program), TERM="dumb")
    assert "\x1b" not in dumb
    assert "train CartPole-v1: 1,500/2,000" in dumb


def test_steps_of_earlier_sittings_do_not_make_training_look_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    pace = Pace()
    assert pace.rate(1_000_000) == 0
    assert pace.rate(1_001_000) == pytest.approx(100)
    assert pace.left(1_001_000, 1_011_000) == "100 s left"


def test_a_new_stage_has_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 60.0, 60.0, 62.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    pace = Pace()
    assert pace.rate(800_000) == 0
    assert pace.rate(1) == 0
    assert pace.rate(2) == pytest.approx(0.5)
