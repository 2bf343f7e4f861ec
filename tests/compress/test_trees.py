"""Tree students: splits that cost least, trees that find a known tree, and their integer form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fit_tree import cheapest_tree, fit_tree
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.student import Student
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.states import States
from nimbleq.compress.students.grow import Tree
from nimbleq.compress.students.splits import best_step, fit_split, goes_right, split_cost
from nimbleq.compress.students.tree import axis_tree_student, oblique_tree_student
from nimbleq.deploy.verify import is_integer
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Q
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.tensor import UINT8, TensorType

FAST = DistillConfig(rounds=2, episodes=4, states=500)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-4, 4)), min_size=1, max_size=12))
def test_the_best_step_is_the_best_of_all(pairs):
    position, change = (np.array(part, np.float64) for part in zip(*pairs, strict=True))
    least, at = best_step(position, change)
    assert least == pytest.approx(change[position < at].sum())
    assert at not in position
    everywhere = [change[position < cut].sum() for cut in np.arange(-4, 5) + 0.5]
    assert least == pytest.approx(min(everywhere))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_split_is_never_worse_than_its_start_nor_than_not_splitting(seed, oblique):
    rng = np.random.default_rng(seed)
    x, extra, start = rng.normal(size=(60, 3)), rng.normal(size=60), rng.normal(size=4)
    split = fit_split(x, extra, start, 2, oblique)
    spent = split_cost(x, extra, split)
    assert spent <= min(split_cost(x, extra, start), 1e-9, extra.sum() + 1e-9)
    assert spent == pytest.approx(extra[goes_right(x, split)].sum())


def test_what_a_half_space_separates_is_separated():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    side = x @ np.array([1.0, -2.0, 0.5, 0.0]) > 0.7
    split = fit_split(x, np.where(side, -1.0, 1.0) * rng.exponential(size=500), None, 3, oblique=True)
    assert (goes_right(x, split) == side).mean() > 0.995


def test_a_state_counts_by_its_stake():
    """Nine of ten states want the other side, but by a thousandth of what is at stake in the tenth."""
    x = np.linspace(-1, 1, 1000)[:, None]
    loss = np.zeros((1000, 2))
    loss[:, 1] = 0.001
    loss[450:550, 0], loss[450:550, 1] = 1.0, 0.0
    tree = cheapest_tree(x, loss, 1, True, [], np.random.default_rng(0))
    assert tree.act(x)[450:550].mean() == 1
    assert tree.cost(x, loss) == pytest.approx(0.45 * 0.001)


@pytest.mark.parametrize("oblique", [True, False])
def test_a_tree_finds_the_tree_that_made_the_values(oblique):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4000, 3))
    split = (
        rng.normal(size=(3, 4)) * [1, 1, 1, 0.3]
        if oblique
        else np.array([[0, 1, 0, 0.2], [1, 0, 0, 0], [0, 0, 1, -0.1]])
    )
    teacher = Tree(split, np.array([0, 1, 2, 0 if oblique else 3]))
    loss = 1.0 - np.eye(4)[teacher.act(x)]
    found = cheapest_tree(x, loss, 2, oblique, [], np.random.default_rng(0))
    assert found.cost(x, loss) < 0.005


def test_an_oblique_tree_of_depth_one_balances_also_in_integers(balance, balance_teacher):
    context = Context(balance_teacher, balance, FAST)
    graph = apply(parse_recipe(["student=tree:1", "distill", "fold"]), context)
    assert [node.op.kind for node in graph.nodes] == ["ObliqueTree", "ArgMax"]
    assert balance(GraphPolicy(graph), range(20)).returns.mean() == balance.limit
    assert cost(graph).macs == 4
    integer = apply(parse_recipe(["student=tree:1", "distill", "fold", "int8"]), context)
    assert is_integer(integer)
    assert integer.weights["q.split"].dtype == np.int8
    assert balance(GraphPolicy(integer), range(20)).returns.mean() == balance.limit


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_integer_form_of_questions_about_one_feature_is_exact(seed, depth):
    """On bytes nothing is rounded: thresholds fall between the same two levels."""
    rng = np.random.default_rng(seed)
    obs = rng.integers(0, 256, (300, 2, 3)).astype(np.uint8)
    graph = axis_tree_student(TensorType((2, 3), UINT8), (depth,), 3, obs, rng)
    assert np.array_equal(interpret(quantize(graph, obs), obs)[Q], interpret(graph, obs)[Q])


@pytest.mark.parametrize("rows", [False, True])
def test_the_integer_form_of_an_oblique_tree_takes_nearly_always_the_same_way(rows):
    rng = np.random.default_rng(3)
    obs = (rng.normal(size=(2000, 6)) * [1, 5, 0.1, 1, 1, 0] + [0, 30, -1, 0, 0, 2]).astype(np.float32)
    graph = oblique_tree_student(TensorType((6,)), (3,), 4, obs, rng)
    if rows:
        graph = graph.with_weights({"leaf": rng.normal(size=(8, 4)).astype(np.float32)})
    integer = quantize(graph, obs)
    kinds = ["Quantize", "ObliqueTree", *(["Dequantize"] if rows else []), "ArgMax"]
    assert [node.op.kind for node in integer.nodes] == kinds
    difference = np.abs(interpret(integer, obs)[Q] - interpret(graph, obs)[Q]).max(axis=1)
    assert (difference < 0.02).mean() > 0.97


def test_leaves_know_the_next_best_action_where_actions_may_be_illegal():
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(600, 2)).astype(np.float32)
    q = np.stack([obs[:, 0], np.zeros(600), -obs[:, 0]], axis=1).astype(np.float32)
    mask = np.ones((600, 3), bool)
    mask[::2, 1] = False
    fresh = oblique_tree_student(TensorType((2,)), (1,), 3, obs, rng)
    graph = fit_tree(fresh, [Labelled(States(obs, mask), q)], 0)
    rows = graph.weights["leaf"]
    assert rows.shape == (2, 3)
    assert set(rows.argmax(axis=1)) == {0, 2}
    assert (rows[:, 1] < rows[:, 0]).any()
    forbidden = np.tile([False, True, True], (600, 1))
    actions = GraphPolicy(graph)(obs, forbidden)
    assert set(actions) == {1, 2}


@pytest.mark.parametrize("kind", ["tree", "axis-tree"])
def test_a_tree_of_no_possible_depth_is_one_line(kind, balance, balance_teacher):
    context = Context(balance_teacher, balance, FAST)
    for hidden in ((), (9,), (2, 2)):
        with pytest.raises(ConfigError, match="a depth of 1 to 8"):
            apply((Student(hidden, kind),), context)
    big = TensorType((5000,))
    with pytest.raises(ConfigError, match="at most 4096 features, not 5000"):
        oblique_tree_student(big, (2,), 3, np.zeros((2, 5000), np.float32), np.random.default_rng(0))


def test_a_tree_reads_an_image_as_it_is():
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 256, (800, 2, 3, 3)).astype(np.uint8)
    q = np.stack([obs[:, 1, 2, 0], 255 - obs[:, 1, 2, 0]], axis=1).astype(np.float32)
    fresh = axis_tree_student(TensorType((2, 3, 3), UINT8), (1,), 2, obs, rng)
    graph = fit_tree(fresh, [Labelled(States(obs), q)], 0)
    assert isinstance(graph.nodes[0].op, ops.Flatten)
    assert graph.weights["feature"][0] == 15
    assert np.array_equal(GraphPolicy(graph)(obs), q.argmax(axis=1))
