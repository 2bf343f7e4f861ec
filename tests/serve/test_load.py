"""Twice what the server can do: nothing is late, nothing is lost, and the surplus is refused."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.load import closed_loop, open_loop
from tests.serve.support import plain, serving

pytestmark = pytest.mark.skipif(find_spec("kserve") is None, reason="needs nimbleq[serve]")


def test_twice_what_it_can_do(tmp_path: Path) -> None:
    with serving(plain(tmp_path / "policy"), "--queue", "8") as running:
        closed_loop(running.port, "policy", 4, 0.3)
        capacity = closed_loop(running.port, "policy", 8, 0.7).per_second
        load = open_loop(running.port, "policy", 64, 2.0, 2 * capacity, timeout_s=0.25)
        metrics = running.get("/metrics")
    counts = load.outcomes
    assert counts["late"] == 0, counts
    assert counts["lost"] == 0, counts
    assert counts["in time"] > 0.1 * capacity * 2.0, counts
    assert counts["refused"] > counts["expired"], "the queue is what bounds the waiting"
    assert f'nimbleq_refused_total{{model="policy",transport="http",why="full"}} {counts["refused"]}.0' in metrics
