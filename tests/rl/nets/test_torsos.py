"""Torsos: their published sizes, what they are made of, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from nimbleq.config import NetworkConfig
from nimbleq.errors import ConfigError
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.nets.torsos.mixed import make_torso
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec

ATARI = (4, 84, 84)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def conv(inputs: int, outputs: int, side: int, groups: int = 1) -> int:
    return inputs // groups * outputs * side * side + outputs


def test_impala_has_its_published_layers() -> None:
    """[1802.01561 fig. 3]: stacks of 16, 32, 32 channels, 11×11 at the end on 84×84."""
    torso = make_torso(NetworkConfig(torso="impala"), ATARI)
    stacks = ((4, 16), (16, 32), (32, 32))
    assert parameters(torso) == sum(conv(a, b, 3) + 4 * conv(b, b, 3) for a, b in stacks)
    assert torso(torch.zeros(1, *ATARI)).shape == (1, 32 * 11 * 11)
    wide = make_torso(NetworkConfig(torso="impala", torso_width=2, torso_pool=True), ATARI)
    assert wide(torch.zeros(1, *ATARI)).shape == (1, 64 * 6 * 6), "BTR's"


def test_the_last_pool_is_btrs_adaptive_one_on_atari() -> None:
    x = torch.randn(2, 3, 11, 11)
    assert torch.equal(nn.MaxPool2d(3, stride=2, padding=1)(x), nn.AdaptiveMaxPool2d(6)(x))


def test_compact_torsos_are_made_of_cheap_convolutions() -> None:
    mobile = make_torso(NetworkConfig(torso="mobile"), ATARI)
    blocks = ((32, 64), (64, 64), (64, 64), (64, 64))
    assert parameters(mobile) == conv(4, 32, 3) + sum(conv(a, a, 3, a) + conv(a, b, 1) for a, b in blocks)
    assert mobile(torch.zeros(1, *ATARI)).shape == (1, 64 * 6 * 6)
    shuffle = make_torso(NetworkConfig(torso="shuffle"), ATARI)
    units = (16, 32, 32, 64)
    assert parameters(shuffle) == conv(4, 16, 3) + sum(2 * conv(c, c, 1, 4) + conv(c, c, 3, c) for c in units)
    assert shuffle(torch.zeros(1, *ATARI)).shape == (1, 64 * 11 * 11)


def test_space_to_depth_moves_pixels_into_channels() -> None:
    torso = make_torso(NetworkConfig(torso="mobile", space_to_depth=2), ATARI)
    plain = make_torso(NetworkConfig(torso="mobile"), ATARI)
    assert isinstance(torso, nn.Sequential)
    assert torso[0](torch.zeros(1, *ATARI)).shape == (1, 16, 42, 42)
    assert torso(torch.zeros(1, *ATARI)).shape == plain(torch.zeros(1, *ATARI)).shape


@pytest.mark.parametrize("name", ["impala", "mobile", "shuffle"])
def test_networks_with_them_can_be_traced_and_trained(name: str) -> None:
    config = NetworkConfig(torso=name, hidden=(8,), head="iqn", noisy=True)  # type: ignore[arg-type]
    network = QNetwork(EnvSpec(ObsSpec((2, 12, 16), "uint8"), 3), config)
    obs = torch.randint(0, 256, (2, 2, 12, 16), dtype=torch.uint8)
    q = network(obs)
    assert torch.equal(fx.symbolic_trace(network)(obs), q)
    q.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.torso.parameters())


def test_what_does_not_fit_is_refused() -> None:
    config = NetworkConfig(torso="mobile", space_to_depth=4)
    for shape, changed in (
        ((8,), config),
        ((3, 42, 42), config),
        ((3, 12, 12), config),
        ((4, 84, 84), replace(config, torso="nature")),
    ):
        with pytest.raises(ConfigError, match=r"network\.torso"):
            make_torso(changed, shape)
