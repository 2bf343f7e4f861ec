"""Observations as the environment gives them, on other processors: the same input, actions and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.deploy.raw_samples import RawSamples
from nimbleq.deploy.target import RawRun, Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify_raw
from nimbleq.graph.frames import Frames
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from nimbleq.types import Array
from tests.deploy.c.test_raw import linear

MIXED = Interface(
    Dict((
        ("gear", Discrete(3, -1)),
        ("camera", Box((9, 10, 3), "uint8", 0, 255, "HWC")),
        ("speed", Box((2,), "float64", -9, 9, offset=(0.5, -100.25))),
        ("digits", MultiDiscrete((3, 2), (-1, 7), (2,))),
        ("bits", MultiBinary((3,))),
        ("half", Box((3,), "float16", -2, 2)),
    )),
    4,
    commands=np.array([[-1.5, 0.25], [0.0, 1.0], [2.0, -3.0], [0.5, 0.5]]),
)  # fmt: skip
PLAIN = Interface(Dict((("where", Discrete(5, 10)), ("level", Box((2,), "int16", -300, 300)))), 3, action_start=-1)
MASKED = Interface(
    Dict((("action_mask", MultiBinary((4,))), ("obs", Box((3,), "float32", -1, 1)))), 4, mask="obs:action_mask"
)
SCREENS = Interface(
    Box((2, 21, 32), "uint8", 0, 255, "CHW"), 3, action_start=2, frames=Frames(height=54, width=80, colours=3)
)
INTERFACES = {"mixed": MIXED, "plain": PLAIN, "masked": MASKED, "screens": SCREENS}
QUICK = {"c", "cortex-m4"}
ROWS = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.targets])
    for name, row in TARGETS.items()
    if row.raw is not None
]


def opened(target: str, interface: Interface, folder: Path) -> tuple[Source, dict[str, RawRun]]:
    row, source = TARGETS[target], Source(linear(interface), interface=interface)
    if why := row.cannot_emit() or row.cannot_open():
        pytest.skip(why)
    assert row.raw is not None
    return source, dict(row.raw(source, row.emit(source, "policy", row.options()), "policy", folder))


@pytest.mark.parametrize("kind", INTERFACES)
@pytest.mark.parametrize("target", ROWS)
def test_the_references_answers(target: str, kind: str, tmp_path: Path) -> None:
    source, runs = opened(target, INTERFACES[kind], tmp_path)
    if target == "avr" and kind in ("mixed", "screens"):
        assert not runs, "its double has 32 bits, and it holds no screen"
        return
    results = verify_raw(source, runs, observations=150)
    assert results
    for result in results:
        assert result.observations == (64 if kind == "screens" else 150)
        assert result.mismatches == 0, result


def test_episodes_of_screens_start_where_they_are_said_to(tmp_path: Path) -> None:
    source, runs = opened("c", SCREENS, tmp_path)
    (run,) = runs.values()
    samples = RawSamples.of(np.random.default_rng(0), source.graph, SCREENS, 20)
    firsts = [at for at, raw in enumerate(samples.raws) if raw.first]
    assert firsts == [0, 7, 14]
    assert [not samples.obs[at, 0].any() for at in range(20)] == [at in firsts for at in range(20)]

    def never_reset(raws: Sequence[Any], mask: Array | None) -> tuple[Array, Array, Array]:
        return run([raw._replace(first=False) for raw in raws], mask)

    (result,) = verify_raw(source, {"never reset": never_reset}, observations=20)
    assert result.mismatches == 2  # the second and the third episode


def test_a_wrong_answer_is_a_mismatch(tmp_path: Path) -> None:
    source, runs = opened("c", MIXED, tmp_path)
    (right,) = runs.values()

    def changed(what: int) -> RawRun:
        def run(raws: object, mask: Array | None) -> tuple[Array, Array, Array]:
            answers = list(right(raws, mask))  # type: ignore[arg-type]
            answers[what] = answers[what].copy()
            answers[what][3:5] += 1
            return tuple(answers)  # type: ignore[return-value]

        return run

    for what in range(3):
        (result,) = verify_raw(source, {"changed": changed(what)}, observations=20)
        assert result.mismatches >= 1, what


def test_observations_outside_of_the_space_are_refused(tmp_path: Path) -> None:
    _, runs = opened("c", PLAIN, tmp_path)
    (run,) = runs.values()
    index, _, _ = run([{"where": where, "level": np.zeros(2)} for where in (9, 10, 14, 15)], None)
    np.testing.assert_array_equal(index < 0, [True, False, False, True])
    samples = RawSamples.of(np.random.default_rng(0), linear(MIXED), MIXED, 300)
    assert 5 < samples.refused.sum() < 60
