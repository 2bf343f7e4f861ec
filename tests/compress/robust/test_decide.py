"""Verdicts against what can be known otherwise: every integer input, dense samples, the competition's own verdicts."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.robust.decide import decide
from nimbleq.compress.robust.search import Limits, search
from nimbleq.compress.robust.subject import levels_of, subject_of
from nimbleq.compress.robust.vnnlib import Disjunct, read_property
from nimbleq.compress.states import action_gap
from nimbleq.graph.graph import ACTION, Graph
from nimbleq.graph.interpret import interpret, trace
from tests.compress.robust.engines import ENGINES

LIMITS = Limits(20.0)


def flips(chosen: int, actions: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each other action: the row and bound with which it is taken instead, ties to the lowest index."""
    found = []
    for other in range(actions):
        if other != chosen:
            row = np.zeros((1, actions))
            row[0, chosen], row[0, other] = 1.0, -1.0
            found.append((row, np.zeros(1)))
    return found


def all_levels(graph: Graph, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """An observation for each combination of levels in the box."""
    levels = levels_of(graph)
    assert levels is not None
    grid = [np.linspace(a, b, 4001, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    steps = []
    for feature, values in enumerate(grid):
        probe = np.repeat(low[None], len(values), axis=0).astype(np.float32)
        probe[:, feature] = values
        at = levels.of(probe)[:, levels.feature.tolist().index(feature)]
        steps.append([values[np.flatnonzero(at == level)[0]] for level in np.unique(at)])
    return np.array(list(itertools.product(*steps)), np.float32)


@pytest.mark.parametrize("engine", ENGINES)
def test_integer_verdicts_are_those_of_all_integer_inputs(mlp, engine: str) -> None:
    seen = set()
    for seed in range(6):
        float_graph, obs = mlp(seed, 3, (7, 5), 3)
        graph = quantize(float_graph, obs)
        deviation, close = obs.std(axis=0), obs[action_gap(interpret(graph, obs)["q"]).argsort()[2:40:12]]
        for radius in (0.02, 0.06, 0.15):
            for centre in close:
                low, high = centre - radius * deviation, centre + radius * deviation
                outputs = trace(graph, all_levels(graph, low, high))["q_sums"]
                for row, bound in flips(int(interpret(graph, centre[None])[ACTION][0]), 3):
                    found = decide(graph, [Disjunct(low, high, row, bound)], LIMITS, ENGINES[engine])
                    expected = "sat" if (outputs @ row[0] <= 0).any() else "unsat"
                    assert found.verdict == expected
                    seen.add(expected)
                    if found.witness is not None:
                        inside = (low <= found.witness) & (found.witness <= high)
                        assert inside.all()
                        assert trace(graph, found.witness[None])["q_sums"][0] @ row[0] <= 0
    assert seen == {"sat", "unsat"}


@pytest.mark.parametrize("engine", ENGINES)
def test_float_verdicts_never_contradict_dense_samples(mlp, engine: str) -> None:
    seen = set()
    for seed in range(4):
        graph, obs = mlp(seed, 2, (12, 12), 3)
        deviation, rng = obs.std(axis=0), np.random.default_rng(seed)
        for centre in obs[:6]:
            radius = rng.choice([0.05, 0.3, 1.0])
            low, high = centre - radius * deviation, centre + radius * deviation
            axes = [np.linspace(a, b, 120) for a, b in zip(low, high, strict=True)]
            grid = np.stack([part.reshape(-1) for part in np.meshgrid(*axes)], axis=1).astype(np.float32)
            q = interpret(graph, grid)["q"]
            for row, bound in flips(int(interpret(graph, centre[None])[ACTION][0]), 3):
                found = decide(
                    graph, [Disjunct(low.astype(float), high.astype(float), row, bound)], LIMITS, ENGINES[engine]
                )
                sampled = (q @ row[0] <= 0).any()
                assert found.verdict in (("sat",) if sampled else ("sat", "unsat"))
                assert found.verdict == "unsat" or found.witness is not None
                seen.add(found.verdict)
    assert seen == {"sat", "unsat"}


@pytest.mark.parametrize("engine", ENGINES)
def test_conjunctions_need_one_input_that_does_it_all(mlp, engine: str) -> None:
    """An action is the largest somewhere exactly if samples find it; each comparison alone is possible more often."""
    graph, obs = mlp(0, 2, (10,), 5)
    low, high = obs.min(axis=0).astype(float), obs.max(axis=0).astype(float)
    axes = [np.linspace(a, b, 400) for a, b in zip(low, high, strict=True)]
    grid = np.stack([part.reshape(-1) for part in np.meshgrid(*axes)], axis=1).astype(np.float32)
    taken = set(interpret(graph, grid)[ACTION].tolist())
    for action in range(5):
        rows = -np.delete(np.eye(5)[action] - np.eye(5), action, axis=0)
        found = decide(graph, [Disjunct(low, high, rows, np.zeros(4))], LIMITS, ENGINES[engine])
        assert (found.verdict == "sat") == (action in taken)
        if found.witness is not None:
            assert interpret(graph, found.witness[None])["q"][0].argmax() == action
    assert 1 < len(taken) < 5


@pytest.mark.parametrize("engine", ENGINES)
def test_limits_end_the_search(mlp, engine: str) -> None:
    graph, obs = mlp(0, 8, (40, 40), 3)
    low, high = obs.min(axis=0).astype(float), obs.max(axis=0).astype(float)
    rows = np.array([[1.0, -1, 0], [-1, 1, 0]])
    asked = [Disjunct(low, high, rows, np.array([-1e-5, 0.0]))]  # impossible, but only just
    found = decide(graph, asked, Limits(60.0, 40), ENGINES[engine])
    assert found.verdict == "unknown"
    assert found.boxes <= 400
    assert decide(graph, asked, Limits(0.05), ENGINES[engine]).verdict == "unknown"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tie_within_rounding_is_not_called_unsat(mlp, engine: str) -> None:
    """``q₀ ≤ q₀ − 1e−9·…``: real arithmetic says no, float32 cannot tell."""
    graph, obs = mlp(1, 3, (6,), 2)
    point = obs[0].astype(float)
    difference = float(np.subtract(*interpret(graph, obs[:1])["q"][0].astype(float)))
    row = np.array([[1.0, -1.0]])
    found = decide(graph, [Disjunct(point, point, row, np.array([difference - 1e-8]))], LIMITS, ENGINES[engine])
    assert found.verdict == "unknown"
    assert (
        decide(graph, [Disjunct(point, point, row, np.array([difference - 1]))], LIMITS, ENGINES[engine]).verdict
        == "unsat"
    )
    assert (
        decide(graph, [Disjunct(point, point, row, np.array([difference + 1]))], LIMITS, ENGINES[engine]).verdict
        == "sat"
    )


def test_pixels_are_integers_without_levels(cnn) -> None:
    graph, obs = cnn(0)
    assert subject_of(graph).network.integer
    quantized = quantize(graph, obs)
    found = subject_of(quantized)
    assert found.network.exact
    assert found.levels is None
    action = int(interpret(quantized, obs[:1])[ACTION][0])
    pixels = obs[0].reshape(-1).astype(float)
    for row, bound in flips(action, 4):
        high = pixels.copy()
        high[:2] = np.minimum(pixels[:2] + 3, 255)
        asked = [Disjunct(pixels, high, row, bound)]
        grid = np.array(
            list(itertools.product(*(np.arange(a, b + 1) for a, b in zip(pixels[:2], high[:2], strict=True))))
        )
        images = np.repeat(pixels[None], len(grid), axis=0)
        images[:, :2] = grid
        q = interpret(quantized, images.reshape(-1, 3, 10, 10).astype(np.uint8))["q"]
        assert decide(quantized, asked, LIMITS, search).verdict == ("sat" if (q @ row[0] <= 0).any() else "unsat")


VNNCOMP = os.environ.get("NIMBLEQ_VNNCOMP")


@pytest.mark.skipif(VNNCOMP is None, reason="NIMBLEQ_VNNCOMP names the folder of VNN-COMP's rl_benchmarks")
def test_the_verdicts_of_the_competition() -> None:
    pytest.importorskip("onnx")
    from nimbleq.bridge.onnx import read_onnx

    folder = Path(VNNCOMP or "")
    graphs: dict[str, Graph] = {}
    with (folder / "instances.csv").open() as lines:
        for line in csv.DictReader(lines):
            name = line["network"]
            if name not in graphs:
                graphs[name] = read_onnx(folder / "onnx" / name)
            graph = graphs[name]
            asked = read_property(folder / "vnnlib" / f"{line['property']}.gz", graph.obs_type.size, graph.actions)
            assert decide(graph, asked, Limits(60.0)).verdict == line["verdict"], line["property"]
