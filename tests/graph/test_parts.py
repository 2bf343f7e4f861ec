"""Slice and Unflatten mean the same everywhere; a network of pictures beside numbers keeps its values."""

import numpy as np
import pytest
import torch

from nimbleq.bridge.torch_graph import to_graph
from nimbleq.bridge.torch_module import to_module
from nimbleq.compress.passes.prune import prune_to
from nimbleq.compress.quantize import quantize
from nimbleq.config import NetworkConfig
from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interface import Interface
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.space import Box, Dict
from nimbleq.graph.tensor import TensorType
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.replay.packing import Packing
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array

SPACE = Dict(
    (
        ("speed", Box((3,))),
        ("camera", Box((12, 10, 3), "uint8", 0, 255, "HWC")),
        ("map", Box((9, 9), "bool", 0, 1, "HW")),
        ("depth", Box((1, 8, 8), "float32", 0, 5, "CHW")),
    )
)
INTERFACE = Interface(SPACE, 4)
SPEC = EnvSpec(INTERFACE.obs, 4, interface=INTERFACE)


def observations(count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            INTERFACE.read(
                {
                    "speed": rng.normal(size=3),
                    "camera": rng.integers(0, 256, (12, 10, 3)).astype(np.uint8),
                    "map": rng.random((9, 9)) < 0.5,
                    "depth": 5 * rng.random((1, 8, 8)),
                }
            )
            for _ in range(count)
        ]
    )


def network() -> QNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return QNetwork(SPEC, NetworkConfig(torso="small", hidden=(24,))).eval()


def outputs(graph: Graph) -> dict[str, TensorType]:
    return {node.output: graph.types[node.output] for node in graph.nodes}


def test_a_vector_is_taken_apart() -> None:
    nodes = (
        Node(ops.Slice(2, 14), ("obs",), "part"),
        Node(ops.Unflatten(2, 3, 2), ("part",), "image"),
        Node(ops.Pool("max", (3, 1), (1, 1)), ("image",), "pool"),
        Node(ops.Flatten(), ("pool",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    graph = Graph({"obs": TensorType((15,))}, nodes, (Q, ACTION), {})
    obs = np.random.default_rng(0).normal(size=(7, 15)).astype(np.float32)
    expected = obs[:, 2:14].reshape(7, 2, 3, 2).max(axis=2).reshape(7, 4)
    assert np.array_equal(interpret(graph, obs)[Q], expected)
    assert np.array_equal(to_module(graph)(torch.from_numpy(obs)).detach().numpy(), expected)
    for engine in ("c", "onnxruntime"):
        policy = Runtime(graph, engine=engine)  # type: ignore[arg-type]
        assert np.array_equal([policy.q_values(row) for row in obs], expected), engine


@pytest.mark.parametrize("op", [ops.Slice(3, 3), ops.Slice(-1, 2), ops.Slice(0, 16), ops.Unflatten(2, 3, 2)])
def test_what_does_not_fit_is_refused(op: ops.Op) -> None:
    with pytest.raises(GraphError, match=op.kind):
        op.infer((TensorType((15,)),), {})


def test_a_network_of_pictures_and_numbers_keeps_its_values() -> None:
    module, obs = network(), observations(50)
    assert SPEC.obs.pixels == 3 * 120 + 81 + 64
    with torch.no_grad():
        wanted = module(torch.from_numpy(obs)).numpy()
    graph = to_graph(module, SPEC.obs)
    for each in (graph, fold(graph)):
        assert np.allclose(interpret(each, obs)[Q], wanted, atol=1e-5)
        for engine in ("c", "onnxruntime"):
            policy = Runtime(each, engine=engine)  # type: ignore[arg-type]
            assert np.allclose([policy.q_values(row) for row in obs], wanted, atol=1e-5), engine


def test_it_is_pruned_and_quantized() -> None:
    obs = observations(300)
    graph = fold(to_graph(network(), SPEC.obs))
    narrow = prune_to(graph, 0.5, obs)
    assert sum(kind.size for kind in outputs(narrow).values()) < sum(kind.size for kind in outputs(graph).values())
    small = quantize(graph, obs)
    same = interpret(small, obs)[ACTION] == interpret(graph, obs)[ACTION]
    assert same.mean() > 0.9
    policy = Runtime(small, engine="c")
    assert [policy.act(row) for row in obs[:50]] == interpret(small, obs[:50])[ACTION].tolist()


def test_pixels_are_scaled_by_what_their_space_reaches() -> None:
    torso = network().torso
    assert [float(part[0].factor) for part in torso.pictures] == pytest.approx([1 / 255, 1 / 255, 1 / 5])  # type: ignore


def test_packed_observations_come_back_bit_for_bit() -> None:
    packing, obs = Packing(SPEC.obs), observations(20)
    packed = packing.pack(obs)
    assert packed.shape == (20, 3 * 120 + 11 + 4 * (64 + 3))
    assert np.array_equal(packing.unpack(packed), obs)
