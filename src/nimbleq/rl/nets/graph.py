"""A `QNetwork` as a layer graph, built from its settings and its weights, without tracing.

It computes what `QNetwork.forward` computes. The layers follow the modules one by one, whose order numbers the
weights; a test compares the two for every torso, head and option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.graph.graph import NEXT_STATE, STATE, Graph
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.rl.fit import fitting
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.table import head_named
from nimbleq.rl.nets.torsos.nodes import MAX_POOL, RELU, Layer, plain, space_to_depth
from nimbleq.rl.nets.torsos.table import torso_named
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, ObsSpec


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
    kind = TensorType(spec.obs.shape, UINT8 if spec.obs.dtype == "uint8" else FLOAT32)
    net = GraphBuilder(kind, weights, spec.branches)
    x = _mixed(net, spec.obs, config) if spec.obs.pictures else _whole(net, spec.obs, config)
    features = _body(net, x, config)
    if config.memory:
        features = _remembered(net, features)
    head_named(config.head).graph(net, features, spec.actions, config)
    return net.graph()


def _whole(net: GraphBuilder, obs: ObsSpec, config: NetworkConfig) -> str:
    x = _normal(net, _scaled(net, "obs", "prepare"), "prepare", config)
    return _torso(net, x, obs.shape, config, "torso")


def _mixed(net: GraphBuilder, obs: ObsSpec, config: NetworkConfig) -> str:
    """`nimbleq.rl.nets.torsos.mixed.MixedTorso`."""
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
        parts.append(net.add(RELU, "torso.body.1", x))
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
        x = net.add(RELU, f"body.{at}", x)
        at += 1
    return x


def _remembered(net: GraphBuilder, x: str) -> str:
    of_input = net.linear(x, "memory_cell.input", net.given("memory_cell.weight_ih"), net.given("memory_cell.bias_ih"))
    weight, bias = net.given("memory_cell.weight_hh"), net.given("memory_cell.bias_hh")
    net.remember(weight.shape[1])
    return net.add(ops.GRU(), NEXT_STATE, of_input, net.linear(STATE, "memory_cell.memory", weight, bias), STATE)


def _torso(net: GraphBuilder, x: str, shape: tuple[int, ...], config: NetworkConfig, path: str) -> str:
    """`nimbleq.rl.nets.torsos.mixed.make_torso`."""
    torso = torso_named(config.torso)
    layers: list[Layer] = []
    if torso.pictures:
        layers += [space_to_depth(shape[0], config.space_to_depth)] if config.space_to_depth > 1 else []
        layers += torso.nodes(config)
        layers += [plain(MAX_POOL)] if config.torso_pool else []
    for at, layer in enumerate(layers):
        x = layer(net, x, f"{path}.{at}")
    return net.add(ops.Flatten(), f"{path}.flat", x)
