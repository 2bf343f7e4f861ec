"""The masks of a network that the C learner trains sparse from the start, as views of its state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.rl.learners.native_layout import View
from nimbleq.rl.learners.sparse_masks import NEVER, initial_masks, moved, next_move, share_moved
from nimbleq.types import Array


class Masks:
    """1 where a weight is, else 0; `nimbleq.rl.learners.sparse_masks` has the rules.

    Args:
        views: of the mask of every parameter.
        initial: a network's weights, which become sparse.

    Attributes:
        views: of the masks of matrices, by name, from the first layer on.
    """

    def __init__(self, views: Mapping[str, View], initial: dict[str, Array], network: NetworkConfig, seed: int) -> None:
        self.dynamic = network.sparsity_mode == "dynamic"
        shapes = {name: array.shape for name, array in initial.items() if array.ndim >= 2}
        masks = initial_masks(shapes, network.sparsity, seed)
        for name, view in views.items():
            view.write(masks[name].kept if name in masks else np.ones(view.shape))
        for name, mask in masks.items():
            initial[name] = initial[name] * mask.factor
        self.views = {name: views[name] for name in masks}

    def pause(self, updates: int) -> int:
        """See `next_move`; none of masks that stay."""
        return next_move(updates) if self.dynamic else NEVER

    def move(self, gradients: Mapping[str, View], *groups: Mapping[str, View], updates: int, frozen: int) -> None:
        """Drop and grow weights, except in the ``frozen`` first layers.

        Args:
            gradients: of all weights, kept or not.
            groups: the weights, then their moments; all are 0 where a weight goes or comes.
            updates: before the one that is being computed.
        """
        for name in list(self.views)[frozen:]:
            kept = self.views[name].read() != 0
            drop, grow = moved(kept, groups[0][name].read(), gradients[name].read(), share_moved(updates))
            self.views[name].write(kept & ~drop | grow)
            for group in groups:
                group[name].write(np.where(drop | grow, np.float32(0), group[name].read()))
