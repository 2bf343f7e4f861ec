"""The network as a head sees it, in PyTorch."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.noisy import NoisyLinear


class HeadedNetwork(nn.Module):
    """What a head sees of a `nimbleq.rl.nets.network.QNetwork`: features, and the layers ``advantage`` and ``value``.

    Attributes:
        config: architecture.
        actions: A.
        branches: sizes of the action's dimensions, ``A`` in all (empty: it is a single choice).
        atoms: N, outputs per action.
        advantage: ``[B, H] → [B, A·N]``.
        value: ``[B, H] → [B, N]`` when dueling, else None.
    """

    config: NetworkConfig
    actions: int
    branches: tuple[int, ...]
    atoms: int
    advantage: nn.Linear | NoisyLinear
    value: nn.Linear | NoisyLinear | None

    @abstractmethod
    def features(self, obs: Tensor) -> Tensor:
        """What heads read: ``obs[B, *O] → [B, H]``."""

    def outputs(self, features: Tensor) -> Tensor:
        """``[B, H] → [B, A, N]``."""
        weight, bias = self.joined()
        flat = nn.functional.linear(features, weight.flatten(0, 1), bias.flatten())
        return flat.view(-1, self.actions, self.atoms)

    def joined(self) -> tuple[Tensor, Tensor]:
        """The head as one linear layer, ``[A, N, H]`` and ``[A, N]``: a dueling head is linear in its features."""
        weight, bias = _present(self.advantage)
        weight, bias = weight.view(self.actions, self.atoms, -1), bias.view(self.actions, self.atoms)
        if self.value is None:
            return weight, bias
        value_weight, value_bias = _present(self.value)
        return weight - weight.mean(0, keepdim=True) + value_weight, bias - bias.mean(0, keepdim=True) + value_bias


def _present(layer: nn.Linear | NoisyLinear) -> tuple[Tensor, Tensor]:
    return layer.present() if isinstance(layer, NoisyLinear) else (layer.weight, layer.bias)
