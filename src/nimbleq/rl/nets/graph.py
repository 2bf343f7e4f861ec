"""A `QNetwork` as a layer graph, built from its settings and its weights: no tracing, no torch.

It computes what `QNetwork.forward` computes. The layers here follow `nimbleq.rl.nets.torsos` one by one, whose order
numbers the weights; a test compares the two for every torso, head and option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.rl.fit import fitting
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, ObsSpec

_SHUFFLE_GROUPS = 4
_RELU = ops.Activation("relu")
_MAX_POOL = ops.Pool("max", (3, 3), (2, 2), (1, 1))


def network_graph(spec: EnvSpec, config: NetworkConfig, weights: Mapping[str, Array]) -> Graph:
    """The graph of a network: ``obs[B, *O]`` → action values and greedy action, observation normalisation included.

    Noisy layers are their means, quantiles their mean, spectral norms are divided out.

    Args:
        spec: observation and number of actions.
        config: architecture.
        weights: ``float32``, named as in `QNetwork.state_dict`.

    Raises:
        GraphError: a weight is missing, too many, or does not fit the others.
    """
    net = _Net(TensorType(spec.obs.shape, UINT8 if spec.obs.dtype == "uint8" else FLOAT32), weights)
    x = _mixed(net, spec.obs, config) if spec.obs.pictures else _whole(net, spec.obs, config)
    features = _body(net, x, config)
    _head(net, features, spec.actions, config)
    return net.graph()


class _Net:
    """Nodes so far, and the weights of the network."""

    def __init__(self, obs: TensorType, weights: Mapping[str, Array]) -> None:
        self.obs, self._given = obs, weights
        self._nodes: list[Node] = []
        self._weights: dict[str, Array] = {}
        self._read: set[str] = set()

    def given(self, name: str) -> Array:
        """A weight of the network."""
        if name not in self._given:
            raise GraphError(f"the network's weights lack {name!r}: they belong to another network")
        self._read.add(name)
        return np.asarray(self._given[name], np.float32)

    def has(self, name: str) -> bool:
        """Whether the network has such a weight."""
        return name in self._given

    def store(self, name: str, value: Array) -> str:
        """Make ``value`` a weight of the graph."""
        self._weights[name] = np.asarray(value, np.float32)
        return name

    def add(self, op: ops.Op, name: str, *sources: str) -> str:
        """Append a node."""
        self._nodes.append(Node(op, sources, name))
        return name

    def affine(self, x: str, name: str, scale: Array, shift: Array) -> str:
        """``x·scale + shift``."""
        names = self.store(f"{name}.scale", scale), self.store(f"{name}.shift", shift)
        return self.add(ops.Affine(*names), name, x)

    def linear(self, x: str, name: str, weight: Array, bias: Array) -> str:
        """``weight @ x + bias``."""
        names = self.store(f"{name}.weight", weight), self.store(f"{name}.bias", bias)
        return self.add(ops.Linear(*names), name, x)

    def layer(self, path: str) -> tuple[Array, Array]:
        """Weight and bias of a layer; of a noisy one the means."""
        for sigma in (f"{path}.weight_sigma", f"{path}.bias_sigma"):
            if sigma in self._given:
                self._read.add(sigma)
        return self.given(f"{path}.weight"), self.given(f"{path}.bias")

    def graph(self) -> Graph:
        """The whole, once `Q` is made."""
        unknown = sorted(set(self._given) - self._read)
        if unknown:
            raise GraphError(f"the network has no weight {unknown[0]!r}: the weights belong to another network")
        nodes = (*self._nodes, Node(ops.ArgMax(), (Q,), ACTION))
        return Graph({"obs": self.obs}, nodes, (Q, ACTION), self._weights)


def _whole(net: _Net, obs: ObsSpec, config: NetworkConfig) -> str:
    x = _normal(net, _scaled(net, "obs", "prepare"), "prepare", config)
    return _torso(net, x, obs.shape, config, "torso")


def _mixed(net: _Net, obs: ObsSpec, config: NetworkConfig) -> str:
    """`nimbleq.rl.nets.torsos.MixedTorso`."""
    parts, start = [], 0
    for at, picture in enumerate(obs.pictures):
        path, stop = f"torso.pictures.{at}", start + math.prod(picture.shape)
        x = net.add(ops.Slice(start, stop), f"{path}.part", "obs")
        x = net.add(ops.Unflatten(*picture.shape), f"{path}.picture", x)
        x = _scaled(net, x, f"{path}.0")
        parts.append(_torso(net, x, picture.shape, fitting(config, picture.shape), f"{path}.1"))
        start = stop
    if start < obs.shape[0]:
        x = net.add(ops.Slice(start, obs.shape[0]), "torso.numbers.part", "obs")
        x = net.linear(_normal(net, x, "torso.numbers", config), "torso.body.0", *net.layer("torso.body.0"))
        parts.append(net.add(_RELU, "torso.body.1", x))
    return net.add(ops.Concat(), "torso.joined", *parts) if len(parts) > 1 else parts[0]


def _scaled(net: _Net, x: str, path: str) -> str:
    """Times the factor of `nimbleq.rl.nets.network.Scale`, where there is one."""
    if not net.has(f"{path}.factor"):
        return x
    return net.affine(x, path, net.given(f"{path}.factor").reshape(()), np.zeros(()))


def _normal(net: _Net, x: str, path: str, config: NetworkConfig) -> str:
    """Standardised and clipped as by `nimbleq.rl.nets.network.ObsNorm`, where there is one."""
    if not net.has(f"{path}.mean"):
        return x
    # The difference first: where a feature is large beside its deviation, mean·inverse_std would lose its digits.
    centred = net.affine(x, f"{path}.centred", np.ones(()), -net.given(f"{path}.mean"))
    normal = net.affine(centred, f"{path}.normal", net.given(f"{path}.inverse_std"), np.zeros(()))
    return net.add(ops.Activation("clip", low=-config.obs_clip, high=config.obs_clip), f"{path}.clipped", normal)


def _body(net: _Net, x: str, config: NetworkConfig) -> str:
    at = 0
    for _ in config.hidden:
        x = net.linear(x, f"body.{at}", *net.layer(f"body.{at}"))
        at += 1
        if config.layer_norm:
            x = net.add(ops.LayerNorm(), f"body.{at}", x)
            at += 1
        x = net.add(_RELU, f"body.{at}", x)
        at += 1
    return x


def _head(net: _Net, features: str, actions: int, config: NetworkConfig) -> None:
    if config.head == "q":
        if not config.dueling:
            net.linear(features, Q, *net.layer("advantage"))
            return
        value = net.linear(features, "value", *net.layer("value"))
        advantage = net.linear(features, "advantage", *net.layer("advantage"))
        net.add(ops.Dueling(), Q, value, advantage)
        return
    weight, bias = _joined(net, actions, config)  # [A, N, H], [A, N]
    if config.head == "c51":
        logits = net.linear(features, "logits", weight.reshape(-1, weight.shape[2]), bias.reshape(-1))
        support = net.store("support", np.linspace(config.v_min, config.v_max, config.atoms))
        net.add(ops.Expectation(support), Q, logits)
    elif config.head == "qr":
        net.linear(features, Q, weight.mean(axis=1), bias.mean(axis=1))
    else:
        net.linear(features, Q, weight[:, 0] * _embedding(net, config), bias[:, 0])


def _joined(net: _Net, actions: int, config: NetworkConfig) -> tuple[Array, Array]:
    """The head as one linear layer, float64 ``[A, N, H]`` and ``[A, N]``: see `QNetwork`."""
    weight, bias = (part.astype(np.float64) for part in net.layer("advantage"))
    atoms = config.atoms if config.head in ("c51", "qr") else 1
    if weight.ndim != 2 or weight.shape[0] != actions * atoms or bias.shape != weight.shape[:1]:
        raise GraphError(f"the head has weights {weight.shape}, expected {actions * atoms} rows")
    weight, bias = weight.reshape(actions, atoms, -1), bias.reshape(actions, atoms)
    if not config.dueling:
        return weight, bias
    value_weight, value_bias = net.layer("value")
    return weight - weight.mean(axis=0) + value_weight, bias - bias.mean(axis=0) + value_bias


def _embedding(net: _Net, config: NetworkConfig) -> Array:
    """Mean over evenly spread fractions of ``relu(W·cos(π·i·τ) + b)`` [1806.06923 eq. 4]: ``float64[H]``."""
    fractions = (np.arange(config.policy_fractions) + 0.5) / config.policy_fractions
    cosines = np.cos(np.pi * np.arange(config.cosines) * fractions[:, None])
    weight, bias = net.layer("embed")
    embedding: Array = np.maximum(cosines @ weight.T.astype(np.float64) + bias, 0).mean(axis=0)
    return embedding


# Torsos: each layer is a function of (net, input, path of its weights) and gives its output.

Layer = Callable[[_Net, str, str], str]


def _torso(net: _Net, x: str, shape: tuple[int, ...], config: NetworkConfig, path: str) -> str:
    layers: list[Layer] = []
    if config.torso != "mlp":
        layers += [_space_to_depth(shape[0], config.space_to_depth)] if config.space_to_depth > 1 else []
        layers += _TORSOS[config.torso](config)
        layers += [_plain(_MAX_POOL)] if config.torso_pool else []
    for at, layer in enumerate(layers):
        x = layer(net, x, f"{path}.{at}")
    return net.add(ops.Flatten(), f"{path}.flat", x)


def _plain(op: ops.Op) -> Layer:
    return lambda net, x, path: net.add(op, path, x)


def _conv(stride: int = 1, padding: int = 0, groups: int = 1, depthwise: bool = False) -> Layer:
    def layer(net: _Net, x: str, path: str) -> str:
        weight, bias = net.layer(path)
        return _convolved(net, x, path, weight, bias, stride, padding, len(weight) if depthwise else groups)

    return layer


def _convolved(
    net: _Net, x: str, path: str, weight: Array, bias: Array | None, stride: int, padding: int, groups: int
) -> str:
    names = net.store(f"{path}.weight", weight), None if bias is None else net.store(f"{path}.bias", bias)
    return net.add(ops.Conv2d(*names, (stride, stride), (padding, padding), groups), path, x)


def _space_to_depth(channels: int, block: int) -> Layer:
    """The grouped convolution that picks each pixel of a block."""

    def layer(net: _Net, x: str, path: str) -> str:
        pick = np.eye(block * block, dtype=np.float32).reshape(block * block, 1, block, block)
        return _convolved(net, x, path, np.tile(pick, (channels, 1, 1, 1)), None, block, 0, channels)

    return layer


def _residual(spectral: bool) -> Layer:
    """``x + conv(relu(conv(relu(x))))``."""

    def layer(net: _Net, x: str, path: str) -> str:
        y = x
        for name in ("first", "second"):
            where = f"{path}.{name}"
            weight, bias = net.layer(where)
            weight = weight / _norm(net, where, weight) if spectral else weight
            y = _convolved(net, net.add(_RELU, f"{where}.relu", y), where, weight, bias, 1, 1, 1)
        return net.add(ops.Add(), path, x, y)

    return layer


def _norm(net: _Net, path: str, weight: Array) -> Array:
    """The largest singular value, as the power iteration has it."""
    left, right = (net.given(f"{path}.{side}").astype(np.float64) for side in ("left", "right"))
    norm: Array = left @ weight.reshape(len(weight), -1) @ right
    return norm


def _shuffle_unit(stride: int) -> Layer:
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, beside a shortcut."""

    def layer(net: _Net, x: str, path: str) -> str:
        y = net.add(_RELU, f"{path}.relu", _conv(groups=_SHUFFLE_GROUPS)(net, x, f"{path}.squeeze"))
        channels = len(net.given(f"{path}.squeeze.weight"))
        order = np.arange(channels).reshape(_SHUFFLE_GROUPS, -1).T.reshape(-1)
        permutation = np.eye(channels, dtype=np.float32)[order][:, :, None, None]
        y = _convolved(net, y, f"{path}.shuffle", permutation, None, 1, 0, 1)
        y = _conv(stride, 1, depthwise=True)(net, y, f"{path}.depthwise")
        y = _conv(groups=_SHUFFLE_GROUPS)(net, y, f"{path}.expand")
        if stride == 1:
            return net.add(_RELU, path, net.add(ops.Add(), f"{path}.sum", x, y))
        pooled = net.add(ops.Pool("average", (3, 3), (2, 2), (1, 1)), f"{path}.shortcut", x)
        return net.add(_RELU, path, net.add(ops.Concat(), f"{path}.joined", pooled, y))

    return layer


def _nature(config: NetworkConfig) -> list[Layer]:
    relu = _plain(_RELU)
    return [_conv(4), relu, _conv(2), relu, _conv(1), relu]


def _small(config: NetworkConfig) -> list[Layer]:
    return [_conv(), _plain(_RELU)]


def _impala(config: NetworkConfig) -> list[Layer]:
    block = [_conv(padding=1), _plain(_MAX_POOL), _residual(config.spectral_norm), _residual(config.spectral_norm)]
    return [*block * 3, _plain(_RELU)]


def _stem(config: NetworkConfig) -> list[Layer]:
    return [_conv(1 if config.space_to_depth > 1 else 2, 1), _plain(_RELU)]


def _mobile(config: NetworkConfig) -> list[Layer]:
    relu, layers = _plain(_RELU), _stem(config)
    for stride in (2, 2, 2, 1):
        layers += [_conv(stride, 1, depthwise=True), relu, _conv(), relu]
    return layers


def _shuffle(config: NetworkConfig) -> list[Layer]:
    return [*_stem(config), *(_shuffle_unit(stride) for stride in (2, 1, 2, 1))]


_TORSOS: Mapping[str, Callable[[NetworkConfig], list[Layer]]] = {
    "nature": _nature,
    "small": _small,
    "impala": _impala,
    "mobile": _mobile,
    "shuffle": _shuffle,
}
