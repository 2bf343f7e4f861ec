"""Schemes: weights, activations and scales in the formats asked for, with bytes and errors to match."""

from __future__ import annotations

import numpy as np
import pytest

from nimbleq.compress.passes.quantize import WEIGHTS
from nimbleq.compress.passes.recipe import describe, parse_recipe
from nimbleq.compress.quantize.fixed_point import quantize_weights, shift_alone, weight_steps
from nimbleq.compress.quantize.mixed import allocate
from nimbleq.compress.quantize.post_training import quantize_best
from nimbleq.compress.quantize.scheme import Scheme
from nimbleq.compress.quantize.weight_only import stored_as, weight_only
from nimbleq.compress.quantize.weights import weight_format
from nimbleq.compress.states import States, actions, q_values
from nimbleq.errors import ConfigError, GraphError
from nimbleq.graph import ops
from nimbleq.graph.cost import cost
from nimbleq.graph.formats import BF16, INT8, LOG2, TERNARY, Int, Power
from nimbleq.graph.rewrite import fold


def layers(graph):
    return [node for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d)]


def agreement(graph, made, obs):
    return (actions(made, States(obs)) == q_values(graph, obs).argmax(axis=1)).mean()


@pytest.mark.parametrize("pow2", [False, True])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_stored_in_their_format(mlp, name, pow2):
    graph, obs = mlp(4, 6, (24, 16), 4)
    graph = fold(graph)
    made, _ = quantize_best(
        graph, States(obs), q_values(graph, obs), Scheme(WEIGHTS[name], power_of_two=pow2), ("mse",)
    )
    assert {str(made.stored(node.op.weight).format) for node in layers(made)} == {name}
    least = {"int8": 0.93, "int6": 0.9, "int4": 0.7, "apot4": 0.6, "log2": 0.6, "ternary": 0.3}.get(name, 0.25)
    assert agreement(graph, made, obs) >= least
    requantized = [node.op for node in made.nodes if isinstance(node.op, ops.Requantize)]
    assert len(requantized) == 2
    if name not in ("int2", "ternary", "log2-3"):  # whose scales may be too large for a shift to the right
        assert all((op.multiplier is None) == pow2 for op in requantized)
    (quantize,) = (node.op for node in made.nodes if isinstance(node.op, ops.Quantize))
    assert isinstance(made.stored(quantize.inverse_scale).format, Power) == pow2
    adds = {"log2": 1, "log2-3": 1, "apot4": 2}.get(name, 0)
    assert cost(made).shift_adds == adds * cost(made).macs


@pytest.mark.parametrize(("bits", "inputs"), [(4, 8), (6, 12), (8, 10)])
def test_activations_have_the_bits_asked_for(mlp, bits, inputs):
    graph, obs = mlp(5, 6, (24,), 3)
    scheme = Scheme(activations=bits, inputs=inputs)
    made, _ = quantize_best(graph, States(obs), q_values(graph, obs), scheme)
    widths = {type(node.op).__name__: made.types[node.output].qtype.bits for node in made.nodes}
    assert (widths["Quantize"], widths["Requantize"]) == (inputs, bits)
    assert agreement(graph, made, obs) > (0.7 if bits == 4 else 0.93)


def test_steps_have_no_more_error_than_those_that_reach_the_largest_weight():
    rows = np.random.default_rng(0).standard_t(3, size=(20, 50))
    for name in WEIGHTS:
        levels = weight_format(name)
        reach = np.abs(rows).max(axis=1) / levels.high

        def error(steps, levels=levels):
            return ((levels.nearest(rows / steps[:, None]) * steps[:, None] - rows) ** 2).sum(axis=1)

        found = weight_steps(rows, levels)
        assert (error(found) <= error(reach) + 1e-12).all()
        assert levels.high > 10 or error(found).sum() < 0.95 * error(reach).sum()


def test_scales_are_the_unit_over_powers_of_two_or_the_layer_does_without():
    rng = np.random.default_rng(0)
    weight, bias, zero = rng.normal(size=(6, 9)), rng.normal(size=6), np.zeros(1)
    made = quantize_weights(weight, bias, zero, weight_format("int8"), shared_scale=False, unit=0.7)
    assert shift_alone(made.scale / 0.7) is not None
    assert np.abs(made.weight * made.scale[:, None] - weight).max() <= 1.01 * made.scale.max()
    large = quantize_weights(weight * 1e4, bias, zero, weight_format("int8"), shared_scale=False, unit=0.7)
    assert shift_alone(large.scale / 0.7) is None


def test_mixed_precision_gives_few_bits_to_layers_that_do_not_need_them(mlp):
    graph, obs = mlp(6, 6, (32, 24), 3)
    graph = fold(graph)
    states, q = States(obs[:400]), q_values(graph, obs[:400])
    made, scheme = allocate(graph, states, q, 4.0)
    sizes = {node.output: graph.weights[node.op.weight].size for node in layers(graph)}
    bits = {name: 1.6 if number == TERNARY else number.bits for name, number in scheme.layers}
    assert sum(bits[name] * size for name, size in sizes.items()) <= 4.0 * sum(sizes.values())
    assert len(set(bits.values())) > 1
    uniform, _ = quantize_best(graph, states, q, Scheme(Int(4, signed=True)))
    assert agreement(graph, made, obs) >= agreement(graph, uniform, obs) - 0.05


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_weight_only_keeps_floats_between_the_layers(mlp, cnn, network):
    graph, obs = mlp(7, 6, (24,), 3) if network == "mlp" else cnn(7)
    graph = fold(graph)
    made = weight_only(graph, Int(6, signed=True))
    integers = {name for name, kind in made.types.items() if kind.qtype.is_integer}
    assert integers <= {"obs", "action", "c0_sums"}  # sums of raw bytes are exact
    assert agreement(graph, made, obs) > 0.85
    assert cost(made).size_bytes < 0.35 * cost(graph).size_bytes
    with pytest.raises(GraphError, match="integer weights already"):
        weight_only(made, INT8)


def test_bf16_halves_the_bytes(mlp):
    graph, obs = mlp(8, 6, (24,), 3)
    made = stored_as(graph, BF16)
    assert cost(made).size_bytes * 2 == cost(graph).size_bytes
    assert agreement(graph, made, obs) > 0.97


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("int4", "int4"),
        ("int4=kl,pow2,act6", "int4=kl,pow2,act6"),
        ("ternary=in10", "ternary=in10"),
        ("mixed", "mixed=4"),
        ("mixed=3.5,mse-gap", "mixed=3.5,mse-gap"),
        ("weights=log2", "weights=log2"),
        ("bf16", "bf16"),
    ],
)
def test_passes_are_read_and_named(word, said):
    assert describe(parse_recipe([word])) == said


@pytest.mark.parametrize(
    "word", ["int4=kll", "int4=act9", "int4=in13", "mixed=9", "mixed=x", "weights=int9", "bf16=2", "int4=,"]
)
def test_what_says_nothing_is_refused(word):
    with pytest.raises(ConfigError, match=r"^[^\n]+$"):
        parse_recipe([word])


def test_formats_that_layers_cannot_have_are_refused():
    with pytest.raises(ConfigError, match="at most 8 bits"):
        Scheme(Int(9, signed=True))
    with pytest.raises(ConfigError, match="equal steps"):
        parse_recipe([f"qat={LOG2}"])
