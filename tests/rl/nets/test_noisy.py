"""Noisy layers: their mean, their variance, and when they are noisy at all."""

import numpy as np
import pytest
import torch

from nimbleq.rl.nets.noisy import NoisyLinear, noise, noisy_layers


def test_outside_noise_a_layer_is_its_mean() -> None:
    layer, x = NoisyLinear(3, 2, sigma=0.5), torch.randn(4, 3)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    with noise((layer,), torch.Generator().manual_seed(0)):
        first = layer(x)
        assert torch.equal(first, layer(x)), "the noise stays while it lasts"
        assert not torch.equal(first, torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert layer.drawn is None


def test_initial_parameters_are_as_published() -> None:
    layer = NoisyLinear(16, 400, sigma=0.5)
    assert layer.weight.abs().max() <= 0.25
    assert layer.weight.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.05)
    assert torch.equal(layer.weight_sigma, torch.full((400, 16), 0.125))
    assert torch.equal(layer.bias_sigma, torch.full((400,), 0.125))


def test_mean_and_variance_of_an_output() -> None:
    """``y_i = μ_i + ε_out,i·(Σ_j s_ij·ε_in,j·x_j + s_i)``, and ``E[f(n)²] = E|n| = √(2/π)`` =: v.

    So the mean is that of the means and the variance ``v·(v·Σ_j s_ij²·x_j² + s_i²)``.
    """
    layer = NoisyLinear(3, 2, sigma=0.8)
    with torch.no_grad():
        layer.weight_sigma.copy_(torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.0, 0.2]]))
        layer.bias_sigma.copy_(torch.tensor([0.3, 0.4]))
        x = torch.tensor([[1.0, -2.0, 0.5]])
        generator = torch.Generator().manual_seed(1)
        rows = []
        for _ in range(6_000):
            with noise((layer,), generator):
                rows.append(layer(x)[0].numpy())
        mean = layer(x)[0].numpy()
    v = (2 / np.pi) ** 0.5
    sigma = layer.weight_sigma.detach().numpy()
    variance = v * (v * (sigma**2 * x.numpy() ** 2).sum(1) + np.array([0.3, 0.4]) ** 2)
    samples = np.stack(rows)
    assert samples.mean(0) == pytest.approx(mean, abs=0.04)
    assert samples.var(0) == pytest.approx(variance, rel=0.1)


def test_noise_reaches_the_deviations_and_layers_are_found_in_order() -> None:
    net = torch.nn.Sequential(NoisyLinear(3, 4, 0.5), torch.nn.ReLU(), NoisyLinear(4, 2, 0.5))
    layers = noisy_layers(net)
    assert layers == (net[0], net[2])
    with noise(layers, torch.Generator().manual_seed(0)):
        net(torch.ones(1, 3)).sum().backward()
    gradient = layers[1].bias_sigma.grad
    assert gradient is not None
    assert (gradient != 0).all()
