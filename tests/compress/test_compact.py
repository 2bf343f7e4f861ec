"""Compact students for images: what they cost, that they learn, and that they become integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.recipe import apply, parse_recipe
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.search.ladder import ladders
from nimbleq.compress.states import compare_graphs
from nimbleq.compress.students import STUDENTS
from nimbleq.deploy.verify import is_integer
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import GraphPolicy, interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.types import Array, Episodes, Policy

SIDE = 8
IMAGE = TensorType((2, SIDE, SIDE), UINT8)


@dataclass
class Catch:
    """A ball falls through an image, a paddle below moves left, stays or moves right; 1 for a ball that it catches."""

    def __call__(self, policy: Policy, seeds: Sequence[int], *, epsilon: float = 0.0, keep_obs: int = 0) -> Episodes:
        rng = [np.random.default_rng(int(seed)) for seed in seeds]
        ball, paddle = np.array([r.integers(0, SIDE, 2) for r in rng]).T
        seen, every = [], np.arange(len(seeds))
        for row in range(SIDE - 1):
            obs = np.zeros((len(seeds), *IMAGE.shape), np.uint8)
            obs[every, 0, row, ball], obs[every, 1, SIDE - 1, paddle] = 255, 255
            seen.append(obs)
            action = policy(obs)
            action = np.array([r.integers(3) if r.random() < epsilon else a for r, a in zip(rng, action, strict=True)])
            paddle = np.clip(paddle + action - 1, 0, SIDE - 1)
        obs = np.concatenate(seen)
        kept = obs[np.random.default_rng(0).permutation(len(obs))[:keep_obs]] if keep_obs else None
        lengths = np.full(len(seeds), SIDE - 1)
        return Episodes(np.asarray(seeds, np.int64), (ball == paddle).astype(np.float64), lengths, kept)


def catcher() -> Graph:
    """A linear teacher: move by the sign of where the ball is less where the paddle is."""
    place = np.zeros((2, SIDE, SIDE), np.float32)
    place[0], place[1, SIDE - 1] = np.arange(SIDE) / 255, -np.arange(SIDE) / 255
    weights = {"w": np.stack([-place, 0 * place, place]).reshape(3, -1), "b": np.array([0, 0.5, 0], np.float32)}
    nodes = (
        Node(ops.Flatten(), ("obs",), "flat"),
        Node(ops.Linear("w", "b"), ("flat",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": IMAGE}, nodes, (Q, ACTION), weights)


def test_the_teacher_catches_everything_it_can_reach() -> None:
    assert Catch()(GraphPolicy(catcher()), range(200)).returns.mean() > 0.95


LONG = {"shufflenet": pytest.mark.long}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=LONG.get(kind, ())) for kind, row in STUDENTS.items() if row.image]
)
def test_a_compact_student_learns_to_catch_also_in_integers(kind: str) -> None:
    config = DistillConfig(rounds=1, updates=250, last_updates=450, batch_size=128, episodes=100, states=700)
    context = Context(catcher(), Catch(), config)
    words = [f"student={kind}:{'-'.join(map(str, STUDENTS[kind].example))}", "distill", "fold"]
    graph, integer = (apply(parse_recipe(recipe), context) for recipe in (words, [*words, "int8"]))
    states = context.visited(graph)
    assert compare_graphs(catcher(), graph, states).regret < 0.2
    assert Catch()(GraphPolicy(graph), range(200)).returns.mean() > 0.8
    assert Catch()(GraphPolicy(integer), range(200)).returns.mean() > 0.75
    assert is_integer(integer)
    assert cost(integer).size_bytes < 0.6 * cost(graph).size_bytes


def test_beside_a_nature_network_a_compact_one_is_small() -> None:
    """The Nature CNN on 4 × 84 × 84 has 1.7 million weights and 9.3 million multiplications."""
    obs_type, rng = TensorType((4, 84, 84), UINT8), np.random.default_rng(0)
    obs = rng.integers(0, 256, (2, 4, 84, 84)).astype(np.uint8)
    spent = {
        kind: cost(STUDENTS[kind].make(obs_type, (32, 64, 128), 6, obs, rng)) for kind in ("mobilenet", "shufflenet")
    }
    for each in spent.values():
        assert each.size_bytes < 4 * 1_690_000 / 60
        assert each.macs < 9_350_000 / 5
    assert spent["shufflenet"].macs < spent["mobilenet"].macs


def test_global_average_pooling_stays_integer() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(6, 2, 3, 3)).astype(np.float32),
        "h": rng.normal(size=(3, 6)).astype(np.float32),
    }
    nodes = (
        Node(ops.Conv2d("w"), ("obs",), "c"),
        Node(ops.Activation("relu"), ("c",), "r"),
        Node(ops.Pool("average", (6, 6), (1, 1)), ("r",), "p"),
        Node(ops.Flatten(), ("p",), "f"),
        Node(ops.Linear("h"), ("f",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    graph = Graph({"obs": IMAGE}, nodes, (Q, ACTION), weights)
    obs = rng.integers(0, 256, (300, *IMAGE.shape)).astype(np.uint8)
    integer = quantize(graph, obs)
    assert is_integer(integer)
    assert "sum" in [node.op.function for node in integer.nodes if isinstance(node.op, ops.Pool)]
    exact: Array = interpret(graph, obs)[Q]
    assert np.abs(interpret(integer, obs)[Q] - exact).max() < 0.03 * np.abs(exact).max()


def test_a_compact_student_wants_an_image_and_widths() -> None:
    rng, vector = np.random.default_rng(0), TensorType((4,))
    with pytest.raises(ConfigError, match=r"reads an image .* not float32\[4\]"):
        STUDENTS["mobilenet"].make(vector, (8,), 2, np.zeros((2, 4)), rng)
    with pytest.raises(ConfigError, match="widths that 8 divides"):
        STUDENTS["shufflenet"].make(IMAGE, (7,), 2, np.zeros((2, *IMAGE.shape)), rng)
    with pytest.raises(ConfigError, match="needs widths"):
        STUDENTS["mobilenet"].make(IMAGE, (), 2, np.zeros((2, *IMAGE.shape)), rng)


@pytest.mark.parametrize("recipe", ["linear", "tree", "axis-tree", "lowrank", "mobilenet", "shufflenet"])
def test_every_kind_is_a_recipe(recipe: str) -> None:
    (families,) = ladders(catcher(), recipe)
    names = [trial.name for family in families for trial in family]
    assert len(set(names)) == len(names) >= 2
    assert all(name.startswith(recipe) and name.endswith(("int8", "float32")) for name in names)


def test_students_fold_to_convolutions_alone() -> None:
    graph = STUDENTS["shufflenet"].make(IMAGE, (8, 16), 3, np.ones((2, *IMAGE.shape)), np.random.default_rng(0))
    kinds = [node.op.kind for node in fold(graph).nodes]
    assert "Affine" not in kinds
    assert kinds.count("ChannelShuffle") == 1
