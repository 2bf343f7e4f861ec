"""Importances against what they are by definition: gradients, Fisher information, least squares, folded scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nimbleq.bridge.torch_graph import to_module
from nimbleq.compress.passes.gradients import activation_gradients, fisher
from nimbleq.compress.passes.importances import IMPORTANCES
from nimbleq.compress.passes.labelled import label
from nimbleq.compress.passes.prune import Prune, prune_to
from nimbleq.compress.passes.recipe import parse_recipe
from nimbleq.compress.passes.second_order import hessians, removal_errors, repaired, without_columns
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.slim import slim
from nimbleq.compress.passes.targets import temperature
from nimbleq.compress.passes.units import find_units
from nimbleq.compress.states import States, compare_graphs, q_values
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Q
from nimbleq.graph.interpret import trace


def state_loss(graph, obs, action, tau):
    """Of one state, with gradients at the weights."""
    module = to_module(graph)
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(obs[None])) / tau, torch.tensor([action]))
    loss.backward()
    return {name: module.weight(name).grad for name in graph.weights if module.weight(name).requires_grad}


def test_the_gradient_at_the_teacher_itself_is_not_zero(mlp):
    graph, obs = mlp(0, 5, (12,), 3)
    seen = label(graph, States(obs[:200]))
    tau = temperature(seen.q, DistillConfig())
    gradients = np.concatenate([gradient[Q] for _, gradient in activation_gradients(graph, seen)])
    probability = np.exp((seen.q - seen.q.max(axis=1, keepdims=True)) / tau)
    probability /= probability.sum(axis=1, keepdims=True)
    hard = np.eye(3)[seen.q.argmax(axis=1)]
    np.testing.assert_allclose(gradients, (probability - hard) / tau, atol=1e-5 / tau)


def test_illegal_actions_have_no_gradient(mlp):
    graph, obs = mlp(0, 5, (12,), 3)
    mask = np.ones((50, 3), bool)
    mask[:, 1] = False
    seen = label(graph, States(obs[:50], mask))
    (gradients,) = (gradient[Q] for _, gradient in activation_gradients(graph, seen))
    assert (gradients[:, 1] == 0).all()
    assert (gradients[:, 0] != 0).any()


@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_fisher_information_is_that_of_single_states(mlp, cnn, net):
    graph, obs = mlp(0, 5, (7,), 3) if net == "mlp" else cnn(0)
    seen = label(graph, States(obs[:9]))
    tau = temperature(seen.q, DistillConfig())
    total = {}
    for row, action in zip(seen.obs, seen.q.argmax(axis=1), strict=True):
        for name, gradient in state_loss(graph, row.astype(np.float32), int(action), tau).items():
            total[name] = total.get(name, 0) + gradient.numpy().astype(np.float64) ** 2 / 9
    found = fisher(graph, seen)
    assert found.keys() == total.keys()
    for name, information in found.items():
        np.testing.assert_allclose(information, total[name], rtol=1e-3, atol=1e-6 * total[name].max())


@pytest.fixture
def layer():
    """A weight ``[5, 8]``, its bias, and correlated inputs."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((3, 8))
    x = rng.standard_normal((400, 3)) @ mixing + 0.3 * rng.standard_normal((400, 8)) + rng.standard_normal(8)
    return rng.standard_normal((5, 8)), rng.standard_normal(5), x


def hessian_of(x):
    """Without damping."""
    from nimbleq.compress.passes.second_order import Hessian

    return Hessian(np.cov(x.T, bias=True), x.mean(axis=0))


def test_a_repaired_row_is_its_least_squares(layer):
    weight, bias, x = layer
    mask = np.random.default_rng(1).random(weight.shape) < 0.5
    mask[0] = False
    new, shift = repaired(weight, bias, mask, hessian_of(x))
    assert (new[~mask] == 0).all()
    for row in range(5):
        columns = np.c_[x[:, mask[row]], np.ones(len(x))]
        best = np.linalg.lstsq(columns, x @ weight[row] + bias[row], rcond=None)[0]
        np.testing.assert_allclose(np.r_[new[row, mask[row]], shift[row]], best, atol=1e-8)


def test_the_error_of_a_removal_is_what_the_repair_leaves(layer):
    weight, bias, x = layer
    mask = np.ones(weight.shape, bool)
    mask[:, 3] = False
    start, shift = repaired(weight, bias, mask, hessian_of(x))
    errors = removal_errors(start, mask, hessian_of(x))
    assert (errors[:, 3] == 0).all()
    for row, column in ((0, 0), (2, 5), (4, 7)):
        without = mask.copy()
        without[row, column] = False
        new, new_shift = repaired(start, shift, without, hessian_of(x))
        left = np.square(x @ (new - start)[row] + (new_shift - shift)[row]).mean()
        np.testing.assert_allclose(errors[row, column], left, rtol=1e-8)


def test_columns_that_go_are_taken_over(layer):
    weight, bias, x = layer
    gone = np.arange(8) % 3 == 0
    new, shift = without_columns(weight, bias, gone, hessian_of(x))
    assert (new[:, gone] == 0).all()
    best = np.linalg.lstsq(np.c_[x[:, ~gone], np.ones(len(x))], x @ weight.T + bias, rcond=None)[0]
    np.testing.assert_allclose(np.c_[new[:, ~gone], shift], best.T, atol=1e-8)


def test_a_copy_of_a_unit_costs_nothing_with_repair(mlp):
    graph, obs = mlp(0, 5, (12,), 3)
    w0, b0 = graph.weights["w0"].copy(), graph.weights["b0"].copy()
    w0[7], b0[7] = w0[4], b0[4]  # both matter, one can do the work of both
    w1 = graph.weights["w1"].copy()
    w1[:, [4, 7]] *= 5
    graph = graph.with_weights({"w0": w0, "b0": b0, "w1": w1})
    q, kept = q_values(graph, obs), {}
    for name in ("obs", "variance"):
        kept[name] = np.abs(q_values(prune_to(graph, (11,), obs, name), obs) - q).max()
    assert kept["obs"] < 0.05 * np.abs(q).max()
    assert kept["obs"] < kept["variance"]


def test_convolutions_are_repaired_in_their_windows(cnn):
    graph, obs = cnn(0, 0)
    found = hessians(graph, obs)
    assert found["c1"].matrix.shape == (45, 45)
    source = trace(graph, obs)["p0"].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(source, (3, 3), axis=(2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 45)
    exact = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(found["c1"].matrix, exact + 0.01 * np.trace(exact) / 45 * np.eye(45), atol=1e-8)
    q = q_values(graph, obs)
    error = {
        name: np.square(q_values(prune_to(graph, (4, 4, 10), obs, name), obs) - q).mean()
        for name in ("obs", "magnitude")
    }
    assert error["obs"] < error["magnitude"]


def test_slimming_folds_back_into_the_same_network(mlp):
    graph, obs = mlp(2, 6, (16, 10), 3)
    w1 = graph.weights["w1"].copy()
    w1[:, [3, 8]] = 0  # nothing reads them: only their price is left
    graph = graph.with_weights({"w1": w1})
    seen, units = label(graph, States(obs)), find_units(graph)
    slimmed = slim(graph, units, seen, DistillConfig(updates=80, batch_size=64), 0)
    assert {n.output for n in slimmed.graph.nodes} == {n.output for n in graph.nodes}
    left = slimmed.scales["sum0"] / trace(graph, obs)["sum0"].std(axis=0)
    assert left[[3, 8]].max() < np.median(left)
    assert compare_graphs(graph, slimmed.graph, seen.states).agreement > 0.9


def test_one_threshold_for_all_layers_takes_what_matters_least(mlp):
    graph, obs = mlp(1, 5, (10, 10), 3)
    w1 = graph.weights["w1"].copy()
    w1[:, 2:] *= 1e-3  # most of the first layer hardly matters
    smaller = prune_to(graph.with_weights({"w1": w1}), 0.5, obs, "sensitivity")
    assert smaller.weights["w0"].shape[0] < 5 < smaller.weights["w1"].shape[0]
    assert smaller.weights["w0"].shape[0] + smaller.weights["w1"].shape[0] == 10


@pytest.mark.parametrize("name", IMPORTANCES)
def test_every_importance_can_be_named(name, balance, balance_teacher):
    from nimbleq.compress.passes.context import Context

    assert parse_recipe([f"prune={name}:0.25"]) == (Prune(0.25, name),)
    context = Context(balance_teacher, balance, DistillConfig(rounds=1, updates=30, episodes=2, states=200))
    smaller = Prune(0.25, name)(balance_teacher, context)
    assert smaller.weights["w0"].shape == (32, 4)


def test_an_importance_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"no importance 'size'; choose from magnitude, "):
        parse_recipe(["prune=size:0.5"])
