"""Bias correction: the mean of every sum is that of the float policy, and fewer actions change."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.quantize.bias import correct_biases
from nimbleq.compress.quantize.lower import lower_with_inputs
from nimbleq.compress.quantize.plan import make_plan
from nimbleq.compress.states import States, actions, compare, q_values
from nimbleq.graph.cost import cost
from nimbleq.graph.interpret import trace
from nimbleq.graph.rewrite import fold


def _errors(graph, lowered, made, obs):
    """By layer, the largest distance of a channel's mean from the float policy's, in levels of its sums."""
    real, ours = trace(graph, obs), trace(made, obs)
    found = {}
    for layer, sums in lowered.sums.items():
        wanted, given = (
            x.reshape(*x.shape[:2], -1).mean(axis=(0, 2)) for x in (real[layer], ours[sums.name].astype(float))
        )
        found[layer] = float(np.abs(wanted / sums.scale - given).max())
    return found


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_each_sum_has_the_mean_of_the_float_policy(mlp, cnn, network):
    graph, obs = mlp(3, 6, (48, 32), 4) if network == "mlp" else cnn(3)
    graph = fold(graph)
    lowered = lower_with_inputs(graph, make_plan(graph, obs, "minmax", "int4"))
    made = correct_biases(graph, lowered, obs)
    before, after = _errors(graph, lowered, lowered.graph, obs), _errors(graph, lowered, made, obs)
    assert len(after) == (3 if network == "mlp" else 4)
    assert max(before.values()) > 10
    assert max(after.values()) <= 0.5 + 1e-6
    assert cost(made).macs == cost(lowered.graph).macs
    assert cost(made).size_bytes <= cost(lowered.graph).size_bytes + 2 * sum(map(len, made.weights.values()))


def test_fewer_actions_change(mlp):
    """What ReLU leaves is positive, so that a row's errors add up."""
    regret = np.zeros((2, 3))
    for seed in range(4):
        graph, obs = mlp(seed, 8, (96, 96), 4)
        graph = fold(graph)
        q = q_values(graph, obs)
        for column, name in enumerate(("int4", "int3", "int2")):
            lowered = lower_with_inputs(graph, make_plan(graph, obs, "mse", name))
            for row, made in enumerate((lowered.graph, correct_biases(graph, lowered, obs[:400]))):
                regret[row, column] += compare(q, actions(made, States(obs))).regret
    assert (regret[1] < 0.85 * regret[0]).all(), regret
