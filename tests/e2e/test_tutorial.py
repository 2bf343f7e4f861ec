"""docs/tutorial.md: its commands, one after the other, from nothing to a program for a board."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_pages import ROOT, commands

PAGE = ROOT / "docs" / "tutorial.md"
LINES = [shlex.split(line)[1:] for line in commands(PAGE)]
TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm", "avr-gcc", "simavr")
QUICKER = {"compress": ["--select-episodes", "300"], "verify": ["--observations", "2000"], "bench": ["--rounds", "1"]}
"""Verb → options that make it quick."""


def consoles() -> list[str]:
    """Shell commands that run here; those that write to a board do not."""
    here, _ = PAGE.read_text().split("\n## Flash\n")
    return re.findall(r"^\$ (.*)$", here, re.MULTILINE)


def test_the_order_of_the_commands() -> None:
    verbs = [words[0] for words in LINES]
    assert verbs == [
        "doctor", "train", "compress", "certify", "guard", "certify", "export", "bench", "verify", "identify",
    ]  # fmt: skip
    assert len(consoles()) == 1
    assert "not run here" in PAGE.read_text().split("\n## Flash\n")[1]


@pytest.mark.long
def test_the_commands_in_their_order(inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    for words in LINES[1:]:
        done = inline(*words, *QUICKER.get(words[0], []), "--json")
        assert done.code == 0, f"nimbleq {' '.join(words)}: {done.err}"
        if words[0] == "verify":
            assert done.json["mismatches"] == 0
        if words[0] == "certify":
            assert done.json["certified"]
    for line in consoles():
        told = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert told.returncode == 0, f"{line}: {told.stderr}"
    assert "16 guarded golden vectors, 0 mismatches" in told.stdout + told.stderr, "the last one is the self-test"
