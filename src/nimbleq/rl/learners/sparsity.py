"""The masks of a network that PyTorch trains sparse from the start (rules: `nimbleq.rl.learners.sparse_masks`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.rl.learners.sparse_masks import PREFIX, initial_masks, moved, share_moved
from nimbleq.types import Array


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

    def before_step(self, updates: int, optimizer: torch.optim.Optimizer) -> None:
        """With gradients of all weights: move masks when it is time, then no gradient where no weight is."""
        share = share_moved(updates) if self.dynamic else 0.0
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                if share > 0:
                    self._move(name, parameter, share, optimizer)
                parameter.grad.mul_(self.masks[name])

    @torch.no_grad()
    def _move(self, name: str, parameter: Tensor, share: float, optimizer: torch.optim.Optimizer) -> None:
        """Drop the smallest weights of a layer and grow as many of those that were 0; they begin without moments."""
        assert parameter.grad is not None
        mask = self.masks[name]
        chosen = moved(mask.numpy(), parameter.detach().numpy(), parameter.grad.numpy(), share)
        drop, grow = (torch.from_numpy(each) for each in chosen)
        mask[drop], mask[grow] = False, True
        parameter[drop] = 0.0
        for moment in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][moment][drop | grow] = 0.0

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
