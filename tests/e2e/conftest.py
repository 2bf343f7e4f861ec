"""One small trained and compressed CartPole run that the command-line tests share."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nimbleq.cli import main
from nimbleq.graph.artefact import load_artefact, save_artefact
from nimbleq.graph.rewrite import fold, for_deployment
from tests.e2e.support import SEARCH_PATH


@dataclass(frozen=True)
class Done:
    """What a command line left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        lines = self.out.splitlines()
        assert len(lines) == 1, f"expected one JSON object on standard output, got {self.out!r}\n{self.err}"
        return json.loads(lines[0])


Cli = Callable[..., Done]


def call(*words: str | Path, **options: Any) -> Done:
    """Run ``nimbleq WORDS`` in a process of its own."""
    env = {**os.environ, "PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    command = [sys.executable, "-m", "nimbleq", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=800, check=False, **options)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def cli() -> Cli:
    return call


@pytest.fixture(scope="session")
def inline() -> Cli:
    """The same in this process: quicker, for what needs no process of its own."""

    def run(*words: str | Path) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
        return Done(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """``nimbleq run`` on CartPole: the run directory and the JSON object."""
    run = tmp_path_factory.mktemp("line") / "cp"
    done = call("run", "--env", "CartPole-v1", "--seed", "11", "--out", run, "--json")
    assert done.code == 0, done.err
    return run, done.json


BRIEF = (
    "--env", "CartPole-v1", "--max-episode-steps", "40", "--network.hidden", "8", "--steps", "640", "--envs", "4",
    "--learn-start", "100", "--evaluation.every", "50", "--evaluation.episodes", "2",
    "--evaluation.final-episodes", "2", "--evaluation.stop-return", "None", "--evaluation.no-beside",
)  # fmt: skip
"""A training that takes no time."""


@pytest.fixture(scope="session")
def brief_run(tmp_path_factory: pytest.TempPathFactory, inline: Cli) -> Path:
    """A run that was trained in no time, and its policy, folded, as the compressed artefact ``small``; copy it."""
    run = tmp_path_factory.mktemp("brief") / "run"
    done = inline("train", *BRIEF, "--out", run)
    assert done.code == 0, done.err
    add_artefact(run, "small")
    return run


def add_artefact(run: Path, name: str) -> Path:
    """The folded teacher of a run as one more artefact of it."""
    teacher = load_artefact(run / "artefacts" / "teacher")
    place = run / "artefacts" / name
    save_artefact(place, fold(for_deployment(teacher.graph)), teacher.golden.obs, {"name": name})
    return place


@pytest.fixture
def run(brief_run: Path, tmp_path: Path) -> Path:
    """A copy of `brief_run`."""
    return Path(shutil.copytree(brief_run, tmp_path / "run"))
