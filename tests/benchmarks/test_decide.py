"""The benchmark of decisions: names that stay, and what is shown of peers that are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cases import decide
from benchmarks.cases.decide_plot import write_plot
from benchmarks.peers import deciders
from benchmarks.record import Record
from nimbleq.deploy.agreement import is_integer
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def test_networks_come_in_float_and_int8() -> None:
    found = decide.networks()
    assert list(found) == ["4-64-64-2", "8-256-256-4", "Nature CNN"]
    for floats, integers in found.values():
        assert (is_integer(floats), is_integer(integers)) == (False, True)


def fixed(nanoseconds: float) -> Any:
    return lambda graph, obs: lambda calls: np.full(calls, nanoseconds)


def gone(graph: Graph, obs: Array) -> Any:
    raise ImportError("no module named gone")


def test_a_peer_is_timed_or_listed_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("float", "int8")
    peers = {"fast": deciders.DeciderPeer(fixed(1e6), both), "gone": deciders.DeciderPeer(gone, both)}
    monkeypatch.setattr(decide, "DECIDERS", peers)
    monkeypatch.setattr(decide, "ENGINES", (*decide.OURS, *peers, *decide.EMPTY))
    found, missing = decide.timed(decide.networks()["4-64-64-2"][1], 1)
    assert {row.engine: row.p50_us for row in found.rows}["fast"] == pytest.approx(1000)
    assert missing == {"gone": "not installed (no module named gone)"}
    record = Record(tmp_path / "decide.json")
    record.measure("4-64-64-2 int8", lambda: decide.slim(found.to_dict()) | {"macs": 4480, "missing": missing})
    shown = decide.table(record, list(decide.CELLS))
    assert "(fast) |" in shown
    assert "Not measured: gone: not installed" in shown
    write_plot({"4-64-64-2 int8": record.cells["4-64-64-2 int8"]["rows"]}, decide.ENGINES, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.startswith("<svg")
    assert "p50 1e+03 µs" in text
