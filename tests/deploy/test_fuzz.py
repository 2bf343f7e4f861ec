"""Random graphs on every target that runs in seconds, all against the interpreter, shrunk where one disagrees.

``NIMBLEQ_FUZZ=500 python -m pytest -m targets tests/deploy/test_fuzz.py`` is a campaign; without it, it is short.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from tests.strategies import Numbers, Observation, graphs, random_obs

pytestmark = pytest.mark.targets
EXAMPLES = int(os.environ.get("NIMBLEQ_FUZZ", "3"))
SLOW = {"avr", "verilog", "executorch"}
"""Verilog has its own; an AVR has 16 KiB of RAM; torch takes ten seconds to lower a graph."""
HERE = [name for name, row in TARGETS.items() if name not in SLOW and not (row.cannot_emit() or row.cannot_open())]


def disagreements(graph: Graph) -> dict[str, int]:
    """Way to run → answers that are not the interpreter's."""
    golden = make_golden(graph, random_obs(np.random.default_rng(1), graph, 30))
    wrong: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in HERE:
            row, folder = TARGETS[name], Path(scratch, name)
            folder.mkdir()
            try:
                runs = row.open(Source(graph), row.emit(Source(graph), "net", row.options()), "net", folder)
            except UnsupportedOpError:
                continue
            result = verify(graph, golden, runs, 30, rounding=() if row.exact else runs.keys())
            wrong |= {one.target: one.mismatches for one in result.targets if one.mismatches}
    return wrong


@pytest.mark.parametrize(("numbers", "obs"), [("int", "vector"), ("int", "image"), ("float", "any")])
def test_random_graphs_on_every_fast_target(numbers: Numbers, obs: Observation) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graphs(numbers, obs))
    def campaign(graph: Graph) -> None:
        assert not disagreements(graph)

    campaign()
