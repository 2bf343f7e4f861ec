"""Maps of visited states against every integer input and dense samples; student and teacher side by side."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.robust import native
from nimbleq.compress.robust.differ import difference
from nimbleq.compress.robust.search import Limits
from nimbleq.compress.robust.slice import slice_of
from nimbleq.compress.robust.stay import CHANGES, OPEN, STAYS, boxes_around, deviations, stays
from nimbleq.compress.states import States, action_gap, actions, q_values
from nimbleq.errors import GraphError
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from tests.compress.robust.test_decide import all_levels

LIMITS = Limits(20.0)


@pytest.mark.parametrize("masked", [False, True])
def test_integer_maps_are_exact(mlp, masked: bool) -> None:
    float_graph, obs = mlp(2, 3, (7, 5), 3)
    graph = quantize(float_graph, obs)
    close = action_gap(interpret(graph, obs)["q"]).argsort()[:600:40]
    mask = np.random.default_rng(0).random((15, 3)) < 0.6 if masked else None
    if mask is not None:
        mask[np.arange(15), np.arange(15) % 3] = True
    states, deviation = States(obs[close], mask), deviations(obs)
    graph = with_mask(graph) if masked else graph
    found = stays(graph, states, deviation, 0.1, LIMITS)
    low, high = boxes_around(states.obs, deviation, 0.1, graph)
    for k in range(15):
        every = all_levels(graph, low[k], high[k])
        own = States(every, None if mask is None else np.repeat(mask[k : k + 1], len(every), axis=0))
        expected = STAYS if (actions(graph, own) == found.action[k]).all() else CHANGES
        assert found.verdict[k] == expected
    assert {STAYS, CHANGES} == set(found.verdict.tolist())
    assert found.share(STAYS) + found.share(CHANGES) == pytest.approx(1)
    if mask is not None:
        assert (found.verdict[mask.sum(axis=1) == 1] == STAYS).all()


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_float_maps_hold_on_samples(mlp, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "numpy":
        monkeypatch.setattr("nimbleq.compress.robust.stay.engine", lambda: native.search)
    graph, obs = mlp(5, 3, (16, 16), 4)
    states, deviation, rng = States(obs[:40]), deviations(obs), np.random.default_rng(0)
    narrow, wide = (stays(graph, states, deviation, radius, LIMITS) for radius in (0.02, 0.3))
    for radius, found in ((0.02, narrow), (0.3, wide)):
        assert not (found.verdict == OPEN).any()
        low, high = boxes_around(states.obs, deviation, radius, graph)
        for k in np.flatnonzero(found.verdict == STAYS):
            samples = (low[k] + rng.random((500, 3)) * (high[k] - low[k])).astype(np.float32)
            assert (actions(graph, States(samples)) == found.action[k]).all()
    assert (narrow.verdict[wide.verdict == STAYS] == STAYS).all()
    assert narrow.share(STAYS) > wide.share(STAYS) > 0


def test_without_time_nothing_is_claimed(mlp) -> None:
    graph, obs = mlp(5, 6, (32, 32), 4)
    found = stays(graph, States(obs[:20]), deviations(obs), 1.0, Limits(1e-9))
    assert (found.verdict == OPEN).sum() >= 19


@pytest.mark.parametrize("compiled", [True, False])
def test_no_sample_exceeds_the_difference(mlp, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, obs = mlp(7, 3, (12, 12), 3)
    student = quantize(teacher, obs)
    if not compiled:
        monkeypatch.setattr(native, "engine", lambda: native.search)
    states, deviation, rng = States(obs[:20]), deviations(obs), np.random.default_rng(0)
    for radius in (0.0, 0.1):
        found = difference(teacher, student, states, deviation, radius)
        low, high = boxes_around(states.obs, deviation, radius, teacher)
        largest = np.zeros(20)
        for k in range(20):
            samples = (low[k] + rng.random((300, 3)) * (high[k] - low[k])).astype(np.float32)
            q = [q_values(graph, samples).astype(np.float64) for graph in (student, teacher)]
            centred = [values - values.mean(axis=1, keepdims=True) for values in q]
            largest[k] = np.abs(found.scale * centred[0] - centred[1]).max()
        assert (largest <= found.bound).all()
        if radius == 0:
            np.testing.assert_allclose(found.bound, largest, atol=1e-3 * np.abs(q_values(teacher, obs)).max())
            same = actions(teacher, states) == actions(student, states)
            assert same[found.gap > 2 * found.bound].all()
            assert 0 < found.flip_free < 1


def test_student_and_teacher_must_fit(mlp) -> None:
    (teacher, obs), (other, _) = mlp(7, 3, (4,), 3), mlp(7, 3, (4,), 2)
    with pytest.raises(GraphError, match="same observations and actions"):
        difference(teacher, other, States(obs), deviations(obs), 0.1)


def test_the_slice_is_the_decision_map(mlp) -> None:
    graph, obs = mlp(5, 4, (16,), 4)
    found = slice_of(graph, States(obs), deviations(obs), side=9)
    assert found is not None
    assert found.features[0] < found.features[1]
    at = np.array([(found.low[k] + found.high[k]) / 2 for k in (0, 1)])
    np.testing.assert_allclose(at, found.centre, rtol=1e-4, atol=1e-4)
    [state] = np.flatnonzero((obs[:, list(found.features)] == np.float32(found.centre)).all(axis=1))[:1]
    assert found.action[4, 4] == interpret(graph, obs[state : state + 1])["action"][0]
    corner = obs[state : state + 1].copy()
    corner[0, list(found.features)] = found.high[0], found.low[1]
    assert found.action[0, 8] == interpret(graph, corner)["action"][0]
    assert len(np.unique(found.action)) > 1
