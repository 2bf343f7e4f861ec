"""Strided convolutions over blocks of pixels: the same sums, the same parameters."""

import pytest
import torch
from torch import nn

from nimbleq.config import NetworkConfig, TrainConfig, with_changes
from nimbleq.rl.learners.device.blocked import BlockedConv2d, _blocks, with_blocks
from nimbleq.rl.learners.device.learner import DeviceLearner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec


@pytest.mark.parametrize(("channels", "kernel", "stride", "side"), [(4, 8, 4, 84), (1, 4, 2, 9), (3, 6, 3, 17)])
def test_the_same_outputs_and_gradients(channels: int, kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 5, kernel, stride).double()
    torso = nn.Sequential(nn.Identity(), plain)
    with_blocks(torso)
    blocked, x = torso[1], torch.randn(2, channels, side, side + 1, dtype=torch.float64, requires_grad=True)
    assert type(blocked) is BlockedConv2d
    assert blocked.weight is plain.weight
    wanted, got = plain(x), blocked(x)
    assert torch.allclose(wanted, got, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(wanted)
    inputs = (x, plain.weight, plain.bias)
    for one, other in zip(
        torch.autograd.grad(wanted, inputs, cotangent), torch.autograd.grad(got, inputs, cotangent), strict=True
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_blocks_are_the_pixels_of_a_block_by_channel(side: int, dtype: torch.dtype) -> None:
    x = torch.randint(0, 256, (2, 3, 4 * side, 5 * side + 1), generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x[:, :, :, : 5 * side]
    blocks = _blocks(x, side)
    assert torch.equal(blocks.float(), torch.nn.functional.pixel_unshuffle(x.float(), side))
    assert blocks.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3, 2), nn.Conv2d(32, 8, 4, 2), nn.Conv2d(4, 8, 4, 2, padding=1)]
)
def test_others_stay_as_they_are(layer: nn.Conv2d) -> None:
    torso = nn.Sequential(layer)
    with_blocks(torso)
    assert torso[0] is layer


def test_a_learner_in_bf16_has_the_names_and_first_weights_of_every_engine() -> None:
    spec = EnvSpec(ObsSpec((4, 36, 36), "uint8"), 3)
    network = NetworkConfig(hidden=(8,), torso="nature", layer_norm=False, normalize_obs=False)
    config = with_changes(TrainConfig(network=network), {"learner.device": "cpu", "learner.precision": "bf16"})
    half, whole = DeviceLearner(config, spec, 3), TorchLearner(config, spec, 3)
    assert type(half.online.torso[0]) is BlockedConv2d  # type: ignore[index]
    mine, its = half.weights(), whole.weights()
    assert mine.keys() == its.keys()
    assert all((mine[name] == its[name]).all() for name in its)
    assert (half.parameters() == whole.parameters()).all()
    assert (half.pack(half.unpack(half.parameters())) == half.parameters()).all()


def test_bytes_go_in_as_they_are() -> None:
    """The features are those of the float network, but for the rounding of weights to bfloat16."""
    spec = EnvSpec(ObsSpec((4, 36, 36), "uint8"), 3)
    network = NetworkConfig(hidden=(8,), torso="nature", layer_norm=False, normalize_obs=False)
    config = with_changes(TrainConfig(network=network), {"learner.device": "cpu", "learner.precision": "bf16"})
    half, whole = DeviceLearner(config, spec, 3), TorchLearner(config, spec, 3)
    obs = torch.randint(0, 256, (5, 4, 36, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, got = whole.online.features(obs), half.online.features(obs)
        plain = super(type(half.online), half.online).seen(obs)  # scaled first, in float32
    assert torch.allclose(wanted, plain, rtol=0, atol=1e-6)
    assert torch.allclose(wanted, got, rtol=0, atol=0.02 * float(wanted.abs().max()))
    assert not torch.equal(wanted, got), "bfloat16 is in use"
