from __future__ import annotations

import numpy as np
import pytest
import torch

from nimbleq.compress.passes import PASSES, qat
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.qat import learn
from nimbleq.compress.passes.qat_native import first_inputs, native_qat, native_student, why_not_native_qat
from nimbleq.compress.passes.qat_start import finish, start
from nimbleq.compress.passes.qat_torch import FakeQuantized, torch_qat
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import make_targets
from nimbleq.compress.passes.units import with_biases
from nimbleq.compress.quantize import quantize
from nimbleq.compress.quantize.lower import lower, lower_with_inputs
from nimbleq.compress.quantize.plan import make_plan
from nimbleq.compress.states import States, compare, q_values
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import UINT8, TensorType

CONFIG = DistillConfig(batch_size=64)
FORMATS = ["int8", "int4", "int3", "int2", "ternary"]


def task(graph, obs, weights):
    """(graph, plan, lowered, start) and the targets: the float graph's own values."""
    graph = with_biases(fold(graph))
    plan = make_plan(graph, obs, weights=weights)
    lowered = lower_with_inputs(graph, plan)
    q, half = q_values(graph, obs), len(obs) // 2
    parts = [Labelled(States(obs[rows]), q[rows]) for rows in (slice(half), slice(half, None))]
    return graph, plan, lowered, start(graph, plan, lowered), make_targets(parts, CONFIG)


def residual(seed):
    """Linear layers whose sums are read as they are, negative ones too, and a sum of two branches."""
    rng = np.random.default_rng(seed)
    shapes = {"w0": (6, 3), "w1": (6, 6), "w2": (6, 6), "w3": (4, 6)}
    weights = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32) for name, shape in shapes.items()
    }
    weights |= {f"b{name[1]}": rng.standard_normal(len(w)).astype(np.float32) * 0.1 for name, w in weights.items()}
    nodes = (
        Node(ops.Linear("w0", "b0"), ("obs",), "a"),
        Node(ops.Linear("w1", "b1"), ("a",), "b"),
        Node(ops.Activation("clip", low=-1.0, high=1.0), ("b",), "c"),
        Node(ops.Linear("w2", "b2"), ("c",), "d"),
        Node(ops.Add(), ("d", "c"), "e"),
        Node(ops.Activation("leaky_relu", slope=0.1), ("e",), "f"),
        Node(ops.Linear("w3", "b3"), ("f",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    obs = rng.standard_normal((600, 3)).astype(np.float32)
    return Graph({"obs": TensorType((3,))}, nodes, (Q, ACTION), weights), obs


def levels_of(integer, name):
    (node,) = (node for node in integer.nodes if node.output == f"{name}_sums")
    return integer.weights[node.op.weight]


@pytest.mark.parametrize("powers_of_two", [False, True])
@pytest.mark.parametrize("weights", FORMATS)
def test_the_integer_policy_is_the_one_that_was_trained_in_c(mlp, weights, powers_of_two):
    graph, obs = mlp(3, 6, (16, 12), 4)
    graph, plan, lowered, net, targets = task(graph, obs, weights)
    assert why_not_native_qat(graph, net) is None
    made = native_qat(graph, net, lowered.graph, targets, CONFIG, 400, 5e-3, 0, 320, powers_of_two)
    integer = lower(*finish(graph, plan, made))
    for name, layer in made.layers.items():
        np.testing.assert_array_equal(levels_of(integer, name), layer.levels())
        exponent = np.log2(layer.step)
        assert (exponent == np.round(exponent)).all() == powers_of_two
    student = native_student(graph, made, CONFIG, powers_of_two)
    trained = student.core.q(student.padded(first_inputs(lowered.graph, made, obs)))
    answered = interpret(integer, obs)
    assert (trained.argmax(1) == answered[ACTION]).mean() >= 0.999
    assert np.abs(trained - answered[Q]).mean() < 1e-5 * np.abs(trained).max()
    if powers_of_two:
        requantized = [node.op for node in integer.nodes if isinstance(node.op, ops.Requantize)]
        assert len(requantized) == 2
        multipliers = [integer.weights[op.multiplier] for op in requantized if op.multiplier is not None]
        assert all((multiplier == 1 << 30).all() for multiplier in multipliers)
        assert weights != "int8" or not multipliers  # shifts alone


@pytest.mark.parametrize("weights", ["int8", "int2"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "residual"])
def test_the_integer_policy_is_the_one_that_was_trained_in_torch(mlp, cnn, name, weights):
    graph, obs = {"mlp": lambda: mlp(3, 6, (16, 12), 4), "cnn": lambda: cnn(0), "residual": lambda: residual(0)}[name]()
    graph, plan, lowered, net, targets = task(graph, obs, weights)
    assert (why_not_native_qat(graph, net) is None) == (name == "mlp")
    made = torch_qat(graph, net, lowered.graph, targets, CONFIG, 30, 5e-3, 0, 24)
    integer = lower(*finish(graph, plan, made))
    for output, layer in made.layers.items():
        np.testing.assert_array_equal(levels_of(integer, output), layer.levels())
        assert (layer.values != net.layers[output].values).any()
    with torch.no_grad():
        trained = FakeQuantized(graph, made, powers_of_two=False)(torch.from_numpy(obs)).numpy()
    answered = interpret(integer, obs)
    assert (trained.argmax(1) == answered[ACTION]).mean() >= (0.999 if len(obs) > 100 else 0.98)
    assert np.abs(trained - answered[Q]).mean() < 2e-3 * np.abs(trained).max()


@pytest.mark.parametrize("weights", ["int8", "int3"])
def test_c_and_torch_round_and_learn_the_same(mlp, weights):
    """Few updates: where the two round a number differently, they go apart."""
    graph, obs = mlp(3, 6, (9,), 3)
    graph, _, lowered, net, _ = task(graph, obs, weights)
    q = q_values(mlp(4, 6, (9,), 3)[0], obs)
    targets = make_targets([Labelled(States(obs), q)], CONFIG)

    def difference(seed):
        made = [each(graph, net, lowered.graph, targets, CONFIG, 8, 1e-3, seed, 6) for each in (native_qat, torch_qat)]
        pairs = list(zip(*(m.layers.values() for m in made), strict=True))
        steps = max(float(np.abs(np.log2(a.step) - np.log2(b.step)).max()) for a, b in pairs)
        assert all((a.step != layer.step).all() for (a, _), layer in zip(pairs, net.layers.values(), strict=True))
        return max(steps, *(float(np.abs(a.values - b.values).max()) for a, b in pairs))

    assert min(map(difference, range(3))) < 1e-5


def test_steps_freeze(mlp):
    graph, obs = mlp(3, 6, (9,), 3)
    graph, _, lowered, net, targets = task(graph, obs, "int4")
    for engine in (native_qat, torch_qat):
        made = engine(graph, net, lowered.graph, targets, CONFIG, 5, 1e-2, 0, 0)
        for name, layer in made.layers.items():
            np.testing.assert_allclose(layer.step, net.layers[name].step, rtol=1e-6)
            assert (layer.values != net.layers[name].values).any()
        form, before = made.activations["relu0"], net.activations["relu0"]
        assert float(form.levels.scale) == pytest.approx(float(before.levels.scale), rel=1e-6)


@pytest.mark.parametrize("weights", ["int3", "int2", "ternary"])
def test_training_brings_back_what_rounding_lost(mlp, weights):
    graph, obs = mlp(5, 6, (24, 24), 4)
    graph, plan, lowered, net, targets = task(graph, obs, weights)
    made = learn(graph, net, lowered.graph, targets, CONFIG, 3000, 5e-3, 0)
    q = q_values(graph, obs)

    def regret(policy):
        return compare(q, interpret(policy, obs)[ACTION]).regret

    assert regret(lower(*finish(graph, plan, made))) < 0.35 * regret(quantize(graph, obs, weights=weights))


def test_gradients_of_the_steps_are_those_of_the_paper(mlp):
    """LSQ, equation 3: round(v) − v inside, the level at the end outside; times 1/√(N·Q_p); here of log₂ s."""
    graph, obs = mlp(3, 4, (5,), 3)
    graph, _, _, net, _ = task(graph.with_weights({"w1": graph.weights["w1"] ** 3}), obs, "int3")
    module, layer = FakeQuantized(graph, net, powers_of_two=False), net.layers[Q]
    read = []
    module._input = lambda *args: read.append(FakeQuantized._input(module, *args)) or read[-1]
    (module(torch.from_numpy(obs)) * torch.arange(3)).sum().backward()
    v = layer.values.astype(np.float64) / layer.step
    inside = (v >= layer.low) & (v <= layer.high)
    assert 0 < inside.sum() < inside.size
    by_weight = np.arange(3)[:, None] * read[-1][0].detach().numpy().sum(axis=0, dtype=np.float64)
    slope = np.where(inside, np.round(v) - v, np.clip(v, layer.low, layer.high))
    scale = float(layer.step[0]) * np.log(2) / np.sqrt(layer.values.size * layer.high)
    assert module.weight_steps[1].grad.item() == pytest.approx((by_weight * slope).sum() * scale, rel=1e-4)
    np.testing.assert_allclose(module.real.weight(layer.weight).grad.numpy(), by_weight * inside, rtol=1e-4)


def test_the_pass_makes_integers_that_play(balance, balance_teacher):
    config = DistillConfig(rounds=1, updates=200, last_updates=4000, episodes=4, states=500)
    context = Context(balance_teacher, balance, config)
    student = PASSES["student"].make("8")(balance_teacher, context)
    student = PASSES["fold"].make("")(PASSES["distill"].make("")(student, context), context)
    made = PASSES["qat"].make("2")(student, context)
    assert [str(made.stored(name).format) for name, w in made.weights.items() if w.ndim == 2] == ["int2", "int2"]
    plain = quantize(student, context.visited(student).obs, weights="int2")
    states = context.visited(student)
    q = q_values(balance_teacher, states.obs)
    regret, before = (compare(q, interpret(graph, states.obs)[ACTION]).regret for graph in (made, plain))
    assert regret < before


def test_settings_are_read():
    make = PASSES["qat"].make
    assert str(make("4")) == "qat int4"
    assert str(make("ternary")) == "qat ternary"
    assert str(make("2:pow2")) == "qat int2 pow2"
    for wrong in ("", "1", "9", "float32", "4:", "4:pow3"):
        with pytest.raises(ConfigError, match=r"qat takes|weights cannot"):
            make(wrong)


def test_inputs_that_never_change_have_no_weights(mlp):
    graph, obs = mlp(3, 4, (5,), 3)
    obs = obs.copy()
    obs[:, 1] = 0
    graph, plan, lowered, net, targets = task(graph, obs, "int4")
    made = native_qat(graph, net, lowered.graph, targets, CONFIG, 20, 1e-3, 0, 20)
    integer = lower(*finish(graph, plan, made))
    assert np.isfinite(interpret(integer, obs)[Q]).all()


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_training_with_rounding_keeps_what_a_student_of_bytes_knows(engine, monkeypatch):
    """Weights of bytes are hundreds of times smaller than others: steps of the usual size would ruin them."""
    rng = np.random.default_rng(0)
    obs = (255 * rng.integers(0, 2, (800, 3, 4, 2))).astype(np.uint8)
    graph, plan, lowered, net, targets = task(
        mlp_student(TensorType((3, 4, 2), UINT8), (12,), 4, obs, rng), obs, "int8"
    )
    if engine == "torch":
        monkeypatch.setattr(qat, "why_not_native_qat", lambda graph, net: "a test")
    learnt = learn(graph, net, lowered.graph, targets, CONFIG, 200, 5e-3, 0)
    made = compare(q_values(graph, obs), interpret(lower(*finish(graph, plan, learnt)), obs)[ACTION])
    assert made.agreement > 0.9
