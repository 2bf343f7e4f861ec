"""The README and the pages of docs, in both languages: their commands are understood, those of the README run."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.cli import VERBS, parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.zh.md"]


def commands(page: Path) -> list[str]:
    """Lines of code that begin with ``nimbleq``, without their comment."""
    found = re.findall(r"^(?: {4})?(nimbleq .*)$", page.read_text(), re.MULTILINE)
    return [line.split("#")[0].strip() for line in found]


ELSEWHERE = {"delivery:Delivery", "your_package:Levers", "examples.connect_four:ConnectFour"}
"""What test_environments_page, test_branches and test_examples run; test_tune runs ``--config``."""
FIRST = {line: page.name for page in reversed(PAGES) for line in commands(page)}
ALL = [(page, line) for line, page in FIRST.items()]
"""Each command once, with the first page that has it."""


def test_there_are_commands() -> None:
    assert {line.split()[1] for name, line in ALL if name == "README.md"} == set(VERBS)


@pytest.mark.parametrize(("page", "line"), ALL)
def test_a_command_is_understood(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its verb and options exist and take these values; what it needs on the disk is another test's."""
    monkeypatch.chdir(tmp_path)
    verb, *words = shlex.split(line)[1:]
    module = importlib.import_module(f"nimbleq.verbs.{VERBS[verb].module or verb}")
    if "--config" in words or {"delivery:Delivery", "your_package:Levers", "examples.connect_four:ConnectFour"} & {
        *words
    }:
        return  # test_tune, test_environments_page, test_branches and test_examples run these
    args = parse(module.arguments(words) if hasattr(module, "arguments") else module.Args, verb, words)
    assert type(args).__name__ == "Args"


QUICKER = {"verify": ["--observations", "500"], "bench": ["--rounds", "1"], "watch": ["--max-frames", "4"]}
"""Verb → options that make it quick."""


@pytest.mark.parametrize("verb", ["report", "bench", pytest.param("doctor", marks=pytest.mark.long), "watch"])
def test_a_command_of_the_readme_runs(
    verb: str, inline: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if verb == "watch":
        pytest.importorskip("PIL")
        pytest.importorskip("pygame")
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "ll")
    monkeypatch.chdir(tmp_path)
    [line] = [line for line in commands(ROOT / "README.md") if line.split()[1] == verb]
    done = inline(*shlex.split(line)[1:], *QUICKER.get(verb, []), "--json")
    assert done.code == 0, done.err
    assert done.json


def test_export_verify_and_runtime_of_the_readme(
    inline: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / "ll")
    monkeypatch.chdir(tmp_path)
    lines = {line.split()[1]: shlex.split(line)[1:] for line in commands(ROOT / "README.md")}
    exported = inline(*lines["export"], "--json")
    assert exported.code == 0, exported.err
    assert {"lander.c", "lander.h", "model.onnx"} <= exported.json["files"].keys()
    assert "lander_act" in (tmp_path / "build" / "lander.h").read_text()
    verified = inline(*lines["verify"], *QUICKER["verify"], "--json")
    assert verified.code == 0, verified.err
    assert verified.json["mismatches"] == 0

    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"observation": np.array([0.01, -0.02, 0.03, 0.04], np.float32)}
    unmasked, masked = code.split("action = policy.act(observation, mask)")
    exec(unmasked, names)
    assert names["action"] in (0, 1)
    assert masked.strip().startswith("#"), "the line with the mask is the last one"
