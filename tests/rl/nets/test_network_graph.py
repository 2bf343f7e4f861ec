"""A network's graph, built from its weights, computes what the network computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nimbleq.bridge.torch_graph import to_graph
from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError, GraphError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrite import fold
from nimbleq.rl.defaults import on_images
from nimbleq.rl.learners.torch_state import named_arrays
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.preset_tables import ALGORITHMS, ON_IMAGES
from nimbleq.rl.presets import preset
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, ObsSpec

VECTOR, IMAGE = EnvSpec(ObsSpec((4,)), 3), EnvSpec(ObsSpec((2, 40, 36), "uint8"), 3)
CAMERA, MAP = ObsSpec((3, 40, 36), "uint8"), ObsSpec((2, 8, 8), "uint8")
MIXED = EnvSpec(ObsSpec((3 * 40 * 36 + 2 * 8 * 8 + 5,), pictures=(CAMERA, MAP)), 3)
NETWORKS: dict[str, tuple[EnvSpec, NetworkConfig]] = {
    "mlp": (EnvSpec(ObsSpec((8,)), 4), NetworkConfig(hidden=(32, 16))),
    "dueling": (VECTOR, NetworkConfig(hidden=(16,), dueling=True, layer_norm=False)),
    "linear": (VECTOR, NetworkConfig(hidden=(), normalize_obs=False)),
    "noisy": (VECTOR, NetworkConfig(hidden=(16,), dueling=True, noisy=True)),
    "c51": (VECTOR, NetworkConfig(hidden=(16,), head="c51", atoms=11)),
    "rainbow": (VECTOR, NetworkConfig(hidden=(16,), head="c51", dueling=True, noisy=True, v_min=-3, v_max=7)),
    "hl-gauss": (VECTOR, NetworkConfig(hidden=(16,), head="hl-gauss", dueling=True, v_min=-3, v_max=7)),
    "qr": (VECTOR, NetworkConfig(hidden=(16,), head="qr", atoms=7, dueling=True)),
    "iqn": (VECTOR, NetworkConfig(hidden=(16,), head="iqn", dueling=True, noisy=True)),
    "table": (EnvSpec(ObsSpec((3, 5)), 2), NetworkConfig(hidden=(16,))),
    "nature": (IMAGE, NetworkConfig(torso="nature", hidden=(16,), dueling=True)),
    "pixels for an mlp": (EnvSpec(ObsSpec((2, 9, 8), "uint8"), 3), NetworkConfig(hidden=(16,))),
    "float image": (EnvSpec(ObsSpec((2, 13, 12)), 3), NetworkConfig(torso="small", hidden=(8,))),
    "pictures and numbers": (MIXED, NetworkConfig(torso="nature", hidden=(16,), dueling=True)),
    "pictures alone": (
        EnvSpec(ObsSpec((2 * 2 * 8 * 8,), pictures=(MAP, MAP)), 3),
        NetworkConfig(torso="small", hidden=(8,), space_to_depth=2),
    ),
    "small": (IMAGE, NetworkConfig(torso="small", torso_width=2, hidden=(8,))),
    "board": (EnvSpec(ObsSpec((3, 8, 9), "uint8"), 7), NetworkConfig(torso="board", hidden=(8,), layer_norm=False)),
    "impala": (EnvSpec(ObsSpec((2, 13, 12), "uint8"), 3), NetworkConfig(torso="impala", hidden=(8,), torso_pool=True)),
    "spectral": (
        EnvSpec(ObsSpec((2, 13, 12), "uint8"), 3),
        NetworkConfig(torso="impala", hidden=(8,), head="iqn", spectral_norm=True),
    ),
    "spectral mlp": (EnvSpec(ObsSpec((7,)), 3), NetworkConfig(hidden=(9, 8), dueling=True, spectral_norm=True)),
    "mobile": (EnvSpec(ObsSpec((2, 20, 24), "uint8"), 3), NetworkConfig(torso="mobile", hidden=(8,), space_to_depth=4)),
    "shuffle": (EnvSpec(ObsSpec((2, 21, 24), "uint8"), 3), NetworkConfig(torso="shuffle", hidden=(8,))),
    "wide shuffle": (
        EnvSpec(ObsSpec((3, 16, 16), "uint8"), 3),
        NetworkConfig(torso="shuffle", torso_width=2, hidden=(8,), space_to_depth=2, torso_pool=True, noisy=True),
    ),
}


def network(spec: EnvSpec, config: NetworkConfig, seed: int = 0) -> QNetwork:
    """One whose buffers are not those of a new network."""
    torch.manual_seed(seed)
    module = QNetwork(spec, config).eval()
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.startswith("torso") and value.ndim == 4:
                value *= 3  # PyTorch's own weights let hardly anything through many layers
    if "prepare.mean" in module.state_dict():
        module.prepare.mean += torch.linspace(-1, 1, spec.obs.shape[0])  # type: ignore[operator]
        module.prepare.inverse_std *= torch.linspace(0.5, 3, spec.obs.shape[0])  # type: ignore[operator]
    return module


def observations(spec: EnvSpec, count: int = 16) -> Array:
    rng = np.random.default_rng(1)
    if spec.obs.dtype == "uint8":
        return rng.integers(0, 256, (count, *spec.obs.shape)).astype(np.uint8)
    return (3 * rng.normal(size=(count, *spec.obs.shape))).astype(np.float32)


def assert_is(module: QNetwork, spec: EnvSpec) -> Graph:
    graph = network_graph(spec, module.config, named_arrays(module))
    obs = observations(spec)
    with torch.no_grad():
        expected = module(torch.from_numpy(obs)).numpy()
    for each in (graph, fold(graph)):
        np.testing.assert_allclose(interpret(each, obs)["q"], expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 1e-4, "a test in which the observation does not matter"
    return graph


@pytest.mark.parametrize(("spec", "config"), NETWORKS.values(), ids=NETWORKS)
def test_the_graph_computes_what_the_network_computes(spec: EnvSpec, config: NetworkConfig) -> None:
    assert assert_is(network(spec, config), spec).actions == spec.actions


@pytest.mark.parametrize("name", ["rainbow", pytest.param("impala", marks=pytest.mark.long), "wide shuffle"])
def test_it_folds_to_the_graph_that_tracing_gives(name: str) -> None:
    spec, config = NETWORKS[name]
    module = network(spec, config)
    built, traced = fold(network_graph(spec, config, named_arrays(module))), fold(to_graph(module, spec.obs))
    assert [node.op.kind for node in built.nodes] == [node.op.kind for node in traced.nodes]
    obs = observations(spec)
    np.testing.assert_allclose(interpret(built, obs)["q"], interpret(traced, obs)["q"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = bool(rng.integers(2))
    torsos = ("nature", "small", "board", "impala", "mobile", "shuffle") if image else ("mlp",)
    config = NetworkConfig(
        torso=torsos[rng.integers(len(torsos))],
        torso_pool=bool(rng.integers(2)),
        spectral_norm=bool(rng.integers(2)),
        space_to_depth=int(rng.choice([1, 2])) if image else 1,
        hidden=tuple(int(width) for width in rng.integers(1, 20, rng.integers(0, 3))),
        layer_norm=bool(rng.integers(2)),
        dueling=bool(rng.integers(2)),
        noisy=bool(rng.integers(2)),
        head=("q", "c51", "hl-gauss", "qr", "iqn")[rng.integers(5)],
        atoms=int(rng.integers(2, 12)),
        cosines=int(rng.integers(1, 9)),
        policy_fractions=int(rng.integers(1, 9)),
        normalize_obs=bool(rng.integers(2)),
    )
    if 1 in config.hidden and config.layer_norm:  # the LayerNorm of one number is 0
        config = replace(config, layer_norm=False)
    shape = (int(rng.integers(1, 4)), 2 * int(rng.integers(18, 24)), 40) if image else (int(rng.integers(1, 9)),)
    spec = EnvSpec(ObsSpec(shape, "uint8" if image and rng.integers(2) else "float32"), int(rng.integers(1, 5)))
    try:
        module = network(spec, config, seed)
    except ConfigError:
        return
    graph = network_graph(spec, config, named_arrays(module))
    obs = observations(spec, 4)
    with torch.no_grad():
        expected = module(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(interpret(graph, obs)["q"], expected, rtol=1e-3, atol=1e-4)


SHAPES = {"CartPole-v1": (4,), "LunarLander-v3": (8,), "small image": (4, 10, 10), "image": (4, 84, 84)}


@pytest.mark.parametrize("env", SHAPES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_presets(env: str, name: str) -> None:
    shape = SHAPES[env]
    spec = EnvSpec(ObsSpec(shape, "uint8" if len(shape) == 3 else "float32"), 4)
    if len(shape) == 1:
        config = preset(env, name).network
    else:
        config = on_images(spec, {**ALGORITHMS[name], **ON_IMAGES.get(name, {})}).network
    if min(shape[1:], default=36) < 36 and config.torso == "nature":
        config = replace(config, torso="small")
    module = network(spec, config)
    graph = network_graph(spec, config, named_arrays(module))
    obs = observations(spec, 2)
    with torch.no_grad():
        expected = module(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(interpret(graph, obs)["q"], expected, rtol=1e-3, atol=1e-3)


def test_weights_of_another_network_are_refused() -> None:
    spec, config = NETWORKS["dueling"]
    weights = named_arrays(network(spec, config))
    with pytest.raises(GraphError, match=r"lack 'body\.0\.bias'"):
        network_graph(spec, config, {name: value for name, value in weights.items() if name != "body.0.bias"})
    with pytest.raises(GraphError, match=r"no weight 'value\.bias'"):
        network_graph(spec, replace(config, dueling=False), weights)
    with pytest.raises(GraphError, match="Linear"):
        network_graph(spec, config, weights | {"body.0.weight": np.zeros((16, 5), np.float32)})
