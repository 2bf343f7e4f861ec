"""Rewrites keep what a policy does and never make it dearer."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import RULES, fold, for_deployment, with_action
from nimbleq.graph.rewrites.constants import fold_constant_units
from nimbleq.graph.rewrites.edit import unshare
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.types import Array
from tests.strategies import Builder, graphs_with_obs, random_obs, random_orders


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


def assert_same(graph: Graph, changed: Graph, obs: Array, q: bool = True) -> None:
    """Equal values within rounding; equal actions but for ties within rounding."""
    before, after = interpret(graph, obs), interpret(changed, obs)
    tolerance = 1e-4 * (1 + np.abs(before[Q]).max())
    if q:
        np.testing.assert_allclose(after[Q], before[Q], rtol=0, atol=tolerance)
    rows = np.arange(len(obs))
    assert (before[Q][rows, before[ACTION]] - before[Q][rows, after[ACTION]]).max() <= tolerance


def hidden_dueling_macs(graph: Graph) -> int:
    """What `fuse_dueling` may add: V's row for every further action."""
    extra = 0
    for node in graph.nodes:
        if isinstance(node.op, ops.Dueling):
            value = graph.producer(node.inputs[0])
            assert value is not None
            extra += (graph.types[node.output].size - 1) * graph.types[value.inputs[0]].size
    return extra


@settings(max_examples=80, deadline=None)
@given(graphs_with_obs("float"))
def test_every_rule_alone_and_all_together_keep_the_values(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    for rule in RULES:
        assert_same(graph, rule(graph), obs)
    folded = fold(graph)
    assert_same(graph, folded, obs)
    assert fold(folded) is folded
    assert cost(folded).macs <= cost(graph).macs + hidden_dueling_macs(graph)
    assert "Dueling" not in kinds(folded)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shifts_and_constants_in_any_order_keep_the_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_orders(rng)
    obs = random_obs(rng, graph, 6)
    for rule in RULES:
        assert_same(graph, rule(graph), obs)
    assert_same(graph, fold(graph), obs)
    assert_same(graph, unshare(graph), obs)


@settings(max_examples=60, deadline=None)
@given(graphs_with_obs("float"))
def test_deployment_keeps_the_actions_and_costs_no_more(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    deployed = for_deployment(graph)
    assert_same(graph, deployed, obs, q=False)
    assert cost(deployed).macs <= cost(graph).macs
    assert set(deployed.outputs) == {Q, ACTION}


@settings(max_examples=30, deadline=None)
@given(graphs_with_obs("int"))
def test_integer_graphs_stay_bit_for_bit(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    before, after = interpret(graph, obs), interpret(fold(graph), obs)
    assert np.array_equal(before[Q], after[Q])
    assert np.array_equal(before[ACTION], after[ACTION])


def builder(shape: tuple[int, ...] = (6,), raw: bool = False) -> Builder:
    return Builder(np.random.default_rng(0), {"obs": TensorType(shape, UINT8) if raw else TensorType(shape)})


def linear(build: Builder, x: str, width: int, output: str | None = None, bias: bool = True) -> str:
    weight = build.weight(build.normal(width, build.types[x].size))
    return build.add(ops.Linear(weight, build.weight(build.normal(width)) if bias else None), x, output=output)


def affine(build: Builder, x: str, *shape: int, shifted: bool = True) -> str:
    shift = build.normal(*shape) if shifted else np.zeros(shape, np.float32)
    return build.add(ops.Affine(build.weight(1 + np.abs(build.normal(*shape))), build.weight(np.asarray(shift))), x)


def finish(build: Builder) -> Graph:
    build.add(ops.ArgMax(), Q, output=ACTION)
    return build.graph()


def check(graph: Graph, expected: list[str]) -> Graph:
    """Folds to exactly ``expected`` (and ArgMax) with the same values."""
    folded = fold(graph)
    assert kinds(folded) == [*expected, "ArgMax"]
    rng = np.random.default_rng(1)
    shape = (7, *graph.obs_type.shape)
    raw = graph.obs_type.qtype == UINT8
    assert_same(graph, folded, rng.integers(0, 256, shape) if raw else rng.normal(size=shape))
    return folded


def test_dueling_on_one_torso_becomes_one_linear() -> None:
    build = builder()
    x = build.add(ops.Activation("relu"), linear(build, "obs", 5))
    build.add(ops.Dueling(), linear(build, x, 1), linear(build, x, 3, bias=False), output=Q)
    graph = finish(build)
    assert cost(check(graph, ["Linear", "Activation", "Linear"])).macs == 6 * 5 + 5 * 3


def test_dueling_with_hidden_streams_becomes_two_linears() -> None:
    build = builder()
    value, advantage = (build.add(ops.Activation("relu"), linear(build, "obs", width)) for width in (4, 5))
    build.add(ops.Dueling(), linear(build, value, 1), linear(build, advantage, 3), output=Q)
    graph = finish(build)
    check(graph, ["Linear", "Activation", "Linear"])
    assert kinds(for_deployment(graph)) == ["Linear", "Activation", "Linear", "ArgMax"]
    assert cost(for_deployment(graph)).macs == 6 * 5 + 5 * 3


def test_normalisation_enters_the_first_layer_and_batch_norm_the_one_before() -> None:
    build = builder()
    x = affine(build, affine(build, "obs", 6), 6)
    x = build.add(ops.Activation("relu"), affine(build, linear(build, x, 5, bias=False), 5))
    linear(build, x, 3, output=Q)
    check(finish(build), ["Linear", "Activation", "Linear"])


def test_a_clip_keeps_the_normalisation_in_front() -> None:
    build = builder()
    x = build.add(ops.Activation("clip", low=-1.0, high=1.0), affine(build, "obs", 6))
    linear(build, x, 3, output=Q)
    check(finish(build), ["Affine", "Activation", "Linear"])


@pytest.mark.parametrize(("padding", "shifted", "folds"), [(0, True, True), (1, False, True), (1, True, False)])
@pytest.mark.parametrize("groups", [1, 2])
def test_affine_before_a_convolution(padding: int, shifted: bool, folds: bool, groups: int) -> None:
    build = builder((4, 6, 7), raw=True)
    x = affine(build, "obs", 4, 1, 1, shifted=shifted)
    weight, bias = build.weight(build.normal(6, 4 // groups, 3, 2)), build.weight(build.normal(6))
    x = build.add(ops.Conv2d(weight, bias, (2, 1), (padding, padding), groups), x)
    linear(build, build.add(ops.Flatten(), x), 3, output=Q)
    check(finish(build), [*(() if folds else ("Affine",)), "Conv2d", "Flatten", "Linear"])


def test_affine_passes_through_a_flatten() -> None:
    build = builder((2, 3, 4))
    linear(build, build.add(ops.Flatten(), affine(build, "obs", 2, 1, 1)), 3, output=Q)
    check(finish(build), ["Flatten", "Linear"])


def test_an_affine_with_two_layers_after_it_enters_both() -> None:
    build = builder()
    x = affine(build, "obs", 6)
    branches = [
        build.add(ops.Activation("relu"), linear(build, x, 4)),
        build.add(ops.Activation("leaky_relu", slope=0.5), linear(build, x, 4)),
    ]
    linear(build, build.add(ops.Add(), *branches), 3, output=Q)
    check(finish(build), ["Linear", "Activation", "Linear", "Activation", "Add", "Linear"])


def test_an_affine_passes_through_a_flatten_that_two_layers_read() -> None:
    build = builder((2, 3, 4), raw=True)
    flat = build.add(ops.Flatten(), affine(build, "obs", 2, 1, 1))
    build.add(ops.Dueling(), linear(build, flat, 1), linear(build, flat, 3), output=Q)
    check(finish(build), ["Flatten", "Linear"])


def test_weights_that_two_nodes_read_become_their_own() -> None:
    build = builder()
    x = linear(build, "obs", 6)
    shared = build.nodes[-1].op
    build.add(shared, x, output=Q)
    graph = finish(build)
    own = unshare(graph)
    assert len(own.weights) == 2 * len(graph.weights)
    assert unshare(own) is own
    assert np.array_equal(*(interpret(g, np.ones((1, 6), np.float32))[Q] for g in (graph, own)))


def test_linears_in_a_row_join_only_where_that_is_cheaper() -> None:
    build = builder()
    linear(build, linear(build, "obs", 5), 3, output=Q)
    check(finish(build), ["Linear"])
    build = builder()
    linear(build, linear(build, "obs", 1), 6, output=Q)
    check(finish(build), ["Linear", "Linear"])


def test_side_by_side_sums_and_twins() -> None:
    build = builder()
    branches = [build.add(ops.Activation("relu"), linear(build, "obs", width)) for width in (2, 3)]
    linear(build, build.add(ops.Concat(), *branches), 3, output=Q)
    check(finish(build), ["Linear", "Activation", "Linear"])
    build = builder()
    build.add(ops.Add(), linear(build, "obs", 3), linear(build, "obs", 3), output=Q)
    check(finish(build), ["Linear"])
    build = builder()
    first = linear(build, "obs", 3)
    copies = build.nodes[-1].op
    assert isinstance(copies, ops.Linear)
    same = ops.Linear(
        build.weight(build.weights[copies.weight].copy()), build.weight(build.weights[copies.bias].copy())
    )
    twins = [build.add(ops.Activation("relu"), x) for x in (first, build.add(same, "obs"))]
    build.add(ops.Add(), *twins, output=Q)
    check(finish(build), ["Linear", "Activation", "Add"])


def test_what_does_nothing_goes() -> None:
    build = builder()
    x = build.add(ops.Activation("leaky_relu", slope=1.0), build.add(ops.Flatten(), "obs"))
    x = build.add(ops.Activation("relu"), build.add(ops.Activation("relu"), linear(build, x, 4)))
    x = build.add(ops.Activation("clip", low=-3.0, high=2.0), build.add(ops.Activation("clip", low=0.0, high=9.0), x))
    linear(build, "obs", 50)
    build.weight(build.normal(1000))
    linear(build, build.add(ops.Concat(), x), 3, output=Q)
    folded = check(finish(build), ["Linear", "Activation", "Linear"])
    assert folded.nodes[1].op == ops.Activation("clip", low=0.0, high=2.0)
    assert len(folded.weights) == 4


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_activations_in_a_row_are_exact(data: st.DataObject) -> None:
    bounds = st.tuples(st.sampled_from([-2.0, -0.5, 0.0, 1.0]), st.sampled_from([0.0, 1.0, 3.0])).filter(
        lambda b: b[0] <= b[1]
    )
    any_op = st.one_of(
        st.just(ops.Activation("relu")),
        st.sampled_from([-0.5, 0.0, 0.25, 1.0]).map(lambda slope: ops.Activation("leaky_relu", slope=slope)),
        bounds.map(lambda b: ops.Activation("clip", low=b[0], high=b[1])),
    )
    build = builder()
    x = "obs"
    for op in data.draw(st.lists(any_op, min_size=2, max_size=4)):
        x = build.add(op, x)
    graph = Graph(build.inputs, tuple(build.nodes), (x,), {})
    obs = np.linspace(-4, 4, 60, dtype=np.float32).reshape(10, 6)
    folded = fold(graph)
    assert np.array_equal(interpret(folded, obs)[x], interpret(graph, obs)[x])


def test_with_action_adds_the_greedy_action() -> None:
    build = builder()
    linear(build, "obs", 3, output=Q)
    graph = with_action(Graph(build.inputs, tuple(build.nodes), (Q,), build.weights))
    assert graph.nodes[-1] == Node(ops.ArgMax(), (Q,), ACTION)
    assert graph.outputs == (Q, ACTION)
    with pytest.raises(GraphError, match="with_action"):
        with_action(graph)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_units_that_are_constant_or_not_read_go(seed: int) -> None:
    """Whatever pruning leaves empty, in any graph: the values stay."""
    rng = np.random.default_rng(seed)
    graph = random_orders(rng)
    emptied = {}
    for name, array in graph.weights.items():
        if array.ndim in (2, 4):
            kept = array.copy()
            kept[rng.random(len(kept)) < 0.3] = 0
            kept[:, rng.random(kept.shape[1]) < 0.3] = 0
            emptied[name] = kept
    graph = graph.with_weights(emptied)
    obs = random_obs(rng, graph, 6)
    assert_same(graph, fold_constant_units(graph), obs)
    assert_same(graph, fold(graph), obs)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
def test_what_a_constant_unit_gives_goes_into_the_next_bias(activation: Literal["relu", "leaky_relu"] | None) -> None:
    build = builder()
    hidden = linear(build, "obs", 5)
    build.weights["w0"][[1, 3]] = 0.0
    if activation:
        hidden = build.add(ops.Activation(activation, slope=0.5), hidden)
    linear(build, hidden, 3, output=Q, bias=False)
    build.weights["w2"][:, 4] = 0.0
    graph = finish(build)
    folded = fold_constant_units(graph)
    assert [folded.types[node.output].size for node in folded.nodes[:1]] == [2]
    assert_same(graph, folded, np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32))
    assert fold_constant_units(folded) is folded


def test_before_a_padded_convolution_only_zeros_go() -> None:
    build = builder((2, 5, 5))
    first = build.add(ops.Conv2d(build.weight(build.normal(4, 2, 3, 3)), build.weight(build.normal(4))), "obs")
    build.weights["w0"][1:3] = 0.0
    build.weights["w1"][1:3] = [-2.0, 2.0]
    x = build.add(ops.Activation("relu"), first)
    x = build.add(ops.Conv2d(build.weight(build.normal(3, 4, 3, 3)), padding=(1, 1)), x)
    linear(build, build.add(ops.Flatten(), x), 2, output=Q)
    graph = finish(build)
    folded = fold_constant_units(graph)
    assert folded.types[folded.nodes[0].output].shape[0] == 3
    assert_same(graph, folded, np.random.default_rng(1).normal(size=(4, 2, 5, 5)).astype(np.float32))
