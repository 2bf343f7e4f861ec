"""Planes of pixels on the device, by number."""

from __future__ import annotations

import torch
from torch import Tensor

from nimbleq.rl.learners.device.transfer import to_device
from nimbleq.types import Array

_GROWTH = 1.5


class DeviceFrameStore:
    """The pixels of `nimbleq.rl.replay.shared_frames.SharedFrames`, under the same numbers, in one tensor.

    Attributes:
        pixels: ``uint8[room, P]``, row by number. It moves to a larger tensor when it is full: `moves` counts that.
        moves: how often.

    Args:
        size: pixels of a plane, ``P``.
        room: planes that there is room for at first.
        device: where.
    """

    def __init__(self, size: int, room: int, device: torch.device) -> None:
        self.pixels = torch.zeros((room, size), dtype=torch.uint8, device=device)
        self.moves = 0

    def write(self, ids: Array, planes: Array) -> None:
        """Put ``planes: uint8[K, P]`` under the numbers ``ids: int32[K]``."""
        if ids.size:
            self._make_room(int(ids.max()) + 1)
            self.pixels[to_device(ids, self.pixels.device).long()] = to_device(planes, self.pixels.device)

    def _make_room(self, wanted: int) -> None:
        room, size = self.pixels.shape
        if wanted > room:
            larger = torch.zeros((max(wanted, int(room * _GROWTH)), size), dtype=torch.uint8, device=self.pixels.device)
            larger[:room] = self.pixels
            self.pixels = larger
            self.moves += 1

    def gather(self, ids: Tensor) -> Tensor:
        """``ids: int[B, C] → uint8[B, C, P]``."""
        return self.pixels.index_select(0, ids.flatten()).view(*ids.shape, self.pixels.shape[1])
