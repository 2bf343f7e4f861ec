"""torch and the interpreter agree op by op, on whole networks and on random graphs; the rest is refused by name."""

from __future__ import annotations

import collections
import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils import prune

from nimbleq.bridge.torch_graph import from_module, to_graph, to_module
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import UINT8
from nimbleq.types import Array, ObsSpec
from tests.rows import rows
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


class Together(nn.Module):
    """Networks of three values each on one observation, their values one after the other: one export meets all."""

    def __init__(self, nets: Iterable[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.cat([net(obs) for net in self.nets], 1)


def groups(table: dict[str, Any], size: int = 10) -> list[list[str]]:
    """The names of a table in lots of ``size``."""
    names = list(table)
    return [names[start : start + size] for start in range(0, len(names), size)]


def assert_agree(nets: dict[str, nn.Module], obs: ObsSpec) -> Graph:
    """Each of the networks side by side, by name."""
    module, inputs = Together(nets.values()), observations(obs)
    graph = to_graph(module, obs)
    with torch.no_grad():
        expected = [net.eval()(torch.from_numpy(inputs)).numpy() for net in nets.values()]
    for each in (graph, fold(graph)):
        result = interpret(each, inputs)
        found = np.split(result["q"], len(nets), axis=1)
        for name, values, wanted in zip(nets, found, expected, strict=True):
            np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-4, err_msg=name)
        assert result["action"].tolist() == result["q"].argmax(axis=1).tolist()
    return graph


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
    "prelu": nn.PReLU(7, 0.3),
    "hardsigmoid": nn.Hardsigmoid(),
    "alpha dropout": nn.AlphaDropout(0.3),
    "group norm": nn.GroupNorm(7, 7, eps=0.5),
    "nested": nn.Sequential(nn.Sequential(nn.ReLU()), nn.Identity()),
}


@pytest.mark.parametrize("names", groups(VECTOR_LAYERS), ids=", ".join)
def test_vector_layers(names: list[str]) -> None:
    layers = {name: VECTOR_LAYERS[name] for name in names}
    nets = {name: nn.Sequential(nn.Linear(6, 7), layer, nn.Linear(7, 3, bias=False)) for name, layer in layers.items()}
    assert_agree(nets, VECTOR)


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
    "uneven adaptive": nn.AdaptiveAvgPool2d(4),
    "dilated": nn.Conv2d(4, 2, 3, dilation=2),
    "same, even": nn.Conv2d(4, 2, (2, 4), padding="same"),
    "reflected": nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
    "replicated": nn.Conv2d(4, 2, 3, padding=1, padding_mode="replicate"),
    "circular": nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular"),
    "zero pad": nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(4, 5, 3, stride=2, padding=1)),
    "pad, then relu": nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.ReLU()),
    "constant pad": nn.Sequential(nn.ConstantPad2d(1, 0.7), nn.Conv2d(4, 5, 3)),
    "crop": nn.Sequential(nn.ZeroPad2d((-1, -2, 0, -1)), nn.Conv2d(4, 5, 3, padding=1)),
    "transposed": nn.ConvTranspose2d(4, 2, 3, stride=2),
    "average without its padding": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "average of ceil": nn.AvgPool2d(2, ceil_mode=True),
    "average of its own divisor": nn.AvgPool2d(2, divisor_override=3),
    "layer norm of columns": nn.Sequential(nn.Conv2d(4, 3, (9, 1)), nn.LayerNorm(11)),
    "group norm": nn.GroupNorm(2, 4),
    "pixel unshuffle": nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.PixelUnshuffle(2), nn.Conv2d(16, 3, 2)),
    "channel shuffle": nn.Sequential(nn.ChannelShuffle(2), nn.Conv2d(4, 3, 2)),
    "layer norm": nn.LayerNorm([4, 9, 11]),
    "dropout": nn.Dropout2d(),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("names", groups(IMAGE_LAYERS), ids=", ".join)
def test_image_layers(names: list[str]) -> None:
    def net(layer: nn.Module) -> nn.Module:
        with torch.no_grad():
            width = layer.eval()(torch.zeros(1, *IMAGE.shape)).flatten(1).shape[1]
        return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(width, 3))

    assert_agree({name: net(IMAGE_LAYERS[name]) for name in names}, IMAGE)


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


@pytest.mark.parametrize("names", groups(VECTOR_CALLS), ids=", ".join)
def test_vector_calls(names: list[str]) -> None:
    assert_agree({name: vector_net(VECTOR_CALLS[name]) for name in names}, VECTOR)


LINEAR_CALLS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "slice": lambda net, x: net.out(torch.cat([x[:, 4:], x[:, :4]], 1)),
    "relu of a slice": lambda net, x: net.four(torch.relu(x[:, 1:5])),
    "split": lambda net, x: net.four(
        torch.cat([part.relu() for part in torch.split(x, [1, 3, 2], 1)][::2], 1).repeat(1, 2)[:, :4]
    ),
    "flip": lambda net, x: net.out(x.flip(1)),
    "permuted": lambda net, x: net.out(torch.relu(x.view(-1, 2, 3).permute(0, 2, 1)).flatten(1)),
    "in place on a slice": lambda net, x: net.out(_doubled_front(x.clone())),
    "in place on a column": lambda net, x: net.out(_first_doubled(x.clone())),
    "stacked": lambda net, x: torch.stack([net.out(x), net.out(x * 2)]).mean(0),
    "stacked last": lambda net, x: torch.stack([net.out(x), net.out(x * 2)], -1).amax(-1),
    "half a dueling head": lambda net, x: net.out(x) - net.out(x).mean(1, keepdim=True),
    "broadcast": lambda net, x: net.value(x) + net.out(x),
    "maximum": lambda net, x: torch.maximum(net.out(x), net.value(x)),
    "minimum of two": lambda net, x: torch.minimum(net.out(x), net.out(-x)),
    "twin networks": lambda net, x: torch.min(torch.stack([net.out(x), net.out(-x)]), dim=0)[0],
    "absolute": lambda net, x: net.out(x.abs()),
    "clamp by arrays": lambda net, x: net.out(torch.clamp(x, net.mean, net.var)),
    "largest minus": lambda net, x: net.out(x) - net.out(x).max(1, keepdim=True)[0],
    "batched matrix": lambda net, x: torch.bmm(net.out.weight.expand(x.shape[0], -1, -1), x.unsqueeze(2)).squeeze(2),
    "einsum": lambda net, x: torch.einsum("bi,oi->bo", x, net.out.weight) + net.out.bias,
    "matrix product by hand": lambda net, x: (x.unsqueeze(1) * net.out.weight).sum(-1),
    "softmax of actions": lambda net, x: net.out(x).softmax(1),
    "merged rows": lambda net, x: (torch.softmax(net.wide_head(x).view(-1, 4), 1) * net.support).sum(1).view(-1, 3),
    "quantile average": lambda net, x: net.wide_head(x).view(-1, 4, 3).mean(1),
    "weighted quantiles": lambda net, x: (net.wide_head(x).view(-1, 3, 4) * net.support).sum(2),
    "dueling quantiles": lambda net, x: _dueling_rows(net, x).mean(2),
    "dueling histogram": lambda net, x: torch.softmax(_dueling_rows(net, x), 2) @ net.support,
    "log-softmax": lambda net, x: (_dueling_rows(net, x).log_softmax(2).exp() * net.support).sum(2),
    "double in between": lambda net, x: net.out(x.double().mul(2).float()),
}


def _doubled_front(x: Tensor) -> Tensor:
    x[:, :2] *= 2
    return x


def _first_doubled(x: Tensor) -> Tensor:
    x[:, 0] = 2 * x[:, 1]
    return x


def _dueling_rows(net: Any, x: Tensor) -> Tensor:
    value, advantage = net.row(x).unsqueeze(1), net.wide_head(x).view(x.shape[0], 3, 4)
    return value + advantage - advantage.mean(1, keepdim=True)


@pytest.mark.parametrize("names", groups(LINEAR_CALLS), ids=", ".join)
def test_moves_sums_and_products(names: list[str]) -> None:
    def net(forward: Callable[[Any, Tensor], Tensor]) -> Net:
        made = vector_net(forward)
        for name, layer in {"four": nn.Linear(4, 3), "wide_head": nn.Linear(6, 12), "row": nn.Linear(6, 4)}.items():
            made.add_module(name, layer)
        made.register_buffer("support", torch.linspace(-2, 3, 4))
        return made

    assert_agree({name: net(LINEAR_CALLS[name]) for name in names}, VECTOR)


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
    "expand": lambda v, a: v.expand(-1, a.size(1)) + a - a.mean(1, keepdim=True).expand(-1, a.size(1)),
    "expand_as": lambda v, a: v.expand_as(a) + (a - a.mean(dim=1, keepdim=True).expand_as(a)),
    "expand by the batch": lambda v, a: v.expand(a.size(0), 3) + a - a.mean(1).unsqueeze(1).expand(a.size(0), 3),
    "repeat": lambda v, a: v.repeat(1, 3) + a - a.mean(1, keepdim=True),
    "sum / A": lambda v, a: v + a - a.sum(1, keepdim=True) / 3,
    "axis": lambda v, a: v + a - torch.mean(a, axis=1, keepdims=True),  # type: ignore[call-overload]
    "None": lambda v, a: v + a - a.mean(1)[:, None],
    "squeezed and back": lambda v, a: v.squeeze(1).unsqueeze(1) + a - a.mean(1, keepdim=True),
    "in place": lambda v, a: a.clone().sub_(a.mean(1, keepdim=True)).add_(v),
}


@pytest.mark.parametrize("names", groups(DUELING, 9), ids=", ".join)
def test_dueling_in_its_usual_spellings(names: list[str]) -> None:
    def net(head: Callable[[Tensor, Tensor], Tensor]) -> Net:
        return vector_net(lambda net, x: head(net.value(x), net.out(x)))

    graph = assert_agree({name: net(DUELING[name]) for name in names}, VECTOR)
    count = len(names)
    kinds = Counter(node.op.kind for node in graph.nodes)
    assert kinds == {"Linear": 2 * count, "Dueling": count, "Concat": 1, "ArgMax": 1}
    assert "Dueling" not in {node.op.kind for node in fold(graph).nodes}


def test_a_dueling_head_folds_into_one_layer() -> None:
    graph = assert_agrees(vector_net(lambda net, x: DUELING["v + a - mean"](net.value(x), net.out(x))), VECTOR)
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
    "enlarged": lambda net, x: net.four(F.interpolate(x.float(), scale_factor=2)[:, :, 1:, ::3].mean((2, 3))),
}


@pytest.mark.parametrize("names", groups(RAW_CALLS, 6), ids=", ".join)
def test_raw_images(names: list[str]) -> None:
    def net(forward: Callable[[Any, Tensor], Tensor]) -> Net:
        torch.manual_seed(0)
        conv, out = nn.Conv2d(4, 5, 3, stride=2), nn.Linear(5 * 4 * 5, 3)
        return Net(forward, conv=conv, out=out, small=nn.Linear(36, 3), four=nn.Linear(4, 3), eight=nn.Linear(8, 3))

    assert assert_agree({name: net(RAW_CALLS[name]) for name in names}, RAW).obs_type.qtype == UINT8


@settings(max_examples=10, deadline=None)
@given(graphs_with_obs("float"))
@pytest.mark.long
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


class Twice(nn.Module):
    """Counts its calls, which its result does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, obs: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(obs)


class Remembers(Twice):
    """Adds what it has seen before."""

    def forward(self, obs: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(obs) + self.calls


def hooked(register: Callable[[nn.Module], Any]) -> nn.Module:
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    register(module[0])
    return module


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "forward": lambda layer: layer.register_forward_hook(lambda _, __, out: out * 3),
    "before": lambda layer: layer.register_forward_pre_hook(lambda _, given: (given[0] * 3,)),
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
    "weight norm": nn.utils.weight_norm,
    "spectral norm": nn.utils.spectral_norm,
    "new weight norm": nn.utils.parametrizations.weight_norm,
    "new spectral norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": lambda layer: nn.utils.parametrizations.orthogonal(layer, "weight"),
}


@pytest.mark.filterwarnings("ignore")  # torch's, of its older norms
@pytest.mark.parametrize("register", rows(HOOKS, {"before", "spectral norm", "new weight norm", "orthogonal"}))
def test_hooks_and_weights_loaded_after_them(register: Callable[[nn.Module], Any]) -> None:
    torch.manual_seed(0)
    trained = hooked(register)
    trained(torch.zeros(2, 6))
    fresh = hooked(register)
    fresh.load_state_dict(trained.state_dict())
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    graph = to_graph(fresh, VECTOR)  # before any call
    obs = observations(VECTOR)
    with torch.no_grad():
        expected = trained.eval()(torch.from_numpy(obs)).numpy()
        np.testing.assert_allclose(interpret(graph, obs)["q"], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(fresh.eval()(torch.from_numpy(obs)).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


class Cast(nn.Module):
    """Casts inside."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers, self.dtype = plain().to(dtype), dtype

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(obs.to(self.dtype)).float()


class Hidden(nn.Module):
    """Layers in a plain list, which torch does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [plain()]

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers[0](obs)


def with_inference_weights() -> nn.Module:
    with torch.inference_mode():
        return plain()


WRAPPED: dict[str, tuple[Callable[[], nn.Module], torch.dtype, float]] = {
    "float64": (lambda: plain().double(), torch.float64, 1e-5),
    "float16": (lambda: plain().half(), torch.float16, 2.0**-7),
    "bfloat16": (lambda: plain().bfloat16(), torch.bfloat16, 2.0**-4),
    "casts to bfloat16": (lambda: Cast(torch.bfloat16), torch.float32, 2.0**-4),
    "casts to float64": (lambda: Cast(torch.float64), torch.float32, 1e-5),
    "compiled": (lambda: torch.compile(plain(), backend="eager"), torch.float32, 1e-5),
    "data parallel": (lambda: nn.DataParallel(plain()), torch.float32, 1e-5),
    "fx": (lambda: torch.fx.symbolic_trace(plain()), torch.float32, 1e-5),
    "plain list": (Hidden, torch.float32, 1e-5),
    "counts its calls": (Twice, torch.float32, 1e-5),
    "averaged": (lambda: torch.optim.swa_utils.AveragedModel(plain()), torch.float32, 1e-5),
    "copied inference weights": (lambda: copy.deepcopy(with_inference_weights()), torch.float32, 1e-5),
}


AGAIN = {"float64", "float16", "fx", "counts its calls", "averaged"}
"""What takes the way that another row takes too."""


@pytest.mark.parametrize(("make", "dtype", "tolerance"), rows(WRAPPED, AGAIN))
def test_formats_and_wrappers(make: Callable[[], nn.Module], dtype: torch.dtype, tolerance: float) -> None:
    module = make()
    graph = to_graph(module, VECTOR)
    obs = observations(VECTOR)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(obs).to(dtype)).float().numpy()
    np.testing.assert_allclose(interpret(graph, obs)["q"], expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_nothing_is_printed_and_nothing_is_changed(capfd: pytest.CaptureFixture[str]) -> None:
    refused = vector_net(lambda net, x: net.out(x) if x.sum() > 0 else net.out(-x))
    module = Twice()
    module.layer.weight.grad = torch.ones_like(module.layer.weight)
    state, generator = module.calls.clone(), torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_graph(module, VECTOR)
        with pytest.raises(UnsupportedOpError):
            to_graph(refused, VECTOR)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert torch.equal(module.calls, state)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert module.layer.weight.grad is not None
    assert module.layer.weight.requires_grad
    assert module.training


def result(function: Callable[[Tensor], Any]) -> nn.Module:
    return vector_net(lambda net, x: function(net.out(x)))


def test_a_raw_image_for_layers_that_take_floats() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 5, 3))
    graph = to_graph(net, RAW)
    assert graph.obs_type.qtype == UINT8
    obs = observations(RAW)
    with torch.no_grad():
        expected = net(torch.from_numpy(obs).float()).numpy()
    np.testing.assert_allclose(interpret(graph, obs)["q"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def scaled_by_halves() -> nn.Module:
    """A product of half-precision buffers, which torch rounds to half precision."""
    net = vector_net(lambda net, x: net.out(x) * (net.a * net.b).float() + net.c.bfloat16())
    for name, value in (("a", 0.1), ("b", 0.3), ("c", 0.7)):
        net.register_buffer(name, torch.tensor([value], dtype=torch.float32 if name == "c" else torch.float16))
    return net


def test_constants_are_rounded_as_torch_rounds_them() -> None:
    net, obs = scaled_by_halves(), observations(VECTOR)
    with torch.no_grad():
        expected = net(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(interpret(to_graph(net, VECTOR), obs)["q"], expected, rtol=2e-6, atol=2e-6)


class Narrow(nn.Module):
    """Rounds between two layers, by one of the ways to write it."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.how = nn.Linear(6, 8), nn.Linear(8, 2), how

    def forward(self, obs: Tensor) -> Tensor:
        return self.last(self.how(self.first(obs)).float())


def stored_in_half(x: Tensor) -> Tensor:
    held = torch.zeros(x.shape, dtype=torch.float16)
    held[:] = x
    return held


def with_autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return x @ torch.eye(8)


NARROWED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "half": (lambda x: x.half(), "float16"),
    "bfloat16": (lambda x: torch.relu(x.bfloat16()), "bfloat16"),
    "float8": (lambda x: x.to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "dtype of a sum": (lambda x: x + x.sum(1, keepdim=True, dtype=torch.float16), "float16"),
    "written in place": (stored_in_half, "float16"),
    "autocast": (with_autocast, "bfloat16"),
}


@pytest.mark.parametrize(("how", "dtype"), rows(NARROWED, {"bfloat16", "float8"}))
def test_rounding_inside_is_refused_by_name(how: Callable[[Tensor], Tensor], dtype: str) -> None:
    with pytest.raises(UnsupportedOpError, match=rf"\(in head, Narrow\).*rounds to {dtype} inside"):
        to_graph(nn.Sequential(collections.OrderedDict(head=Narrow(how))), VECTOR)


UNSUPPORTED: dict[str, tuple[Any, ObsSpec, str]] = {
    "ceil mode": (nn.Sequential(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))), IMAGE, r"in 0\.0, Max.*ceil_mode"),
    "unknown layer": (nn.Sequential(nn.Linear(6, 2), nn.Softplus()), VECTOR, r"exp \(in 1, Softplus\)"),
    "gelu": (nn.Sequential(nn.Linear(6, 2), nn.GELU()), VECTOR, r"gelu \(in 1, GELU\)"),
    "recurrent": (vector_net(lambda net, x: net.out(torch.sigmoid(x))), VECTOR, "sigmoid"),
    "unknown function": (vector_net(lambda net, x: torch.sin(net.out(x))), VECTOR, "sin"),
    "product": (vector_net(lambda net, x: net.out(x * x)), VECTOR, "mul.*product of two"),
    "quotient": (vector_net(lambda net, x: net.out(x / (1 + x.abs()))), VECTOR, "div"),
    "log-softmax": (vector_net(lambda net, x: net.out(x).log_softmax(1)), VECTOR, "log-softmax"),
    "mixed formats": (vector_net(lambda net, x: net.out(x.to(torch.float64))), VECTOR, "dtype"),
    "control flow": (vector_net(lambda net, x: net.out(x) if x.sum() > 0 else net.out(-x)), VECTOR, "control flow"),
    "item": (vector_net(lambda net, x: net.out(x) * float(x[0, 0])), VECTOR, "torch.export|control flow"),
    "mean of the batch": (vector_net(lambda net, x: net.out(x) - net.out(x).mean()), VECTOR, "mixes the observations"),
    "divided by the batch": (vector_net(lambda net, x: net.out(x) / x.shape[0]), VECTOR, "size of the batch"),
    "reversed batch": (vector_net(lambda net, x: net.out(x).flip(0)), VECTOR, "first axis|mixes"),
    "one batch": (vector_net(lambda net, x: net.out(x).view(7, 3)), VECTOR, "batch of 7"),
    "chance": (vector_net(lambda net, x: net.out(x) + torch.randn(3)), VECTOR, "randn.*chance"),
    "little chance": (vector_net(lambda net, x: net.out(x) + 1e-5 * torch.rand_like(x)[:, :3]), VECTOR, "rand.*chance"),
    "dropout always": (vector_net(lambda net, x: F.dropout(net.out(x), 1e-9)), VECTOR, "dropout.*chance"),
    "image result": (nn.Sequential(nn.Conv2d(4, 2, 3)), IMAGE, "one vector"),
    "observation": (nn.Identity(), VECTOR, "observation itself"),
    "constant": (vector_net(lambda net, x: net.out.bias.expand(x.shape[0], 3)), VECTOR, "does not depend"),
    "scalar": (result(lambda q: q.max()), VECTOR, "mixes"),
    "index": (result(lambda q: q.argmax(1)), VECTOR, "argmax"),
    "pair": (result(lambda q: (q, None)), VECTOR, "returns a tuple"),
    "two": (result(lambda q: (q, q)), VECTOR, "returns a tuple"),
    "dictionary": (result(lambda q: {"q": q}), VECTOR, "returns a dict"),
    "nothing": (result(lambda q: None), VECTOR, "result"),
    "numbers": (result(lambda q: q.detach().numpy()), VECTOR, "torch.export"),
    "dictionary given": (Net(lambda net, x: x["obs"]), VECTOR, "torch.export"),
    "misfit": (nn.Sequential(nn.Linear(5, 2)), VECTOR, "reduction dim"),
    "whole numbers": (Net(lambda net, x: (x * 2).float().flatten(1)), RAW, "integer arithmetic"),
    "remembers": (Remembers(), VECTOR, "every call writes it"),
    "two inputs": (nn.Bilinear(6, 6, 3), VECTOR, "other arguments"),
    "raises": (vector_net(lambda net, x: net.missing(x)), VECTOR, "no attribute 'missing'"),
    "meta": (nn.Linear(6, 3, device="meta"), VECTOR, "meta device"),
    "lazy": (nn.LazyLinear(3), VECTOR, "call the module once"),
    "inference": (with_inference_weights(), VECTOR, "inference_mode"),
    "no module": (lambda x: x, VECTOR, "torch.nn.Module"),
    "last channels": (
        nn.Sequential(Net(lambda net, x: x.permute(0, 3, 1, 2)), nn.Conv2d(3, 8, 8, 4), nn.Flatten()),
        ObsSpec((84, 84, 3)),
        "channels first",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    "make",
    [
        torch.jit.script,
        lambda module: torch.jit.trace(module, torch.zeros(1, 6)),
        lambda module: nn.Sequential(torch.jit.script(module)),
    ],
)
def test_scripted_modules_are_refused(make: Callable[[nn.Module], Any]) -> None:
    with pytest.raises(UnsupportedOpError, match="scripted or traced"):
        to_graph(make(plain()), VECTOR)


REFUSED_ALIKE = {
    "unknown layer", "recurrent", "unknown function", "item", "chance", "dropout always", "scalar", "two", "numbers",
}  # fmt: skip
"""What another row's line of the code refuses too."""


@pytest.mark.parametrize(("module", "obs", "message"), rows(UNSUPPORTED, REFUSED_ALIKE))
def test_the_rest_is_refused_by_name(module: nn.Module, obs: ObsSpec, message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message) as caught:
        to_graph(module, obs)
    assert "\n" not in str(caught.value)
