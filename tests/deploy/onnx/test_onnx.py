"""ONNX models against the interpreter: float32 within rounding, exact integers bit for bit, QDQ within a level."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.deploy.targets.onnx.build import Build
from nimbleq.deploy.targets.onnx.emit import emit_onnx, write_onnx
from nimbleq.deploy.targets.onnx.exact import EXACT
from nimbleq.deploy.targets.onnx.floats import FLOAT
from nimbleq.deploy.targets.onnx.qdq import QDQ, accumulator_scale
from nimbleq.deploy.targets.onnx.session import load_onnx_policy
from nimbleq.deploy.targets.onnx.tree import TREE
from nimbleq.errors import FileError, NimbleqError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import INT8, UINT8, TensorType
from nimbleq.types import Array
from tests.strategies import graphs_with_obs, random_graph, random_obs

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

INT_ACTIONS = 3


def run_onnx(model: bytes | Path, obs: Array) -> dict[str, Array]:
    """Load and run once."""
    return load_onnx_policy(model)(obs)


def gap(q: Array) -> Array:
    """Difference of the two largest action values; infinite with one action."""
    ordered = np.sort(np.concatenate([q, np.full((len(q), 1), -np.inf)], axis=1), axis=1)
    return ordered[:, -1] - ordered[:, -2]


def assert_close(graph: Graph, obs: Array, answer: dict[str, Array], tolerance: float) -> None:
    """``q`` within ``tolerance`` of the largest value, and the same action wherever the gap is wider than the error."""
    expected = interpret(graph, obs)
    error = tolerance * max(float(np.abs(expected[Q]).max()), 1e-3)
    np.testing.assert_allclose(answer[Q], expected[Q], rtol=0, atol=error)
    clear = gap(expected[Q]) > 2 * error
    np.testing.assert_array_equal(answer[ACTION][clear], expected[ACTION][clear])


def assert_same(graph: Graph, obs: Array, answer: dict[str, Array]) -> None:
    """Bit for bit."""
    expected = interpret(graph, obs)
    np.testing.assert_array_equal(answer[ACTION], expected[ACTION])
    assert answer[Q].dtype == np.float32
    np.testing.assert_array_equal(answer[Q].view(np.uint32), expected[Q].view(np.uint32))


def integer_graph(
    nodes: list[Node], weights: dict[str, Array], obs: TensorType, last: str, scale: float = 0.5
) -> Graph:
    """``nodes`` from ``obs`` to the accumulators ``last``, which become ``q`` and ``action``."""
    tail = [Node(ops.Dequantize("q_scale", "q_zero"), (last,), Q), Node(ops.ArgMax(), (last,), ACTION)]
    tail_weights = {"q_scale": np.array([scale], np.float32), "q_zero": np.zeros(1, np.int32)}
    return Graph({"obs": obs}, (*nodes, *tail), (Q, ACTION), {**weights, **tail_weights})


@settings(max_examples=60, deadline=None)
@given(graphs_with_obs("float"))
def test_float_graphs_agree_within_rounding(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    assert_close(graph, obs, run_onnx(emit_onnx(graph), obs), tolerance=5e-4)


@settings(max_examples=80, deadline=None)
@given(graphs_with_obs("int"))
def test_exact_integer_graphs_agree_bit_for_bit(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    assert_same(graph, obs, run_onnx(emit_onnx(graph), obs))


@settings(max_examples=60, deadline=None)
@given(graphs_with_obs("int"))
def test_qdq_graphs_agree_within_a_level(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    assert_close(graph, obs, run_onnx(emit_onnx(graph, exact=False), obs), tolerance=0.02)


def test_qdq_flips_no_action_of_a_few_thousand() -> None:
    flips = total = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, numbers="int")
        obs = random_obs(rng, graph, 200)
        flips += int(np.sum(run_onnx(emit_onnx(graph, exact=False), obs)[ACTION] != interpret(graph, obs)[ACTION]))
        total += len(obs)
    # Measured: 0 of 9,600; a systematic error of one level would flip some in a hundred.
    assert flips <= total / 1000


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_exact_requantize_over_its_whole_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 9))
    signed = bool(rng.random() < 0.5)
    bits = int(rng.integers(2, 9))
    bottom, top = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    low, high = sorted(int(value) for value in rng.integers(bottom, top + 1, 2))
    zero = int(rng.integers(bottom, top + 1))
    multiplier = rng.integers(2**30, 2**31, channels)
    multiplier[rng.random(channels) < 0.2] = 0
    weights = {
        "w": rng.integers(-127, 128, (channels, 4)).astype(np.int8),
        "b": (rng.integers(-(2**31) + 2**18, 2**31 - 2**18, channels) >> rng.integers(0, 31, channels)).astype(
            np.int32
        ),
        "m": multiplier.astype(np.int32),
        "s": rng.integers(1, 63, channels).astype(np.int32),
        "v": rng.integers(-127, 128, (INT_ACTIONS, channels)).astype(np.int8),
    }
    nodes = [
        Node(ops.Linear("w", "b"), ("obs",), "a"),
        Node(ops.Requantize("m", "s", zero, low, high, bits, signed), ("a",), "h"),
        Node(ops.Linear("v"), ("h",), "last"),
    ]
    graph = integer_graph(nodes, weights, TensorType((4,), UINT8), "last")
    obs = rng.integers(0, 256, (16, 4)).astype(np.uint8)
    assert_same(graph, obs, run_onnx(emit_onnx(graph), obs))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("source", [UINT8, INT8])
def test_the_largest_products_do_not_saturate(exact: bool, source: object) -> None:
    # uint8·int8 kernels without VNNI clip sums of two products at 16 bits.
    weights = {"w": np.array([[127] * 64, [-127] * 64, [126] * 64], np.int8)}
    graph = integer_graph([Node(ops.Linear("w"), ("obs",), "a")], weights, TensorType((64,), source), "a")  # type: ignore[arg-type]
    obs = np.full((2, 64), 255, np.uint8) if source == UINT8 else np.full((2, 64), -128, np.int8)
    assert_same(graph, obs, run_onnx(emit_onnx(graph, exact=exact), obs))


@pytest.mark.parametrize("exact", [True, False])
def test_a_border_is_padded_with_the_zero_point(exact: bool) -> None:
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.integers(-127, 128, (2, 1, 3, 3)).astype(np.int8),
        "m": np.array([2**30], np.int32),
        "s": np.array([39], np.int32),
        "v": rng.integers(-127, 128, (INT_ACTIONS, 32)).astype(np.int8),
    }
    nodes = [
        Node(ops.Conv2d("w", None, padding=(1, 1), groups=2, pad_value=-7), ("obs",), "a"),
        Node(ops.Requantize("m", "s", -3, -128, 100, 8, True), ("a",), "h"),
        Node(ops.Flatten(), ("h",), "f"),
        Node(ops.Linear("v"), ("f",), "last"),
    ]
    graph = integer_graph(nodes, weights, TensorType((2, 4, 4), INT8), "last")
    obs = rng.integers(-128, 128, (9, 2, 4, 4)).astype(np.int8)
    answer = run_onnx(emit_onnx(graph, exact=exact), obs)
    if exact:
        assert_same(graph, obs, answer)
    else:
        assert_close(graph, obs, answer, tolerance=0.02)


@pytest.mark.parametrize("exact", [True, False])
def test_accumulators_with_several_readers(exact: bool) -> None:
    # Pooled, dequantized and requantized differently: no one scale can be folded into the weights.
    rng = np.random.default_rng(4)
    weights = {
        "w": rng.integers(-127, 128, (3, 2, 2, 2)).astype(np.int8),
        "m": np.array([2**30, 2**30 + 5, 2**31 - 1], np.int32),
        "s": np.array([39, 40, 41], np.int32),
        "scale": np.array([0.001], np.float32),
        "offset": np.array([-300], np.int32),
        "inverse": np.array([7.0], np.float32),
        "zero": np.array([5], np.int32),
        "v": rng.integers(-127, 128, (INT_ACTIONS, 24)).astype(np.int8),
    }
    nodes = [
        Node(ops.Conv2d("w"), ("obs",), "a"),
        Node(ops.Requantize("m", "s", 0, 0, 255), ("a",), "h"),
        Node(ops.Pool("max", (2, 2), (1, 1)), ("a",), "p"),
        Node(ops.Dequantize("scale", "offset"), ("p",), "n"),
        Node(ops.Quantize("inverse", "zero", 8, False), ("n",), "k"),
        Node(ops.Pool("max", (2, 2), (1, 1)), ("h",), "g"),
        Node(ops.Concat(), ("g", "k"), "c"),
        Node(ops.Flatten(), ("c",), "f"),
        Node(ops.Linear("v"), ("f",), "last"),
    ]
    graph = integer_graph(nodes, weights, TensorType((2, 4, 4), UINT8), "last")
    obs = rng.integers(0, 256, (20, 2, 4, 4)).astype(np.uint8)
    answer = run_onnx(emit_onnx(graph, exact=exact), obs)
    if exact:
        assert_same(graph, obs, answer)
    else:
        assert_close(graph, obs, answer, tolerance=0.02)


def test_qdq_folds_the_requantize_into_the_weights() -> None:
    rng = np.random.default_rng(5)
    graph = random_graph(rng, numbers="int", obs="vector")
    requantized = [node for node in graph.nodes if isinstance(node.op, ops.Requantize)]
    assert requantized
    for node in requantized:
        scale = accumulator_scale(graph, node.inputs[0])
        assert np.array_equal(scale, np.ldexp(graph.weights[node.op.multiplier] * 1.0, -graph.weights[node.op.shift]))  # type: ignore[attr-defined]
    kinds = [node.op_type for node in onnx.load_from_string(emit_onnx(graph, exact=False)).graph.node]
    assert kinds.count("Mul") == 1, "only the quantization of the observation multiplies"


def test_the_model_says_what_it_is_and_takes_any_batch(tmp_path: Path) -> None:
    graph = random_graph(np.random.default_rng(6), obs="vector")
    path = tmp_path / "lander.onnx"
    write_onnx(graph, path, source="sha256:abc")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props}["nimbleq.source"] == "sha256:abc"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert model.graph.name == "lander"
    assert [value.name for value in model.graph.input] == ["obs"]
    assert [value.name for value in model.graph.output] == ["q", "action"]
    policy = load_onnx_policy(path)
    for batch in (1, 2, 33):
        answer = policy(np.zeros((batch, *graph.obs_type.shape), np.float32))
        assert answer[Q].shape == (batch, graph.actions)
        assert answer[ACTION].shape == (batch,)
    assert path.read_bytes() == emit_onnx(graph, "lander", source="sha256:abc"), "the same bytes every time"


def test_constants_never_take_the_name_of_a_tensor() -> None:
    weights = {"q": np.eye(2, dtype=np.float32), "b": np.zeros(2, np.float32)}
    first = Node(ops.Linear("q", "b"), ("obs",), "q/weight")
    nodes = (first, Node(ops.Linear("q"), ("q/weight",), Q), Node(ops.ArgMax(), (Q,), ACTION))
    graph = Graph({"obs": TensorType((2,))}, nodes, (Q, ACTION), weights)
    obs = np.array([[1.0, 2.0]], np.float32)
    assert_same(graph, obs, run_onnx(emit_onnx(graph), obs))


def test_ties_go_to_the_lowest_index() -> None:
    weights = {"w": np.ones((4, 1), np.int8)}
    graph = integer_graph([Node(ops.Linear("w"), ("obs",), "a")], weights, TensorType((1,), UINT8), "a")
    for exact in (True, False):
        assert run_onnx(emit_onnx(graph, exact=exact), np.array([[9]], np.uint8))[ACTION] == [0]


def test_observations_that_are_no_numbers_give_the_same_levels() -> None:
    graph = random_graph(np.random.default_rng(5), numbers="int", obs="vector")
    obs = np.random.default_rng(0).choice([np.nan, np.inf, -np.inf, 0.5], (64, graph.obs_type.size)).astype(np.float32)
    assert_same(graph, obs, run_onnx(emit_onnx(graph), obs))


def test_every_op_has_an_emitter() -> None:
    for table in (EXACT, QDQ):
        assert {*FLOAT, *TREE, *table} == set(ops.OPS.values())


def test_what_onnx_cannot_express_is_refused() -> None:
    graph = random_graph(np.random.default_rng(5), numbers="int", obs="vector")
    last = graph.producer(Q).inputs[0]  # type: ignore[union-attr]
    with pytest.raises(UnsupportedOpError, match="Dequantize"):
        emit_onnx(Graph(graph.inputs, graph.nodes, (Q, ACTION, last), graph.weights))
    weights = {"i": np.ones(1, np.float32), "z": np.zeros(1, np.int32), "w": np.ones((2, 1, 2, 2), np.int8)}
    nodes = [
        Node(ops.Quantize("i", "z", 16), ("obs",), "x"),
        Node(ops.Conv2d("w"), ("x",), "y"),
        Node(ops.Flatten(), ("y",), "a"),
    ]
    with pytest.raises(UnsupportedOpError, match="8 bits"):
        emit_onnx(integer_graph(nodes, weights, TensorType((1, 2, 2)), "a"))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(np.random.default_rng(0))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NimbleqError, match=r"nimbleq\[onnx\]"):
        Build(graph, exact=True, opset=17)
    with pytest.raises(NimbleqError, match=r"nimbleq\[onnx\]"):
        load_onnx_policy(b"")


def test_files_that_are_no_policy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        load_onnx_policy(tmp_path / "missing.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"not a model" * 99)
    with pytest.raises(FileError, match=r"noise\.onnx"):
        load_onnx_policy(tmp_path / "noise.onnx")
    whole = emit_onnx(random_graph(np.random.default_rng(1)))
    with pytest.raises(FileError):
        load_onnx_policy(whole[: len(whole) // 2])
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["B", 2])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["B", 2])
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(other, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(FileError, match="not a policy"):
        load_onnx_policy(model.SerializeToString())


def test_observations_of_another_shape_are_refused() -> None:
    graph = random_graph(np.random.default_rng(2), obs="vector")
    with pytest.raises(NimbleqError, match="takes observations"):
        run_onnx(emit_onnx(graph), np.zeros((1, graph.obs_type.size + 1), np.float32))


@pytest.mark.parametrize("pad_value", [0, 7])
@pytest.mark.parametrize("exact", [True, False])
def test_float_layers_may_read_a_raw_image(exact: bool, pad_value: int) -> None:
    """What folding /255 into the first convolution leaves: float32 weights on uint8 pixels."""
    rng = np.random.default_rng(0)
    weights = {
        "conv": rng.normal(size=(5, 3, 3, 3)).astype(np.float32),
        "linear": rng.normal(size=(4, 5 * 6 * 6)).astype(np.float32),
    }
    nodes = (
        Node(ops.Conv2d("conv", padding=(1, 1), pad_value=pad_value), ("obs",), "h"),
        Node(ops.Flatten(), ("h",), "f"),
        Node(ops.Linear("linear"), ("f",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    graph = Graph({"obs": TensorType((3, 6, 6), UINT8)}, nodes, (Q, ACTION), weights)
    obs = random_obs(rng, graph, 50)
    assert_close(graph, obs, run_onnx(emit_onnx(graph, exact=exact), obs), 1e-5)
