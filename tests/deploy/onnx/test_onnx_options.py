"""ONNX for engines that know older operators, or want one output; and masks as an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.export import export
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.onnx.emit import OPSETS, emit_onnx
from nimbleq.deploy.targets.onnx.session import load_onnx_policy
from nimbleq.deploy.targets.onnx.target import ONNX_QDQ, OnnxOptions
from nimbleq.deploy.verify import verify_build
from nimbleq.errors import ConfigError, NimbleqError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import TensorType
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_graph, random_obs

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def every_float_op() -> Graph:
    """LayerNorm with and without parameters, clip, leaky ReLU, a layer without bias, dueling, an expectation."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(size=(12, 6)).astype(np.float32),
        "g": rng.normal(size=12).astype(np.float32),
        "c": rng.normal(size=12).astype(np.float32),
        "w1": rng.normal(size=(1, 12)).astype(np.float32),
        "w2": rng.normal(size=(12, 12)).astype(np.float32),
        "z": np.linspace(-1, 1, 4).astype(np.float32),
    }
    nodes = (
        Node(ops.Linear("w0"), ("obs",), "a"),
        Node(ops.LayerNorm("g", "c"), ("a",), "b"),
        Node(ops.Activation("clip", low=-1, high=2), ("b",), "d"),
        Node(ops.LayerNorm(), ("d",), "e"),
        Node(ops.Activation("leaky_relu", slope=0.1), ("e",), "f"),
        Node(ops.Linear("w1"), ("f",), "v"),
        Node(ops.Linear("w2"), ("f",), "x"),
        Node(ops.Expectation("z"), ("x",), "y"),
        Node(ops.Dueling(), ("v", "y"), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    return Graph({"obs": TensorType((6,))}, nodes, (Q, ACTION), weights)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_gives_the_interpreters_answers(opset: int) -> None:
    rng = np.random.default_rng(opset)
    graphs = [every_float_op(), with_mask(mlp(4, 9, 3)), *(random_graph(rng, numbers="float") for _ in range(3))]
    for graph in graphs:
        obs = random_obs(rng, graph, 50)
        mask = np.eye(graph.actions, dtype=bool)[rng.integers(0, graph.actions, 50)] if graph.masked else None
        model = emit_onnx(graph, opset=opset)
        assert onnx.load_from_string(model).opset_import[0].version == opset
        answer, want = load_onnx_policy(model)(obs, mask), interpret(graph, obs, mask)
        np.testing.assert_allclose(answer[Q], want[Q], rtol=1e-4, atol=1e-4)
        if mask is not None:
            np.testing.assert_array_equal(answer[ACTION], want[ACTION])


@pytest.mark.parametrize("opset", OPSETS)
def test_integer_policies_need_opset_12_and_then_are_exact(opset: int) -> None:
    rng = np.random.default_rng(opset)
    for graph in (int_mlp(5, 12, 3), int_conv(), with_mask(int_mlp(5, 12, 3))):
        if opset < 12:
            with pytest.raises(UnsupportedOpError, match="opset 12 or newer"):
                emit_onnx(graph, opset=opset)
            continue
        obs = random_obs(rng, graph, 100)
        mask = rng.random((100, 3)) < 0.5 if graph.masked else None
        if mask is not None:
            mask[:, 1] |= ~mask.any(axis=1)
        answer, want = load_onnx_policy(emit_onnx(graph, opset=opset))(obs, mask), interpret(graph, obs, mask)
        np.testing.assert_array_equal(answer[Q], want[Q])
        np.testing.assert_array_equal(answer[ACTION], want[ACTION])
        if opset < 13:
            with pytest.raises(UnsupportedOpError, match="opset 13 or newer"):
                emit_onnx(graph, opset=opset, exact=False)
        else:
            load_onnx_policy(emit_onnx(graph, opset=opset, exact=False))(obs, mask)


def kinds(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


def test_outputs_are_chosen() -> None:
    graph, masked = mlp(4, 9, 3), with_mask(mlp(4, 9, 3))
    obs = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    values = emit_onnx(masked, outputs="q")
    assert "ArgMax" not in kinds(values)
    assert [value.name for value in onnx.load_from_string(values).graph.input] == ["obs"]
    assert set(load_onnx_policy(values)(obs)) == {Q}
    np.testing.assert_allclose(load_onnx_policy(values)(obs)[Q], interpret(graph, obs)[Q], atol=1e-5)
    chosen = load_onnx_policy(emit_onnx(graph, outputs="action"))(obs)
    assert set(chosen) == {ACTION}
    np.testing.assert_array_equal(chosen[ACTION], interpret(graph, obs)[ACTION])
    for wrong in ({"opset": 8}, {"opset": 99}, {"outputs": "values"}):
        with pytest.raises(ConfigError):
            emit_onnx(graph, **wrong)


def test_older_models_do_without_layer_normalization() -> None:
    assert "LayerNormalization" in kinds(emit_onnx(every_float_op()))
    assert "LayerNormalization" not in kinds(emit_onnx(every_float_op(), opset=16))


def test_the_qdq_form_is_a_target_that_rounds_by_itself(tmp_path: Path) -> None:
    graph = int_mlp(4, 30, 3)
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    save_artefact(tmp_path / "small", graph, obs, {})
    options = {"onnx-qdq": OnnxOptions(opset=14, outputs="q")}
    export(tmp_path / "small", ("onnx", "onnx-qdq"), tmp_path / "build", options=options)
    model = onnx.load(tmp_path / "build" / "model_qdq.onnx")
    assert (model.opset_import[0].version, [one.name for one in model.graph.output]) == (14, [Q])
    exact, rounded = verify_build(tmp_path / "build", observations=500).targets
    assert (exact.target, exact.rounds, exact.mismatches) == ("onnx", False, 0)
    assert (rounded.target, rounded.rounds, rounded.observations) == ("onnx-qdq", True, 520)
    with pytest.raises(UnsupportedOpError, match="use --to onnx"):
        ONNX_QDQ.emit(Source(mlp(4, 9, 3)), "policy", OnnxOptions())


@pytest.mark.parametrize("graph", [mlp(4, 9, 3), int_mlp(4, 9, 3)], ids=["float", "int"])
def test_masks_are_an_input(graph: Graph) -> None:
    masked, rng = with_mask(graph), np.random.default_rng(0)
    obs, mask = random_obs(rng, graph, 200), rng.random((200, 3)) < 0.5
    mask[mask.sum(axis=1) == 0, 2] = True
    for exact in (True, False):
        policy = load_onnx_policy(emit_onnx(masked, exact=exact))
        answer = policy(obs, mask)
        assert mask[np.arange(200), answer[ACTION]].all()
        np.testing.assert_array_equal(answer[ACTION], np.where(mask, answer[Q], -np.inf).argmax(axis=1))
        assert policy(obs[:1], np.zeros((1, 3), bool))[ACTION][0] == -1
        with pytest.raises(NimbleqError, match="needs the masks"):
            policy(obs)


@pytest.mark.parametrize("outputs", ["both", "q", "action"])
@pytest.mark.parametrize("opset", [13, 17])
def test_exports_with_options_verify(outputs: str, opset: int, tmp_path: Path) -> None:
    obs = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    for name, graph in (("float", every_float_op()), ("int", with_mask(int_mlp(6, 9, 3)))):
        save_artefact(tmp_path / name, graph, obs, {})
        options = OnnxOptions(opset, outputs)  # type: ignore[arg-type]
        export(tmp_path / name, ("onnx",), tmp_path / f"{name}-build", options={"onnx": options})
        assert verify_build(tmp_path / f"{name}-build", observations=200).mismatches == 0
