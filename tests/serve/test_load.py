"""Twice and three times what the server can do: nothing is late, nothing is lost, and the surplus is refused."""

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.load import closed_loop, open_loop
from tests.serve.support import plain, serving

pytestmark = pytest.mark.skipif(find_spec("kserve") is None, reason="needs nimbleq[serve]")


def test_more_than_it_can_do(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    with serving(plain(tmp_path / "policy"), "--queue", "8") as running:
        closed_loop(running.port, "policy", 4, 0.3)
        capacity = closed_loop(running.port, "policy", 8, 0.5).per_second
        for times in (2, 3):
            counts += open_loop(running.port, "policy", 64, 0.7, times * capacity, timeout_s=0.25).outcomes
        metrics = running.get("/metrics")
    assert counts["late"] == 0, counts
    assert counts["lost"] == 0, counts
    assert counts["in time"] > 0.1 * capacity * 1.4, counts
    assert counts["refused"] > counts["expired"], "the queue is what bounds the waiting"
    assert f'nimbleq_refused_total{{model="policy",transport="http",why="full"}} {counts["refused"]}.0' in metrics
