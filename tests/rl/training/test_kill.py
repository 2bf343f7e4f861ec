"""Kill −9 at random moments and inside checkpoints, again and again: the quick form of tests/tools/kill.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SETTINGS = ("native", "torch", "masks", "images", "pqn")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the loop forks")
@pytest.mark.parametrize(
    ("kills", "settings"), [(2, ("native", "images", "pqn")), pytest.param(5, SETTINGS, marks=pytest.mark.long)]
)
def test_kills_and_not_one_bit_differs(kills: int, settings: tuple[str, ...]) -> None:
    words = [sys.executable, "tests/tools/kill.py", "--kills", str(kills), "--only", *settings]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["setting"] for result in results] == sorted(settings, key=[r["setting"] for r in results].index)
    assert sum(result["kills"] for result in results) == kills * len(settings)
    assert all(result["compared"] > 25 for result in results)
    assert [result["different"] for result in results] == [[]] * len(settings)
