"""The Q-network's shapes, its dueling head, and that it can be traced."""

import pytest
import torch
from torch import fx

from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec

VECTOR = EnvSpec(ObsSpec((7,)), 3)
IMAGE = EnvSpec(ObsSpec((4, 84, 84), "uint8"), 6)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_vectors(dueling: bool, layer_norm: bool, normalize: bool) -> None:
    network = QNetwork(
        VECTOR, NetworkConfig(hidden=(16, 8), dueling=dueling, layer_norm=layer_norm, normalize_obs=normalize)
    )
    obs = torch.randn(5, 7)
    q = network(obs)
    assert q.shape == (5, 3)
    assert torch.equal(fx.symbolic_trace(network)(obs), q)


def test_images_are_scaled_to_one_and_the_nature_net_has_its_published_size() -> None:
    network = QNetwork(IMAGE, NetworkConfig(torso="nature", hidden=(512,), layer_norm=False))
    obs = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    assert network(obs).shape == (2, 6)
    assert torch.equal(fx.symbolic_trace(network)(obs), network(obs))
    assert network.prepare(obs).max() <= 1
    weights = 4 * 32 * 64 + 32 * 64 * 16 + 64 * 64 * 9 + 3136 * 512 + 512 * 6
    assert sum(p.numel() for p in network.parameters()) == weights + 32 + 64 + 64 + 512 + 6


def test_dueling_subtracts_the_mean_advantage() -> None:
    network = QNetwork(VECTOR, NetworkConfig(hidden=(8,), dueling=True, normalize_obs=False))
    obs = torch.randn(4, 7)
    features = network.body(obs)
    assert network.value is not None
    assert torch.allclose(network(obs).mean(dim=1), network.value(features).squeeze(1), atol=1e-6)


def test_a_torso_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"network\.torso"):
        QNetwork(VECTOR, NetworkConfig(torso="nature"))
