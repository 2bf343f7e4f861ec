"""torch and the interpreter agree op by op, on whole networks and on random graphs; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from nimbleq.bridge.torch_graph import from_module, to_graph, to_module
from nimbleq.config import NetworkConfig
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import UINT8
from nimbleq.rl.networks import QNetwork
from nimbleq.types import Array, EnvSpec, ObsSpec
from tests.strategies import graphs_with_obs, random_graph, random_obs

VECTOR, IMAGE, RAW = ObsSpec((6,)), ObsSpec((4, 9, 11)), ObsSpec((4, 9, 11), "uint8")


class Net(nn.Module):
    """A network whose forward is a function of its layers and the observation."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.register_buffer("mean", torch.linspace(-1, 1, 6))
        self.register_buffer("var", torch.linspace(0.5, 2, 6))

    def forward(self, obs: Tensor) -> Tensor:
        return self.function(self, obs)


def observations(obs: ObsSpec, count: int = 5) -> Array:
    rng = np.random.default_rng(0)
    if obs.dtype == "uint8":
        return rng.integers(0, 256, (count, *obs.shape)).astype(np.uint8)
    return (2 * rng.normal(size=(count, *obs.shape))).astype(np.float32)


def assert_agrees(module: nn.Module, obs: ObsSpec) -> Graph:
    graph = to_graph(module, obs)
    inputs = observations(obs)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(inputs)).numpy()
    for each in (graph, fold(graph)):
        result = interpret(each, inputs)
        np.testing.assert_allclose(result["q"], expected, rtol=1e-4, atol=1e-4)
        assert result["action"].tolist() == result["q"].argmax(axis=1).tolist()
    return graph


def stirred(layer: Any) -> Any:
    """A BatchNorm that has seen something."""
    with torch.no_grad():
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
        if layer.affine:
            layer.weight.uniform_(0.5, 2)
            layer.bias.uniform_(-1, 1)
    return layer


VECTOR_LAYERS: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.2),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 2.0),
    "layer norm": nn.LayerNorm(7),
    "plain layer norm": nn.LayerNorm(7, elementwise_affine=False),
    "batch norm": stirred(nn.BatchNorm1d(7)),
    "plain batch norm": stirred(nn.BatchNorm1d(7, affine=False)),
    "dropout": nn.Dropout(0.5),
    "identity": nn.Identity(),
    "flatten": nn.Flatten(),
    "nested": nn.Sequential(nn.Sequential(nn.ReLU()), nn.Identity()),
}


@pytest.mark.parametrize("layer", VECTOR_LAYERS.values(), ids=VECTOR_LAYERS)
def test_vector_layers(layer: nn.Module) -> None:
    assert_agrees(nn.Sequential(nn.Linear(6, 7), layer, nn.Linear(7, 3, bias=False)), VECTOR)


IMAGE_LAYERS: dict[str, nn.Module] = {
    "conv": nn.Conv2d(4, 6, 3),
    "strided": nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0)),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "depthwise": nn.Conv2d(4, 8, (1, 3), groups=4),
    "same": nn.Conv2d(4, 5, (3, 5), padding="same"),
    "valid": nn.Conv2d(4, 5, 2, padding="valid"),
    "batch norm": stirred(nn.BatchNorm2d(4)),
    "conv, batch norm": nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), stirred(nn.BatchNorm2d(5)), nn.ReLU()),
    "batch norm, padded conv": nn.Sequential(stirred(nn.BatchNorm2d(4)), nn.Conv2d(4, 5, 3, padding=1)),
    "max pool": nn.MaxPool2d(2),
    "padded max pool": nn.MaxPool2d((3, 2), stride=(2, 1), padding=1),
    "average pool": nn.AvgPool2d(3, 2, padding=1),
    "adaptive average": nn.AdaptiveAvgPool2d(1),
    "adaptive max": nn.AdaptiveMaxPool2d((3, None)),
    "overlapping adaptive": nn.AdaptiveAvgPool2d((2, 2)),
    "layer norm": nn.LayerNorm([4, 9, 11]),
    "dropout": nn.Dropout2d(),
}


@pytest.mark.parametrize("layer", IMAGE_LAYERS.values(), ids=IMAGE_LAYERS)
def test_image_layers(layer: nn.Module) -> None:
    with torch.no_grad():
        width = layer.eval()(torch.zeros(1, *IMAGE.shape)).flatten(1).shape[1]
    assert_agrees(nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(width, 3)), IMAGE)


VECTOR_CALLS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "functional relu": lambda net, x: net.out(F.relu(x)),
    "method relu": lambda net, x: net.out(x.relu()),
    "leaky": lambda net, x: net.out(F.leaky_relu(x, 0.3)),
    "relu6": lambda net, x: net.out(F.relu6(x)),
    "hardtanh": lambda net, x: net.out(F.hardtanh(x, -2, 2)),
    "clamp": lambda net, x: net.out(torch.clamp(x, -1, 0.5)),
    "clamp method": lambda net, x: net.out(x.clamp(min=-1)),
    "clamp to zero": lambda net, x: net.out(x.clamp(min=0)),
    "clip above": lambda net, x: net.out(x.clip(max=1)),
    "clamp_min": lambda net, x: net.out(torch.clamp_min(x, 0.25)),
    "layer norm": lambda net, x: net.out(F.layer_norm(x, (6,))),
    "normalised": lambda net, x: net.out((x - net.mean) / net.var),
    "normalised by a root": lambda net, x: net.out((x - net.mean) / torch.sqrt(net.var + 1e-8)),
    "normalised, named": lambda net, x: net.out(torch.div(torch.sub(x, net.mean), net.var.sqrt()).clamp(-2, 2)),
    "constants first": lambda net, x: net.out(2.0 * (1 - x) + net.mean),
    "batch axis": lambda net, x: net.out(x * net.var.unsqueeze(0)),
    "negated": lambda net, x: net.out(-x),
    "residual": lambda net, x: net.out(x + net.inner(x)),
    "difference": lambda net, x: net.out(x - net.inner(x)),
    "in place": lambda net, x: net.out(net.inner(x).add_(1.5).mul_(0.5)),
    "cat": lambda net, x: net.wide(torch.cat([x, net.inner(x)], dim=1)),
    "cat from the end": lambda net, x: net.wide(torch.cat((x, net.inner(x)), -1)),
    "dropout": lambda net, x: net.out(F.dropout(x, 0.5, net.training)),
    "flatten": lambda net, x: net.out(torch.flatten(x, 1)),
    "view": lambda net, x: net.out(x.view(-1, 6)),
    "reshape": lambda net, x: net.out(x.reshape(x.shape[0], -1)),
    "size": lambda net, x: net.out(x.view(x.size(0), -1)),
    "float": lambda net, x: net.out(x.float().contiguous().to(torch.float32)),
    "weights by hand": lambda net, x: F.linear(x, net.out.weight, net.out.bias),
    "shared layer": lambda net, x: net.out(net.inner(net.inner(x))),
}


def vector_net(forward: Callable[[Any, Tensor], Tensor]) -> Net:
    torch.manual_seed(0)
    layers = {"out": nn.Linear(6, 3), "inner": nn.Linear(6, 6), "wide": nn.Linear(12, 3), "value": nn.Linear(6, 1)}
    return Net(forward, **layers)


@pytest.mark.parametrize("forward", VECTOR_CALLS.values(), ids=VECTOR_CALLS)
def test_vector_calls(forward: Callable[[Any, Tensor], Tensor]) -> None:
    assert_agrees(vector_net(forward), VECTOR)


DUELING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "v + a - mean": lambda v, a: v + a - a.mean(1, keepdim=True),
    "a + v - mean": lambda v, a: a + v - a.mean(dim=-1, keepdim=True),
    "v + (a - mean)": lambda v, a: v + (a - a.mean(1, keepdim=True)),
    "(a - mean) + v": lambda v, a: (a - torch.mean(a, dim=1, keepdim=True)) + v,
    "v - mean + a": lambda v, a: v - a.mean(dim=(1,), keepdim=True) + a,
    "a + (v - mean)": lambda v, a: a + (v - a.mean(1, keepdim=True)),
    "unsqueezed": lambda v, a: v + a - a.mean(1).unsqueeze(1),
    "torch functions": lambda v, a: torch.add(v, torch.sub(a, a.mean(1, True))),
    "methods": lambda v, a: v.add(a).sub(a.mean(1, keepdim=True)),
}


@pytest.mark.parametrize("head", DUELING.values(), ids=DUELING)
def test_dueling_in_its_usual_spellings(head: Callable[[Tensor, Tensor], Tensor]) -> None:
    graph = assert_agrees(vector_net(lambda net, x: head(net.value(x), net.out(x))), VECTOR)
    assert [node.op.kind for node in graph.nodes] == ["Linear", "Linear", "Dueling", "ArgMax"]
    assert [node.op.kind for node in fold(graph).nodes] == ["Linear", "ArgMax"]


RAW_CALLS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "divided": lambda net, x: net.out(torch.flatten(net.conv(x / 255), 1)),
    "float, divided": lambda net, x: net.out(net.conv(x.float() / 255.0).flatten(1)),
    "to, times": lambda net, x: net.out(net.conv(x.to(torch.float32) * (1 / 255)).flatten(start_dim=1)),
    "functional conv": lambda net, x: net.out(F.conv2d(x / 255, net.conv.weight, net.conv.bias, stride=2).flatten(1)),
    "centred": lambda net, x: net.out(net.conv((x.float() - 127.5) / 127.5).flatten(1)),
    "pooled": lambda net, x: net.small(F.max_pool2d(x / 255, 3).flatten(1)),
    "averaged": lambda net, x: net.small(F.avg_pool2d(x / 255, 3).flatten(1)),
    "adaptive": lambda net, x: net.four(F.adaptive_avg_pool2d(x / 255, (1, 1)).flatten(1)),
    "adaptive max": lambda net, x: net.four(F.adaptive_max_pool2d(x / 255, 1).flatten(1)),
    "global mean": lambda net, x: net.four((x / 255).mean((2, 3))),
    "channels joined": lambda net, x: net.eight(torch.cat([x / 255, 1 - x / 255], 1).mean(dim=(-2, -1))),
}


@pytest.mark.parametrize("forward", RAW_CALLS.values(), ids=RAW_CALLS)
def test_raw_images(forward: Callable[[Any, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    conv, out = nn.Conv2d(4, 5, 3, stride=2), nn.Linear(5 * 4 * 5, 3)
    net = Net(forward, conv=conv, out=out, small=nn.Linear(36, 3), four=nn.Linear(4, 3), eight=nn.Linear(8, 3))
    assert assert_agrees(net, RAW).obs_type.qtype == UINT8


NETWORKS: dict[str, tuple[EnvSpec, NetworkConfig]] = {
    "mlp": (EnvSpec(ObsSpec((8,)), 4), NetworkConfig(hidden=(32, 16))),
    "dueling": (EnvSpec(ObsSpec((4,)), 2), NetworkConfig(hidden=(16,), dueling=True, layer_norm=False)),
    "linear": (EnvSpec(ObsSpec((4,)), 2), NetworkConfig(hidden=(), normalize_obs=False)),
    "nature": (EnvSpec(ObsSpec((2, 40, 36), "uint8"), 3), NetworkConfig(torso="nature", hidden=(16,), dueling=True)),
    "noisy": (EnvSpec(ObsSpec((4,)), 3), NetworkConfig(hidden=(16,), dueling=True, noisy=True)),
    "c51": (EnvSpec(ObsSpec((4,)), 3), NetworkConfig(hidden=(16,), head="c51", atoms=11)),
    "rainbow": (EnvSpec(ObsSpec((4,)), 3), NetworkConfig(hidden=(16,), head="c51", dueling=True, noisy=True)),
    "qr": (EnvSpec(ObsSpec((4,)), 3), NetworkConfig(hidden=(16,), head="qr", atoms=7, dueling=True)),
    "iqn": (EnvSpec(ObsSpec((4,)), 3), NetworkConfig(hidden=(16,), head="iqn", dueling=True, noisy=True)),
    "impala": (EnvSpec(ObsSpec((2, 13, 12), "uint8"), 3), NetworkConfig(torso="impala", hidden=(8,), torso_pool=True)),
    "small": (EnvSpec(ObsSpec((4, 10, 10), "uint8"), 3), NetworkConfig(torso="small", hidden=(8,))),
    "spectral": (
        EnvSpec(ObsSpec((2, 13, 12), "uint8"), 3),
        NetworkConfig(torso="impala", hidden=(8,), head="iqn", spectral_norm=True),
    ),
    "mobile": (EnvSpec(ObsSpec((2, 20, 24), "uint8"), 3), NetworkConfig(torso="mobile", hidden=(8,), space_to_depth=4)),
    "shuffle": (EnvSpec(ObsSpec((2, 21, 24), "uint8"), 3), NetworkConfig(torso="shuffle", hidden=(8,))),
}


@pytest.mark.parametrize(("spec", "config"), NETWORKS.values(), ids=NETWORKS)
def test_our_own_networks(spec: EnvSpec, config: NetworkConfig) -> None:
    torch.manual_seed(0)
    module = QNetwork(spec, config)
    if config.normalize_obs and spec.obs.dtype == "float32":
        module.prepare.mean += torch.linspace(-1, 1, spec.obs.shape[0])  # type: ignore[operator]
        module.prepare.inverse_std *= 3  # type: ignore[operator]
    graph = assert_agrees(module, spec.obs)
    assert graph.actions == spec.actions


@settings(max_examples=50, deadline=None)
@given(graphs_with_obs("float"))
def test_random_graphs_survive_the_way_through_torch(case: tuple[Graph, Array]) -> None:
    graph, obs = case
    expected = interpret(graph, obs)["q"]
    tolerance = 1e-4 * (1 + np.abs(expected).max())
    module = to_module(graph)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(obs)).numpy(), expected, rtol=0, atol=tolerance)
    back = to_graph(module, ObsSpec(graph.obs_type.shape, str(obs.dtype)))
    np.testing.assert_allclose(interpret(back, obs)["q"], expected, rtol=0, atol=tolerance)


def test_trained_weights_come_back() -> None:
    rng = np.random.default_rng(2)
    graph = random_graph(rng, obs="vector", layer_norm=True)
    obs = random_obs(rng, graph, 16)
    module = to_module(graph)
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    module(torch.from_numpy(obs)).square().mean().backward()
    optimizer.step()
    trained = from_module(graph, module)
    with torch.no_grad():
        expected = module(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(interpret(trained, obs)["q"], expected, atol=1e-4)
    assert np.abs(interpret(graph, obs)["q"] - expected).max() > 1e-4
    assert trained.nodes == graph.nodes


def test_integer_graphs_cannot_be_trained() -> None:
    with pytest.raises(UnsupportedOpError, match="train the float graph"):
        to_module(random_graph(np.random.default_rng(0), numbers="int"))


def test_tracing_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.Dropout(), nn.Sequential(nn.Linear(4, 2)))
    module[2].eval()
    before = [child.training for child in module.modules()]
    to_graph(module, VECTOR)
    assert [child.training for child in module.modules()] == before


def test_weights_keep_their_names() -> None:
    graph = to_graph(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), VECTOR)
    assert list(graph.weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]


UNSUPPORTED: dict[str, tuple[nn.Module, ObsSpec, str]] = {
    "dilation": (nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 3, dilation=2))), IMAGE, r"dilation.*in 1\.0"),
    "same, even": (nn.Sequential(nn.Conv2d(4, 2, 2, padding="same")), IMAGE, "padding 'same'"),
    "reflected": (nn.Sequential(nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect")), IMAGE, "reflect padding"),
    "ceil mode": (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), IMAGE, "ceil_mode"),
    "uneven adaptive": (nn.Sequential(nn.AdaptiveAvgPool2d(4)), IMAGE, "windows differ"),
    "layer norm of rows": (nn.Sequential(nn.LayerNorm(11)), IMAGE, "LayerNorm"),
    "unknown layer": (nn.Sequential(nn.Linear(6, 2), nn.Tanh()), VECTOR, r"Tanh \(in 1\)"),
    "unknown function": (vector_net(lambda net, x: torch.sin(net.out(x))), VECTOR, "sin"),
    "unknown method": (vector_net(lambda net, x: net.out(x).softmax(1)), VECTOR, "softmax"),
    "product": (vector_net(lambda net, x: net.out(x * x)), VECTOR, "mul"),
    "slice": (vector_net(lambda net, x: net.out(x[:, :6])), VECTOR, "indexing"),
    "transposed": (vector_net(lambda net, x: net.out(x.permute(0, 1))), VECTOR, "permute"),
    "double": (vector_net(lambda net, x: net.out(x.to(torch.float64))), VECTOR, "cast"),
    "control flow": (vector_net(lambda net, x: net.out(x) if x.sum() > 0 else net.out(-x)), VECTOR, "cannot trace"),
    "half a dueling head": (vector_net(lambda net, x: net.out(x) - net.out(x).mean(1, keepdim=True)), VECTOR, "sub"),
    "broadcast result": (vector_net(lambda net, x: net.value(x) + net.out(x)), VECTOR, "result"),
    "image result": (nn.Sequential(nn.Conv2d(4, 2, 3)), IMAGE, "one vector"),
    "misfit": (nn.Sequential(nn.Linear(5, 2)), VECTOR, "Linear"),
    "whole numbers": (Net(lambda net, x: (x * 2).float().flatten(1)), RAW, "integer arithmetic"),
}


@pytest.mark.parametrize(("module", "obs", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_the_rest_is_refused_by_name(module: nn.Module, obs: ObsSpec, message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message):
        to_graph(module, obs)
