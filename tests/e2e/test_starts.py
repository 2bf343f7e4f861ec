"""Before a command starts: what cannot go well is refused, leaves nothing, and nobody else is working in the folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nimbleq.config import TrainConfig, validate, with_changes
from nimbleq.errors import ConfigError
from nimbleq.verbs import compress, train
from tests.e2e.conftest import BRIEF
from tests.e2e.support import SEARCH_PATH, files_of, one_line
from tests.e2e.test_unfinished import WORDS, metrics, started, wait_for

REFUSED = [
    (("--network.head", "iqn", "--learner.engine", "native"), "no iqn head"),
    (("--max-episode-steps", "0"), "max_episode_steps"),
    (("--max-episode-steps", "100000", "--env-kwargs", "sutton_barto_reward=True", "--workers", "9"), "workers"),
    (("--network.torso", "nature"), ""),
    (("--replay.capacity", "10000000000000"), "memory"),
    (("--env-engine", "envpool", "--env-kwargs", "sutton_barto_reward=True"), "envpool"),
    (("--explore.updates", "-1"), "explore.updates"),
    (("--learn-start", "5000", "--steps", "1e3"), "--learn-start 5000 must be below --steps"),
    (("--preset", ""), "no preset ''"),
    (("--env-kwargs", "nosuch=1"), "nosuch"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED)
def test_a_refused_start_leaves_nothing_behind(inline: Any, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    out = tmp_path / "runs" / "new"
    line = one_line(inline("train", *BRIEF, *words, "--out", out))
    assert says in line
    assert "bug in nimbleq" not in line
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_a_refused_start_stays(inline: Any, tmp_path: Path) -> None:
    out = tmp_path / "new"
    out.mkdir()
    (out / "notes").write_text("mine")
    one_line(inline("train", *BRIEF, "--network.head", "iqn", "--learner.engine", "native", "--out", out))
    assert files_of(out) == {"notes": b"mine"}
    assert inline("train", *BRIEF, "--out", out).code == 0, "the corrected command runs"
    assert (out / "notes").read_text() == "mine"


EXCEPT = {"network.v_min", "network.v_max", "learner.munchausen_clip", "evaluation.stop_return"}
"""Settings that may be far below zero."""


def numbers(config: Any, prefix: str = "") -> list[str]:
    found = []
    for name, value in vars(config).items():
        if hasattr(value, "__dataclass_fields__"):
            found += numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(f"{prefix}{name}")
    return found


@pytest.mark.parametrize("name", [*numbers(TrainConfig()), "env.max_episode_steps", "env.discretize"])
def test_every_number_has_a_range(name: str) -> None:
    if name not in EXCEPT:
        with pytest.raises(ConfigError, match=name.removeprefix("env.")):
            validate(with_changes(TrainConfig(), {name: -1_000_000_000}))


def test_a_budget_in_which_nothing_is_learnt_is_said(inline: Any, tmp_path: Path) -> None:
    done = inline("train", "--env", "CartPole-v1", "--steps", "320", "--evaluation.final-episodes", "2",
                  "--out", tmp_path / "run")  # fmt: skip
    assert done.code == 0, done.err
    assert "nothing will be learnt: learning starts after 1,000 steps" in done.out


def test_a_run_that_is_not_there_is_not_resumed_as_another(inline: Any, tmp_path: Path) -> None:
    line = one_line(inline("train", "--resume", "--out", tmp_path / "misspelt"))
    assert "there is no run in" in line
    assert "--env" in line
    assert list(tmp_path.iterdir()) == []


def test_run_knows_before_it_trains_what_cannot_be_exported(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert "unknown target foo" in one_line(inline("run", *BRIEF, "--to", "foo", "--out", out))
    assert "identifier" in one_line(inline("run", *BRIEF, "--name", "9x", "--out", out))
    assert "zip" in one_line(inline("run", *BRIEF, "--recipe", "zip", "--out", out))
    assert "--keep" in one_line(inline("run", *BRIEF, "--keep", "2", "--out", out))
    here = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "onnx" else here(name, *more))
    assert "pip install 'nimbleq[onnx]'" in one_line(inline("run", *BRIEF, "--out", out))
    assert not out.exists()


def test_what_is_no_better_than_random_play_is_not_compressed(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(compress, "compress_run", lambda *_, **__: pytest.fail("it was compressed all the same"))
    run = tmp_path / "run"
    words = ("run", *BRIEF[4:], "--env", "broken_envs:Faulty", "--to", "c", "--out", run)
    assert "(return 0.0) is no better than random play (0.0)" in one_line(inline(*words))
    assert "is no better than random play" in one_line(inline("compress", run))
    assert (run / "artefacts" / "teacher").is_dir(), "what was trained is kept"


@pytest.mark.long
def test_two_commands_in_one_run(inline: Any, cli: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("train", *WORDS, "--steps", "100000000", "--out", run, "--checkpoint-seconds", "0.1")
    process = started(*words)
    wait_for(lambda: metrics(run) > 300 and (run / "checkpoint" / "best.safetensors").exists(), process)
    for second in (("train", "--resume", "--out", run), ("run", *WORDS, "--out", run), ("compress", run)):
        assert "another nimbleq command is working" in one_line(cli(*second)), second
    assert cli("watch", run, "--json").code == 0, "reading is allowed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "was started with steps" in one_line(cli("train", "--resume", "--out", run, "--steps", "9"))


def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine without one."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("nimbleq.deploy.toolchain.zig", lambda: None)


def broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is one, but it compiles nothing."""
    (tmp_path / "bin").mkdir()
    for name in ("cc", "gcc", "clang"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'error: no headers' >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def no_execution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cache and temporary folder are mounted noexec: the loader refuses what lies there."""

    def refuse(path: str, *_: object) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("machine", [pytest.param(no_compiler, marks=pytest.mark.long), broken_compiler, no_execution])
def test_without_c_the_rest_goes_on_and_says_so(
    inline: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Any
) -> None:
    pytest.importorskip("onnxruntime")
    machine(monkeypatch, tmp_path)
    build = tmp_path / "build"
    assert inline("export", run, "--to", "c", "onnx", "--out", build).code == 0
    done = inline("verify", build, "--observations", "100", "--json")
    assert done.code == 0, done.err
    assert [row["target"] for row in done.json["targets"]] == ["onnx"]
    assert list(done.json["skipped"]) == ["c"]
    assert "c was not verified: " in done.err
    timed = inline("bench", run, "--rounds", "1", "--flash", "cortex-m4", "--json")
    assert timed.code == 0, timed.err
    assert "nimbleq-c" not in {row["engine"] for row in timed.json["rows"]}
    assert "without C: " in timed.err
    alone = tmp_path / "alone"
    assert inline("export", run, "--to", "c", "--out", alone).code == 0
    assert "nothing of" in one_line(inline("verify", alone))


def test_a_compiler_that_refuses_the_code_is_no_missing_compiler(inline: Any, run: Path, tmp_path: Path) -> None:
    from nimbleq.deploy.toolchain import CompileError, NoCompilerError, compile_library, find_compiler

    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no compiler")
    with pytest.raises(CompileError, match="refused the code") as refused:
        compile_library({"a.c": "int f(void) { return x; }"}, tmp_path / "a.so", compiler)
    assert not isinstance(refused.value, NoCompilerError)


def test_missing_extensions_are_said(inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "missing_extensions", lambda: ["_learner", "_envs"])
    done = inline("train", *BRIEF, "--out", tmp_path / "run")
    assert "without its compiled parts (_learner, _envs)" in done.out


def read_only(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """``nimbleq WORDS`` by somebody whom the modes of files bind, also when the tests are run by root."""
    command = [sys.executable, "-m", "nimbleq", *map(str, words)]
    if os.geteuid() == 0:
        tool = shutil.which("setpriv")
        if tool is None:
            pytest.skip("root may write everywhere")
        drop = "-dac_override,-dac_read_search"
        command = [tool, f"--bounding-set={drop}", f"--inh-caps={drop}", *command]
    env = {**os.environ, "PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=800, check=False)


@pytest.mark.long
def test_a_run_that_cannot_be_written_is_still_read(inline: Any, run: Path) -> None:
    build = run / "build"
    assert inline("export", run, "--to", "c", "--out", build).code == 0
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    (run / "lock").chmod(0o444)
    try:
        verified = read_only("verify", build, "--observations", "100")
        resumed = read_only("train", "--resume", "--out", run)
        certified = read_only("certify", run, "--keep", "0.01", "--max-episodes", "20", "--workers", "1")
        compressed = read_only("compress", run)
        reported = read_only("report", run)
        watched = read_only("watch", run, "--max-frames", "2")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert verified.returncode == 0, verified.stderr
    assert "not saved for the report: cannot write" in verified.stdout
    assert resumed.returncode == 0, resumed.stderr
    assert "trained CartPole-v1 in" in resumed.stdout
    assert certified.returncode in (0, 1), certified.stderr
    assert "over " in certified.stdout or "refused" in certified.stdout
    assert "the verdict is shown but not saved" in certified.stdout
    assert watched.returncode == 0, watched.stderr
    assert "episode 1: return" in watched.stdout
    assert "no GIF: " in watched.stdout
    for refused in (compressed, reported):
        assert refused.returncode == 2
        assert refused.stderr.startswith("nimbleq: cannot write"), refused.stderr
