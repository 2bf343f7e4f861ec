"""Proportional prioritisation [1511.05952 §3.3] on the device: `nimbleq.rl.replay.priority.Priorities` without a tree.

A device adds up a million priorities faster than it could walk a tree: each draw searches their running sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nimbleq.rl.learners.device.transfer import to_device, to_host
from nimbleq.types import Array

_OFFSET = 1e-6  # ε of the paper: no transition is ever forgotten


class DevicePriorities:
    """Draws slots with ``P(i) ∝ (|δ_i| + ε)^α`` and knows the importance weights that undo the bias.

    Args:
        capacity: slots.
        alpha: exponent of the priority.
        device: where.
    """

    def __init__(self, capacity: int, alpha: float, device: torch.device) -> None:
        self.alpha, self.device = alpha, device
        self.values = torch.zeros(capacity, dtype=torch.float64, device=device)
        self.highest = torch.ones((), dtype=torch.float64, device=device)

    def add(self, index: Tensor) -> None:
        """New transitions, ``index: int64[K]``, get the highest priority so far."""
        self.values[index] = self.highest

    def update(self, index: Tensor, abs_td: Tensor) -> None:
        """New priorities from ``|TD error|: float32[B]``."""
        priority = (abs_td.double() + _OFFSET) ** self.alpha
        self.values[index] = priority
        torch.maximum(self.highest, priority.max(), out=self.highest)

    def sample(self, count: int, size: Tensor, generator: torch.Generator) -> Tensor:
        """``int64[count]`` slots below ``size``, one from each of ``count`` equal slices of the total (App. B.2.1)."""
        until = self.values.cumsum(0)
        place = torch.rand(count, dtype=torch.float64, device=self.device, generator=generator)
        mass = (torch.arange(count, device=self.device) + place) * (until[-1] / count)
        # Rounding must not lead past the end.
        return torch.minimum(torch.searchsorted(until, mass, right=True), size - 1)

    def weights(self, index: Tensor, beta: Tensor) -> Tensor:
        """``float32[B]``: ``(N·P(i))^−β`` over the batch's maximum (§3.4), in which N and the total cancel out."""
        priority = self.values[index]
        return (priority / priority.min()).float() ** -beta

    def arrays(self) -> dict[str, Array]:
        """Complete state, named as `Priorities.arrays` names it."""
        return {"values": to_host(self.values), "highest": to_host(self.highest)[None]}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned."""
        self.values.copy_(to_device(arrays["values"], self.device))
        self.highest.fill_(float(np.asarray(arrays["highest"])[0]))
