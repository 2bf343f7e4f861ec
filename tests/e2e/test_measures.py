"""``--target NAME --max-cost N``: what a decision costs where it will run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.compress.students.mlp import mlp_student
from nimbleq.deploy import footprint
from nimbleq.deploy.target import Footprint
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.tensor import TensorType
from nimbleq.rundir import RunDir
from nimbleq.verbs.measures import MEASURES
from tests.e2e.support import one_line


def test_every_target_whose_instructions_are_counted_can_bound_them() -> None:
    assert set(MEASURES) == {"c", *(name for name, row in TARGETS.items() if row.footprint is not None)}


def test_more_layers_execute_more_on_a_microcontroller() -> None:
    """Emulated where the cross compiler and qemu are here."""
    row = TARGETS["cortex-m4"]
    if row.cannot_open():
        pytest.skip(str(row.cannot_open()))
    rng = np.random.default_rng(0)
    networks = (mlp_student(TensorType((4,)), hidden, 2, rng.random((50, 4)), rng) for hidden in ((), (8, 8)))
    (small, unit), (large, _) = (MEASURES["cortex-m4"].of(network) for network in networks)
    assert unit == "instructions"
    assert 0 < small < large


def test_a_bound_that_nothing_keeps_is_one_line(inline: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Footprint("cortex-m4", 860, 40, 40, 24, 1_234, "instructions", "gcc -Os")
    row = replace(TARGETS["cortex-m4"], footprint=lambda *_: known)
    monkeypatch.setitem(footprint.TARGETS, "cortex-m4", row)
    monkeypatch.setattr("nimbleq.verbs.compress.require_better_than_random", lambda *_: None)
    monkeypatch.setattr("nimbleq.compress.search.search.out_of_reach", lambda *_: "")
    for bound, told in (
        (("--max-cost", "1000"), "has 1,234 instructions on cortex-m4, the limit is 1,000"),
        (("--max-flash", "800", "--max-cost", "2000"), "has 900 bytes of flash on cortex-m4, the limit is 800"),
        (("--max-ram", "63"), "has 64 bytes of RAM and stack on cortex-m4, the limit is 63"),
    ):
        words = ("--target", "cortex-m4", *bound, "--passes", "fold", "--no-scratch", "--workers", "1")
        assert told in one_line(inline("compress", run, *words))


def test_a_missing_emulator_is_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uncounted = Footprint("avr", 900, 0, 0, None, None, "cycles", "gcc -Os")
    monkeypatch.setitem(footprint.TARGETS, "avr", replace(TARGETS["avr"], footprint=lambda *_: uncounted))
    graph = load_artefact(RunDir(run).teacher).graph
    with pytest.raises(ConfigError, match="--target avr counts what a decision executes, and its emulator is not"):
        MEASURES["avr"].of(graph)
