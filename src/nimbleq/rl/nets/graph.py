"""A `QNetwork` as a layer graph, built from its settings and its weights, without tracing.

It computes what `QNetwork.forward` computes. The layers here follow `nimbleq.rl.nets.torsos` one by one, whose order
numbers the weights; a test compares the two for every torso, head and option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.rl.fit import fitting
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.table import head_named
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
    net = GraphBuilder(TensorType(spec.obs.shape, UINT8 if spec.obs.dtype == "uint8" else FLOAT32), weights)
    x = _mixed(net, spec.obs, config) if spec.obs.pictures else _whole(net, spec.obs, config)
    features = _body(net, x, config)
    head_named(config.head).graph(net, features, spec.actions, config)
    return net.graph()


def _whole(net: GraphBuilder, obs: ObsSpec, config: NetworkConfig) -> str:
    x = _normal(net, _scaled(net, "obs", "prepare"), "prepare", config)
    return _torso(net, x, obs.shape, config, "torso")


def _mixed(net: GraphBuilder, obs: ObsSpec, config: NetworkConfig) -> str:
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


def _scaled(net: GraphBuilder, x: str, path: str) -> str:
    """Times the factor of `nimbleq.rl.nets.network.Scale`, where there is one."""
    if not net.has(f"{path}.factor"):
        return x
    return net.affine(x, path, net.given(f"{path}.factor").reshape(()), np.zeros(()))


def _normal(net: GraphBuilder, x: str, path: str, config: NetworkConfig) -> str:
    """Standardised and clipped as by `nimbleq.rl.nets.network.ObsNorm`, where there is one."""
    if not net.has(f"{path}.mean"):
        return x
    # The difference first: where a feature is large beside its deviation, mean·inverse_std would lose its digits.
    centred = net.affine(x, f"{path}.centred", np.ones(()), -net.given(f"{path}.mean"))
    normal = net.affine(centred, f"{path}.normal", net.given(f"{path}.inverse_std"), np.zeros(()))
    return net.add(ops.Activation("clip", low=-config.obs_clip, high=config.obs_clip), f"{path}.clipped", normal)


def _body(net: GraphBuilder, x: str, config: NetworkConfig) -> str:
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


# Torsos: each layer is a function of (net, input, path of its weights) and gives its output.

Layer = Callable[[GraphBuilder, str, str], str]


def _torso(net: GraphBuilder, x: str, shape: tuple[int, ...], config: NetworkConfig, path: str) -> str:
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
    def layer(net: GraphBuilder, x: str, path: str) -> str:
        weight, bias = net.layer(path)
        return _convolved(net, x, path, weight, bias, stride, padding, len(weight) if depthwise else groups)

    return layer


def _convolved(
    net: GraphBuilder, x: str, path: str, weight: Array, bias: Array | None, stride: int, padding: int, groups: int
) -> str:
    names = net.store(f"{path}.weight", weight), None if bias is None else net.store(f"{path}.bias", bias)
    return net.add(ops.Conv2d(*names, (stride, stride), (padding, padding), groups), path, x)


def _space_to_depth(channels: int, block: int) -> Layer:
    """The grouped convolution that picks each pixel of a block."""

    def layer(net: GraphBuilder, x: str, path: str) -> str:
        pick = np.eye(block * block, dtype=np.float32).reshape(block * block, 1, block, block)
        return _convolved(net, x, path, np.tile(pick, (channels, 1, 1, 1)), None, block, 0, channels)

    return layer


def _residual(spectral: bool) -> Layer:
    """``x + conv(relu(conv(relu(x))))``."""

    def layer(net: GraphBuilder, x: str, path: str) -> str:
        y = x
        for name in ("first", "second"):
            where = f"{path}.{name}"
            weight, bias = net.layer(where)
            weight = weight / _norm(net, where, weight) if spectral else weight
            y = _convolved(net, net.add(_RELU, f"{where}.relu", y), where, weight, bias, 1, 1, 1)
        return net.add(ops.Add(), path, x, y)

    return layer


def _norm(net: GraphBuilder, path: str, weight: Array) -> Array:
    """The largest singular value, as the power iteration has it."""
    left, right = (net.given(f"{path}.{side}").astype(np.float64) for side in ("left", "right"))
    norm: Array = left @ weight.reshape(len(weight), -1) @ right
    return norm


def _shuffle_unit(stride: int) -> Layer:
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, beside a shortcut."""

    def layer(net: GraphBuilder, x: str, path: str) -> str:
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
