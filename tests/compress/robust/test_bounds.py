"""Bounds hold: of one function, of random networks of every op, and of float32 arithmetic in any order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.robust.bounds import backward, relax
from nimbleq.compress.robust.native import lower_bounds
from nimbleq.compress.robust.network import Function, evaluate
from nimbleq.compress.robust.relax import lines
from nimbleq.compress.robust.search import SAT, UNSAT, Limits, Question
from nimbleq.compress.robust.subject import Subject, subject_of
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.graph.rewrites.mask import without_mask
from tests.compress.robust.engines import ENGINES
from tests.strategies import random_graph, random_obs, random_orders

FUNCTIONS = {
    "relu": {"low": 0.0},
    "leaky": {"low": 0.0, "slope": 0.125},
    "clip": {"low": -1.0, "high": 0.75},
    "identity": {},
    "bytes": {"low": 0.0, "high": 12.0, "rounds": True},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lines_enclose_the_function(name: str) -> None:
    rng = np.random.default_rng(0)
    scale, zero = np.full(1, 0.3), np.full(1, 2.0 if name == "bytes" else 0.1)
    f = Function(scale, zero, **FUNCTIONS[name])
    ends = np.sort(rng.normal(scale=20, size=(2000, 2)), axis=1)
    ends[:50, 1] = ends[:50, 0]
    low, high = ends[:, :1], ends[:, 1:]
    found = lines(f, low, high)
    for share in np.linspace(0, 1, 41):
        a = low + share * (high - low)
        value = f.at(a)
        assert (found.below * a + found.below_at <= value + 1e-9).all()
        assert (found.above * a + found.above_at >= value - 1e-9).all()
        assert (found.low <= value + 1e-12).all()
        assert (found.high >= value - 1e-12).all()


def test_a_requantize_is_exact_where_float_division_is_not() -> None:
    multiplier, shift = np.array([(1 << 30) + 1, 1 << 30]), np.array([35, 33])
    f = Function(np.ldexp(multiplier.astype(float), -shift), np.zeros(2), -1000, 1000, 0.0, True, multiplier, shift)
    for a in range(-500, 500):
        products = [(a * int(m), int(s)) for m, s in zip(multiplier, shift, strict=True)]
        exact = [int((Fraction(product, 1 << s) + Fraction(1, 2)).__floor__()) for product, s in products]
        assert f.at(np.array([a, a], float)).tolist() == exact


def subject(graph: Graph) -> Subject | None:
    """The network, or None for an op without bounds."""
    try:
        return subject_of(graph)
    except UnsupportedOpError:
        return None


def sampled(rng: np.random.Generator, found: Subject, centre: np.ndarray, radius: float) -> tuple[np.ndarray, ...]:
    """Observations around one, corners among them; the network's inputs for them; and the box of these inputs."""
    shape = (200, *centre.shape[1:])
    offset = radius * np.where(
        rng.random((200,) + (1,) * (centre.ndim - 1)) < 0.5, rng.uniform(-1, 1, shape), rng.choice([-1, 1], shape)
    )
    if found.network.integer and found.levels is None:
        obs = np.clip(centre + np.rint(offset), 0, 255).astype(np.uint8)
    else:
        obs = (centre + offset).astype(np.float32)
    inputs = (obs if found.levels is None else found.levels.of(obs)).reshape(len(obs), -1).astype(np.float64)
    return obs, inputs, inputs.min(axis=0), inputs.max(axis=0)


@pytest.mark.parametrize("make", ["float", "int", "orders"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.01, 0.3, 2.0]))
def test_no_sampled_output_leaves_its_bounds(make: str, seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    graph = random_orders(rng) if make == "orders" else random_graph(rng, numbers=make, max_width=12)  # type: ignore[arg-type]
    if graph.obs_type.size > 600 or (found := subject(graph)) is None:
        return
    graph = without_mask(graph)
    steps = 1 if found.network.integer and found.levels is None else 1.0
    obs, inputs, low, high = sampled(rng, found, random_obs(rng, graph, 1), radius * (20 if steps == 1 else 1))
    tensors = trace(graph, obs)
    name = next(node.inputs[0] for node in graph.nodes if node.output == "action")
    actual = tensors[name].reshape(len(obs), -1).astype(np.float64)
    real, error = evaluate(found.network, inputs)
    assert (np.abs(actual - real) <= error).all(), "the error bound covers the interpreter's float32"
    rows = np.vstack([np.eye(actual.shape[1]), -np.eye(actual.shape[1])])
    bounded = backward(
        found.network, relax(found.network, low[None], high[None]), low[None], high[None],
        found.network.scattered(rows), np.zeros(len(rows)),
    )  # fmt: skip
    assert (bounded.lower[0] <= actual @ rows.T + 1e-9 * np.abs(actual).max()).all()
    if found.network.exact:
        assert np.array_equal(actual, real)


@pytest.mark.parametrize("make", ["float", "int", "orders"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.01, 0.3, 2.0]), share=st.floats(-0.2, 1.2))
def test_both_engines_agree_with_samples_on_every_op(make: str, seed: int, radius: float, share: float) -> None:
    """Is an output difference below a value between those sampled (or a little outside)?"""
    rng = np.random.default_rng(seed)
    graph = random_orders(rng) if make == "orders" else random_graph(rng, numbers=make, max_width=12)  # type: ignore[arg-type]
    if graph.obs_type.size > 300 or (found := subject(graph)) is None:
        return
    graph = without_mask(graph)
    pixels = found.network.integer and found.levels is None
    _, inputs, low, high = sampled(rng, found, random_obs(rng, graph, 1), radius * (20 if pixels else 1))
    outputs, _ = evaluate(found.network, inputs)
    row = rng.normal(size=(1, outputs.shape[1])).round(1)
    values = (outputs @ row[0]).tolist()
    bound = np.array([min(values) + share * (max(values) - min(values))])
    question = Question(low, high, row, bound, np.zeros(1, int))
    lower, upper = lower_bounds(found.network, low[None], high[None], np.vstack([row, -row]))[0] * (1, -1)
    rounded = 1e-9 * max(1.0, *map(abs, values))
    assert lower - rounded <= min(values) <= max(values) <= upper + rounded
    for engine in ENGINES.values():
        answer = engine(found.network, question, Limits(2.0, 60))
        if answer.verdict == UNSAT:
            assert min(values) > bound[0]
        if answer.witness is not None:
            assert answer.verdict == SAT
            assert ((low <= answer.witness) & (answer.witness <= high)).all()
            assert evaluate(found.network, answer.witness[None])[0][0] @ row[0] <= bound[0] + 1e-9 * np.abs(bound[0])
