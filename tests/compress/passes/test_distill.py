from __future__ import annotations

import numpy as np
import pytest
import torch

from nimbleq.compress.passes import PASSES
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.distill import Distill, Distilled, distill
from nimbleq.compress.passes.fit_torch import distillation_loss
from nimbleq.compress.passes.freeze_norms import freeze_norms
from nimbleq.compress.passes.labelled import Labelled, label, teacher_states
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import make_targets, stakes, temperature
from nimbleq.compress.quantize import quantize
from nimbleq.compress.states import (
    ConstantPolicy,
    States,
    action_gap,
    actions,
    compare,
    compare_graphs,
    legal_values,
    q_values,
    visit,
)
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import TensorType
from nimbleq.seeds import episode_seeds


def test_distillation_lowers_regret_and_plays(balance, balance_teacher):
    config = DistillConfig(rounds=2, updates=200, last_updates=200, episodes=4, states=500)
    known = teacher_states(balance_teacher, balance, config, 0)
    fresh = mlp_student(balance_teacher.obs_type, (8,), 2, known.obs, np.random.default_rng(0))
    made = distill(balance_teacher, fresh, balance, known, config, 0)
    before, after = (compare_graphs(balance_teacher, graph, made.visited.states) for graph in (fresh, made.graph))
    assert after.regret < 0.2 * before.regret
    assert after.agreement > 0.9
    assert made.graph.weights["w0"].shape == (8, 4)
    np.testing.assert_array_equal(made.graph.weights["scale"], fresh.weights["scale"])


def test_distillation_is_repeatable(balance, balance_teacher):
    config = DistillConfig(rounds=1, updates=20, last_updates=20, episodes=2, states=100)
    known = teacher_states(balance_teacher, balance, config, 3)
    fresh = mlp_student(balance_teacher.obs_type, (4,), 2, known.obs, np.random.default_rng(0))
    one, two = (distill(balance_teacher, fresh, balance, known, config, 3).graph for _ in range(2))
    for name in one.weights:
        np.testing.assert_array_equal(one.weights[name], two.weights[name])


def test_loss_is_least_at_the_teacher_and_blind_to_the_state_value():
    torch.manual_seed(0)
    teacher = torch.randn(50, 4)
    probability, advantage = torch.softmax(teacher, 1), teacher - teacher.mean(1, keepdim=True)
    student = (teacher + torch.randn(50, 1)).requires_grad_()
    loss = distillation_loss(student, probability, advantage, 0.1)
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-6
    entropy = -(probability * probability.log()).sum(1).mean()
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-5)
    assert distillation_loss(student + torch.randn(50, 4), probability, advantage, 0.1) > loss


def test_temperature_follows_the_scale_of_the_values():
    q = np.random.default_rng(0).standard_normal((100, 3))
    config = DistillConfig()
    assert temperature(7 * q, config) == pytest.approx(7 * temperature(q, config))
    assert temperature(q, config) == pytest.approx(config.temperature * np.median(action_gap(q)))


def test_comparison_by_hand():
    q = np.array([[1.0, 0.0, -1], [0.0, 2.0, 0], [0.0, 0.1, 0], [5, 1, 0]])
    made = compare(q, np.array([0, 0, 1, 0]))
    assert made.regret == pytest.approx(2.0 / 4)
    assert made.agreement == 0.75
    assert made.action_flips == 0.25
    assert made.agreement_by_gap == (1.0, 1.0, 0.0, 1.0)  # gaps 0.1, 1, 2, 4
    assert made.dead_actions == ()
    assert compare(q, np.zeros(4, int)).dead_actions == (1,)


def test_comparison_looks_at_legal_actions_only():
    q = np.array([[1.0, 9.0, 0.0], [0.0, 2.0, 5.0], [3.0, 1.0, 2.0]])
    mask = np.array([[True, False, True], [True, True, False], [False, False, True]])
    made = compare(q, np.array([2, 1, 2]), mask)
    # Legal best actions are 0, 1, 2: the first row alone differs, and loses 1 − 0.
    assert made.agreement == pytest.approx(2 / 3)
    assert made.regret == pytest.approx(1 / 3)
    assert made.dead_actions == (0,)
    assert made.agreement_by_gap[-1] == 1.0, "where one action alone is legal the choice is the clearest"
    assert compare(q, np.array([2, 1, 2])).agreement == 0


def test_graphs_are_compared_on_the_masks_of_the_states(mlp):
    graph, obs = mlp(0, 4, (8,), 3)
    other, _ = mlp(1, 4, (8,), 3)
    mask = np.eye(3, dtype=bool)[np.arange(len(obs)) % 3]
    only = compare_graphs(graph, other, States(obs, mask))
    assert (only.agreement, only.regret, only.dead_actions) == (1.0, 0.0, ())
    assert compare_graphs(graph, other, States(obs)).agreement < 0.9
    two = mask | np.roll(mask, 1, axis=1)
    by_hand = np.where(two, q_values(graph, obs), -np.inf).argmax(1) == np.where(
        two, q_values(other, obs), -np.inf
    ).argmax(1)
    assert compare_graphs(graph, other, States(obs, two)).agreement == pytest.approx(by_hand.mean())


def test_the_temperature_is_of_gaps_between_legal_actions():
    q = np.array([[1.0, 100.0, 0.0], [3.0, 50.0, 0.0], [0.0, 7.0, 0.0]])
    mask = np.array([[True, False, True], [True, False, True], [False, True, False]])
    assert temperature(legal_values(q, mask), DistillConfig(temperature=1.0)) == pytest.approx(2.0)


def test_states_are_drawn_by_what_is_at_stake_among_legal_actions():
    q = np.array([[0.0, 3.0, 9.0], [1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [5.0, 0.0, 0.0]], np.float32)
    mask = np.array([[True, True, False], [True] * 3, [True] * 3, [True, False, False]])
    assert stakes(legal_values(q, mask)).tolist() == [3.0, 0.0, 2.0, 0.0]
    assert stakes(q[:, :2], (1, 1)).tolist() == [0.0] * 4, "no dimension has a choice"
    part = Labelled(States(np.arange(4.0)[:, None].repeat(5, axis=0), mask.repeat(5, axis=0)), q.repeat(5, axis=0))
    drawn = make_targets([part], DistillConfig(by_stake=True)).obs[:, 0]
    assert np.bincount(drawn.astype(int), minlength=4).tolist() == [12, 0, 8, 0]
    idle = Labelled(States(np.zeros((3, 1))), np.ones((3, 2), np.float32))
    assert len(make_targets([idle], DistillConfig(by_stake=True)).obs) == 3


def test_visited_states_are_the_policy_s_own(balance, balance_teacher):
    seeds = episode_seeds("distill", 0, 4)
    falling, held = (visit(p, balance, seeds, 1000) for p in (ConstantPolicy(), GraphPolicy(balance_teacher)))
    assert np.abs(held.obs[:, 2]).max() < np.abs(falling.obs[:, 2]).max()


def test_frozen_norms_stay_close(mlp):
    graph, obs = mlp(0, 6, (32, 32), 3)
    nodes = []
    for node in graph.nodes:
        if node.output == "relu1":
            nodes.append(Node(ops.LayerNorm(), ("sum1",), "norm1"))
            node = Node(node.op, ("norm1",), "relu1")
        nodes.append(node)
    normed = Graph(graph.inputs, tuple(nodes), graph.outputs, graph.weights)
    frozen = freeze_norms(normed, obs)
    assert "LayerNorm" not in {node.op.kind for node in frozen.nodes}
    q = q_values(normed, obs)
    assert np.corrcoef(q_values(frozen, obs).ravel(), q.ravel())[0, 1] > 0.9
    assert compare(q, actions(frozen, States(obs))).agreement > 0.8


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_feature_that_never_varied_moves_no_student_and_no_integers(value):
    rng = np.random.default_rng(0)
    obs = np.stack([rng.uniform(-1, 1, 500), np.full(500, value)], axis=1).astype(np.float32)
    student = mlp_student(TensorType((2,)), (8,), 2, obs, rng)
    q, later = q_values(student, obs), obs + np.float32([0, 0.001])
    for graph in (student, fold(student), quantize(student, obs), quantize(fold(student), obs)):
        moved = np.abs(q_values(graph, later) - q_values(graph, obs)).max()
        assert moved < 1e-3 * np.ptp(q)


def test_what_is_left_of_a_convolutional_teacher_learns_gently(mlp, cnn, monkeypatch):
    steps = []

    def noting(teacher, student, evaluate, known, config, *_):
        steps.append(config.lr)
        return Distilled(student, known, ())

    monkeypatch.setattr("nimbleq.compress.passes.distill.distill", noting)
    made = PASSES["distill"].make("sparse,gentle")
    assert (made, str(made)) == (Distill(sparse=True, gentle=True), "distill sparse gently")
    for teacher, obs in (mlp(0, 4, (8,), 2), cnn(0)):
        context = Context(teacher, None, _from_teacher=label(teacher, States(obs)))
        made(teacher, context)
        Distill()(teacher, context)
    usual = DistillConfig().lr
    assert steps == pytest.approx([usual, usual, usual / 10, usual])
