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

from nimbleq.bridge.onnx import read_onnx
from nimbleq.errors import FileError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.interpret import interpret

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
