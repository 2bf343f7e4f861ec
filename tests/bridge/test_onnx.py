"""ONNX models → graphs: the same answers as ONNX Runtime gives, and one line for what the graph cannot express."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from nimbleq.bridge.checkpoints.onnx_model import import_onnx
from nimbleq.bridge.onnx import read_onnx
from nimbleq.errors import FileError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.interpret import interpret
from nimbleq.types import ObsSpec

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def node(kind: str, sources: str, made: str, **attributes: Any) -> Any:
    return helper.make_node(kind, sources.split(), [made], **attributes)


def write(
    path: Path, nodes: list[Any], shape: tuple[Any, ...], arrays: dict[str, np.ndarray], kind: int = TensorProto.FLOAT
) -> Path:
    graph = helper.make_graph(
        nodes, "policy", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


DENSE = {"w": normal(6, 4), "b": normal(6), "v": normal(6, 3), "c": normal(3)}
MODELS: dict[str, tuple[list[Any], tuple[Any, ...], dict[str, np.ndarray]]] = {
    "gemm": (
        [node("Flatten", "x", "f"), node("Gemm", "f w b", "h", transB=1, alpha=0.5, beta=2.0), node("Relu", "h", "r"),
         node("MatMul", "r v", "m"), node("Add", "m c", "y")],
        ("N", 4), DENSE,
    ),
    "scaled input": (
        [node("Sub", "x mean", "s"), node("Div", "s std", "d"), node("Flatten", "d", "f"),
         node("Gemm", "f w b", "h", transB=1), node("LeakyRelu", "h", "r", alpha=0.1), node("MatMul", "r v", "y")],
        (1, 1, 1, 4), DENSE | {"mean": normal(1, 1, 1, 4), "std": np.array([3.0, 1, 7, 0.1], np.float32)},
    ),
    "a product read twice": (
        [node("MatMul", "x u", "m"), node("Add", "m b", "h"), node("Relu", "m", "r"), node("Add", "h r", "t"),
         node("MatMul", "t v", "y")],
        ("N", 4), DENSE | {"u": normal(4, 6)},
    ),
    "an alias read twice": (
        [node("MatMul", "x u", "m"), node("Identity", "m", "i"), node("Add", "i b", "h"), node("Sub", "h m", "t"),
         node("MatMul", "t v", "y")],
        ("N", 4), DENSE | {"u": normal(4, 6)},
    ),
    "picture": (
        [node("Cast", "x", "x0", to=1), node("Div", "x0 top", "s"),
         node("Conv", "s k kb", "h", strides=[2, 2], pads=[1, 1, 1, 1]), node("BatchNormalization", "h g o mu va", "n"),
         node("Clip", "n low high", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
         node("Reshape", "p shape", "f"), node("Gemm", "f w2", "y", transB=1)],
        ("N", 2, 8, 8),
        {"top": np.array(255.0, np.float32), "k": normal(5, 2, 3, 3), "kb": normal(5), "g": normal(5), "o": normal(5),
         "mu": normal(5), "va": np.ones(5, np.float32), "low": np.array(0, np.float32), "high": np.array(6, np.float32),
         "shape": np.array([-1, 20]), "w2": normal(3, 20)},
    ),
    "average": (
        [node("Conv", "x k", "h", group=2), node("Relu", "h", "r"), node("GlobalAveragePool", "r", "p"),
         node("Squeeze", "p axes", "f"), node("Gemm", "f w3", "y", transB=1)],
        (1, 2, 5, 6), {"k": normal(4, 1, 3, 2), "axes": np.array([2, 3]), "w3": normal(3, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_as_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    nodes, shape, arrays = MODELS[name]
    picture = name == "picture"
    path = write(tmp_path / "m.onnx", nodes, shape, arrays, TensorProto.UINT8 if picture else TensorProto.FLOAT)
    graph = read_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = RNG.integers(0, 256, (9, *shape[1:])).astype(np.uint8) if picture else 3 * normal(9, *shape[1:])
    expected = np.concatenate([session.run(None, {"x": values[k : k + 1]})[0] for k in range(9)])
    np.testing.assert_allclose(interpret(graph, values)["q"], expected, rtol=1e-5, atol=1e-5)


def test_a_bias_becomes_the_layers_own(tmp_path: Path) -> None:
    graph = read_onnx(write(tmp_path / "m.onnx", *MODELS["gemm"]))
    assert [type(n.op) for n in graph.nodes] == [ops.Linear, ops.Activation, ops.Linear, ops.ArgMax]
    assert graph.nodes[2].op.bias is not None


@pytest.mark.parametrize(
    ("nodes", "shape", "part"),
    [
        ([node("Tanh", "x", "y")], (1, 4), "Tanh"),
        ([node("Mul", "x x", "y")], (1, 4), "multiplies two tensors"),
        ([node("Flatten", "x", "f", axis=0), node("Relu", "f", "y")], (1, 4), "batch axis"),
        ([node("Relu", "x", "y")], (3, 4), "has the shape"),
        ([node("Relu", "x", "y")], ("N", "M"), "has the shape"),
        ([node("Constant", "", "y", value_float=1.0)], (1, 4), "does not depend"),
        ([node("Identity", "x", "y")], (1, 4), "computes nothing"),
        ([node("MatMul", "x b", "y")], (1, 4), "constant matrix"),
    ],
)
def test_what_the_graph_cannot_express_is_refused_in_one_line(
    nodes: list[Any], shape: tuple[Any, ...], part: str, tmp_path: Path
) -> None:
    if nodes[0].op_type == "Constant":
        del nodes[0].input[:]
    path = write(tmp_path / "m.onnx", nodes, shape, {"b": normal(4)})
    with pytest.raises((FileError, UnsupportedOpError), match=part) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", *MODELS["gemm"])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileError, match=r"m\.onnx"):
        read_onnx(path)
    path.write_bytes(b"not a model")
    with pytest.raises(FileError, match="not a readable ONNX model"):
        read_onnx(path)


HEADS: dict[str, tuple[list[Any], tuple[Any, ...], dict[str, np.ndarray]]] = {
    "dueling": (
        [node("Gemm", "x w b", "h", transB=1), node("LayerNormalization", "h g o", "n"), node("Relu", "n", "r"),
         node("MatMul", "r v", "a"), node("MatMul", "r u", "s"), node("ReduceMean", "a", "m", axes=[1], keepdims=1),
         node("Sub", "a m", "d"), node("Add", "s d", "y")],
        ("N", 4), DENSE | {"g": normal(6), "o": normal(6), "u": normal(6, 1)},
    ),
    "c51": (
        [node("Gemm", "x w", "h", transB=1), node("Reshape", "h rows", "l"), node("Softmax", "l", "p", axis=2),
         node("Mul", "p z", "e"), node("ReduceSum", "e axes", "y", keepdims=0)],
        ("N", 4),
        {"w": normal(15, 4), "rows": np.array([-1, 3, 5]), "z": normal(5), "axes": np.array([2])},
    ),
    "c51 by a product": (
        [node("Gemm", "x w", "h", transB=1), node("Reshape", "h rows", "l"), node("Softmax", "l", "p"),
         node("MatMul", "p z", "y")],
        ("N", 4), {"w": normal(15, 4), "rows": np.array([-1, 3, 5]), "z": normal(5)},
    ),
    "quantiles, actions first": (
        [node("Gemm", "x w", "h", transB=1), node("Reshape", "h rows", "l"),
         node("ReduceMean", "l", "y", axes=[2], keepdims=0)],
        ("N", 4), {"w": normal(15, 4), "rows": np.array([-1, 3, 5])},
    ),
    "quantiles first": (
        [node("Gemm", "x w", "h", transB=1), node("Reshape", "h rows", "l"),
         node("ReduceMean", "l", "y", axes=[1], keepdims=0)],
        ("N", 4), {"w": normal(15, 4), "rows": np.array([-1, 5, 3])},
    ),
    "parts, and a shape that is computed": (
        [node("Slice", "x zero two one", "a"), node("Slice", "x two end one", "b"), node("Relu", "a", "c"),
         node("Concat", "c b", "j", axis=1), node("Shape", "x", "s"), node("Gather", "s zero0", "batch", axis=0),
         node("Unsqueeze", "batch zero", "batch1"), node("Concat", "batch1 rest", "to", axis=0),
         node("Reshape", "j to", "f"), node("Gemm", "f w", "y", transB=1)],
        ("N", 4),
        {"zero": np.array([0]), "two": np.array([2]), "end": np.array([2**62]), "one": np.array([1]),
         "zero0": np.array(0), "rest": np.array([-1]), "w": normal(3, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_heads_of_q_networks_answer_as_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    nodes, shape, arrays = HEADS[name]
    path = write(tmp_path / "m.onnx", nodes, shape, arrays)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = 3 * normal(1000, 4)
    expected = session.run(None, {"x": values})[0]
    got = interpret(read_onnx(path), values)
    np.testing.assert_allclose(got["q"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got["action"], expected.argmax(axis=1))


def channels_last(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    nodes = [node("Cast", "x", "c", to=1), node("Div", "c top", "s"), node("Transpose", "s", "t", perm=[0, 3, 1, 2]),
             node("Conv", "t k", "h"), node("Relu", "h", "r"), node("Flatten", "r", "f"),
             node("Gemm", "f w", "y", transB=1)]  # fmt: skip
    arrays = {"top": np.array(255.0, np.float32), "k": normal(4, 3, 3, 3), "w": normal(3, 4 * 7 * 6)}
    return write(path, nodes, ("N", 9, 8, 3), arrays, kind)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
def test_pictures_with_channels_last_are_read_with_channels_first(kind: int, tmp_path: Path) -> None:
    path = channels_last(tmp_path / "m.onnx", kind)
    given = ObsSpec((3, 9, 8), "uint8")
    imported = import_onnx(path, given)
    assert imported.obs == given
    assert bool(imported.info["notes"]) == (kind == TensorProto.FLOAT)
    values = RNG.integers(0, 256, (500, 9, 8, 3)).astype(np.uint8)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": values.astype(np.float32) if kind == TensorProto.FLOAT else values})[0]
    got = interpret(imported.graph, values.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(got["action"], expected.argmax(axis=1))
    assert len(set(got["action"].tolist())) > 1
    # A property of a box numbers the inputs as the model does.
    with pytest.raises(UnsupportedOpError, match="channels last"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("nodes", "arrays", "part"),
    [
        ([node("Sigmoid", "x", "y")], {}, r"Sigmoid \(y\)"),
        ([node("Reshape", "x rows", "y")], {"rows": np.array([-1, 2, 2])}, "a table of 2 x 2"),
        ([node("Reshape", "x rows", "t"), node("Relu", "t", "y")], {"rows": np.array([-1, 2, 2])}, "Relu"),
        ([node("Softmax", "x", "y")], {}, "Softmax"),
        ([node("ReduceMean", "x", "y", axes=[1], keepdims=0)], {}, "keepdims"),
        ([node("Transpose", "x", "y", perm=[1, 0])], {}, "channels last"),
        ([node("LayerNormalization", "x g", "y", axis=0)], {"g": normal(4)}, "axis 1"),
    ],
)
def test_heads_that_have_no_form_name_op_and_node(
    nodes: list[Any], arrays: dict[str, np.ndarray], part: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.onnx", nodes, (1, 4), arrays)
    with pytest.raises((FileError, UnsupportedOpError), match=part) as caught:
        import_onnx(path, ObsSpec((4,)))
    assert "\n" not in str(caught.value)
