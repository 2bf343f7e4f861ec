"""The plan of a quantization says every activation's format before anything is lowered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nimbleq.compress.quantize import quantize
from nimbleq.compress.quantize.lower import lower, lower_with_inputs
from nimbleq.compress.quantize.methods import METHODS, Method
from nimbleq.compress.quantize.plan import FromFloat, FromSums, make_plan
from nimbleq.compress.quantize.ranges import choose_range, histograms
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.interpret import trace


def nets(mlp, cnn):
    return {"mlp": mlp(1, 5, (12, 8), 3), "linear": mlp(2, 4, (), 2), "cnn": cnn(3), "unpadded": cnn(4, 0)}


@pytest.mark.parametrize("name", ["mlp", "linear", "cnn", "unpadded"])
def test_what_is_lowered_is_what_the_plan_says(mlp, cnn, name):
    graph, obs = nets(mlp, cnn)[name]
    plan = make_plan(graph, obs)
    made = lower(graph, plan)
    requantized = 0
    for node in made.nodes:
        tensor = node.output.removesuffix("_u8")
        if isinstance(node.op, ops.Requantize):
            form = plan.tensors[tensor]
            assert isinstance(form, FromSums)
            assert (node.op.zero_point, node.op.low, node.op.high) == (form.levels.zero_point, form.low, form.high)
            requantized += 1
        elif isinstance(node.op, ops.Quantize):
            form = plan.tensors[tensor]
            assert isinstance(form, FromFloat)
            assert node.inputs == (form.source,)
            assert np.array_equal(made.weights[node.op.inverse_scale], form.inverse)
            assert (node.op.zero_points(made.weights) == form.zero).all()
    assert requantized == {"mlp": 2, "linear": 0, "cnn": 3, "unpadded": 3}[name]


@pytest.mark.parametrize(("weights", "top"), [("int8", 127), ("int5", 15), ("int2", 1), ("ternary", 1)])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_weights_have_the_levels_of_the_plan(mlp, cnn, name, weights, top):
    graph, obs = nets(mlp, cnn)[name]
    plan = make_plan(graph, obs, weights=weights)
    lowered = lower_with_inputs(graph, plan)
    assert lowered.inputs.keys() == plan.weights.keys()
    for tensor, held in lowered.inputs.items():
        (layer,) = (node for node in lowered.graph.nodes if node.output == f"{tensor}_sums")
        levels = lowered.graph.weights[layer.op.weight]
        largest = np.abs(levels).reshape(len(levels), -1).max(axis=1)
        assert largest.max() == top
        assert (largest == top).all() or tensor in plan.shared_scale
        assert lowered.graph.stored(layer.op.weight).format == plan.weights[tensor].format
        assert layer.inputs == (held.name,)
    scale = np.full(len(levels), 0.25) if tensor not in plan.shared_scale else np.array([0.25])
    chosen = dataclasses.replace(plan.weights[tensor], scale=scale)
    learnt = dataclasses.replace(plan, weights={**plan.weights, tensor: chosen})
    made = lower(graph, learnt)
    (layer,) = (node for node in made.nodes if node.output == f"{tensor}_sums")
    float_layer = graph.producer(tensor)
    real = graph.weights[float_layer.op.weight] * float(held.levels.scale)
    np.testing.assert_array_equal(made.weights[layer.op.weight], np.clip(np.round(real / 0.25), -top, top))


def test_unknown_formats_of_weights_are_refused(mlp):
    graph, obs = mlp(1, 5, (12, 8), 3)
    for name in ("int9", "float32", "int1", "uint8", "int32"):
        with pytest.raises(ConfigError, match="int8, int7"):
            make_plan(graph, obs, weights=name)


def test_bytes_decode_to_the_values_of_the_float_graph(mlp):
    """What `Levels` says of a stored tensor is the float tensor, within half a level and what earlier rounding adds."""
    graph, obs = mlp(1, 5, (12, 8), 3)
    plan = make_plan(graph, obs)
    made = lower(graph, plan)
    real, stored = trace(graph, obs), trace(made, obs)
    checked = 0
    for tensor, form in plan.tensors.items():
        if f"{tensor}_u8" not in stored:
            continue
        levels = form.levels
        decoded = levels.scale * (stored[f"{tensor}_u8"].astype(np.float64) - levels.zero_point) + levels.offset
        assert (
            np.abs(decoded - real[tensor]).max() <= (0.51 if isinstance(form, FromFloat) else 4.0) * levels.scale.max()
        )
        checked += 1
    assert checked == 3


def test_the_plan_is_a_frozen_value_that_does_not_depend_on_the_weights_of_the_lowering(mlp):
    graph, obs = mlp(1, 5, (12,), 3)
    plan = make_plan(graph, obs)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.tensors = {}
    trained = graph.with_weights({name: weight * np.float32(1.01) for name, weight in graph.weights.items()})
    one, other = lower(graph, plan), lower(trained, plan)  # as training between plan and lowering would
    assert [node.op.kind for node in one.nodes] == [node.op.kind for node in other.nodes]
    zeros = [[n.op.zero_point for n in made.nodes if isinstance(n.op, ops.Requantize)] for made in (one, other)]
    assert zeros[0] == zeros[1] != []


@pytest.mark.parametrize("method", [*METHODS, "toy"])
def test_every_calibration_method_gives_ranges_inside_what_was_seen(mlp, monkeypatch, method):
    monkeypatch.setitem(METHODS, "toy", Method(lambda seen, levels: (seen.low / 2, seen.high / 2)))
    graph, obs = mlp(1, 5, (12,), 3)
    (measured,) = histograms(graph, obs, ["relu0"])[0]["relu0"]
    found = choose_range([measured], method)
    assert measured.low <= found.low[0] < found.high[0] <= measured.high * (1 + 1e-12)
    assert quantize(graph, obs, method).actions == 3
