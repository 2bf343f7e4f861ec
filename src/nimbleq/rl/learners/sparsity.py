"""Training a sparse network from the start: masks that stay, or that move to where gradients are largest.

``static``: random masks, drawn once. ``dynamic``: every `EVERY` updates the smallest weights of a layer are dropped and
as many others grow from 0 where the gradient is largest (RigL [1911.11134]; its older form, SET, is 1707.04780), fewer
and fewer of them over `UNTIL` updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.learners.sparse_masks import PREFIX, initial_masks
from nimbleq.types import Array

EVERY = 500
UNTIL = 50_000
MOVED = 0.3
"""Share of a layer's weights that moves at first."""


class Sparsity:
    """The masks of a network's matrices and kernels.

    Attributes:
        masks: parameter name → bool of its shape, True where a weight is.
    """

    def __init__(self, network: nn.Module, config: NetworkConfig, seed: int) -> None:
        self.dynamic = config.sparsity_mode == "dynamic"
        self.parameters = {name: each for name, each in network.named_parameters() if each.ndim >= 2}
        shapes = {name: tuple(each.shape) for name, each in self.parameters.items()}
        masks = initial_masks(shapes, config.sparsity, seed)
        self.masks = {name: torch.from_numpy(mask.kept) for name, mask in masks.items()}
        with torch.no_grad():
            for name, mask in masks.items():
                self.parameters[name].mul_(torch.from_numpy(mask.factor))

    def before_step(self, update: int, optimizer: torch.optim.Optimizer) -> None:
        """With gradients of all weights: move masks when it is time, then no gradient where no weight is."""
        if self.dynamic and 0 < update <= UNTIL and update % EVERY == 0:
            share = MOVED / 2 * (1 + cos(pi * update / UNTIL))
            for name, parameter in self.parameters.items():
                self._move(name, parameter, share, optimizer)
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                parameter.grad.mul_(self.masks[name])

    @torch.no_grad()
    def _move(self, name: str, parameter: Tensor, share: float, optimizer: torch.optim.Optimizer) -> None:
        """Drop the smallest weights of a layer and grow as many of those that were 0."""
        mask, gradient = self.masks[name].reshape(-1), parameter.grad
        count = min(int(share * int(mask.sum())), int((~mask).sum()))
        if gradient is None or count == 0:
            return
        weight = parameter.detach().reshape(-1)
        drop = torch.where(mask, weight.abs(), torch.inf).topk(count, largest=False).indices
        grow = torch.where(mask, -1.0, gradient.reshape(-1).abs()).topk(count).indices
        mask[drop], mask[grow] = False, True
        weight[drop] = 0.0
        for moment in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][moment].view(-1)[torch.cat([drop, grow])] = 0.0

    @torch.no_grad()
    def after_step(self) -> None:
        """0 where no weight is, also against momentum."""
        for name, parameter in self.parameters.items():
            parameter.mul_(self.masks[name])

    def arrays(self) -> dict[str, Array]:
        """The masks, for a checkpoint."""
        return {f"{PREFIX}{name}": mask.numpy().astype(np.uint8) for name, mask in self.masks.items()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """The way back from `arrays`."""
        self.masks = {name: torch.from_numpy(arrays[f"{PREFIX}{name}"] != 0) for name in self.masks}
