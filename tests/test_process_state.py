"""No public function leaves the process changed for the code around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nimbleq

PUBLIC = [name for name in nimbleq.__all__ if name != "__version__"]


@pytest.fixture(scope="module", params=["", pytest.param("--reversed", marks=pytest.mark.long)])
def changed(request: pytest.FixtureRequest) -> dict[str, dict[str, list[str]]]:
    program = [sys.executable, str(Path(__file__).with_name("process_state.py")), request.param]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", PUBLIC)
def test_the_process_is_as_it_was(changed: dict[str, dict[str, list[str]]], name: str) -> None:
    assert changed[name] == {}
