"""The engine ``parallel``: the gradient step of `nimbleq.rl.learners.torch` shared by several processes.

Each of ``M`` ranks has the whole network and a part ``B/M`` of the batch. The replay draws the batch as a whole, so its
importance weights are normalised over all of it; gradients are averaged before they are clipped. So ``M × B/M`` is the
step of ``1 × B``, up to the order in which floats are added.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist

from nimbleq.config import TrainConfig
from nimbleq.rl.learners.gang import Gang, Layout, averaged, joined
from nimbleq.rl.learners.learner import training_threads
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.learners.torch_state import as_array, obs_norm, write_obs_stats
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch


class _Replica(TorchLearner):
    """One rank's network and optimizer; ``group`` is None until there are others."""

    group: dist.ProcessGroup | None = None

    def combine_gradients(self) -> None:
        """See `TorchLearner`: the mean over all ranks."""
        assert self.group is not None, "a gang is started before its first update"
        averaged(self.trained, self.group)


class Rank:
    """What Ray starts for every rank above 0."""

    def serve(
        self,
        address: tuple[str, int],
        rank: int,
        size: int,
        cuda: bool,
        config: TrainConfig,
        spec: EnvSpec,
        layout: Layout,
        state: Mapping[str, Array],
    ) -> None:
        """Update with the others until rank 0 is gone."""
        learner = _Replica(config, spec, config.seed, torch.device("cuda" if cuda else "cpu"))
        learner.load_arrays({name: value.copy() for name, value in state.items()})  # Ray's arrays are read-only
        learner.group = joined(address, rank, size, cuda)
        message = layout.buffer()
        with training_threads(learner.parameters().size):
            while True:
                dist.scatter(message, src=0)
                batch, stats = _batch_of(layout.unpacked(message), learner)
                if stats:
                    _write_stats(learner, stats)
                dist.gather(torch.from_numpy(learner.update(batch)), dst=0)


class ParallelLearner(_Replica):
    """`nimbleq.rl.learners.learner.Learner`, rank 0 of ``config.distributed.learners``.

    The others start at the first update, with a copy of its state.

    Raises:
        LearnersLostError: from `update`: a rank is gone.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        super().__init__(config, spec, seed, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.settings, self.gang = config, None

    gang: Gang | None

    def update(self, batch: Batch) -> Array:
        """See `Learner`."""
        size = self.settings.distributed.learners
        shards = [_shard(batch, rank, size) for rank in range(size)]
        norm = obs_norm(self.online)
        stats = [] if norm is None else [as_array(norm.mean), as_array(norm.inverse_std)]
        messages = [[*(array for array in shard if array is not None), *stats] for shard in shards]
        if self.gang is None:
            layout = Layout.of(messages[0])
            self.gang = Gang(Rank, size, layout, self.device, self.settings, self.spec, layout, self.arrays())
            self.group = self.gang.gradients
        self.gang.send(messages)
        return self.gang.gather(super().update(shards[0]))

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        self.leave()
        super().load_arrays(arrays)

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Learner`."""
        self.leave()
        super().set_weights(weights)

    def leave(self) -> None:
        """End the other ranks; the next update starts new ones."""
        if self.gang is not None:
            self.gang.close()
            self.gang = self.group = None


def _shard(batch: Batch, rank: int, size: int) -> Batch:
    arrays = (np.split(array, size)[rank] for array in batch[:7])
    masks = (None if mask is None else np.split(mask, size)[rank] for mask in (batch.next_mask, batch.mask))
    return Batch(*arrays, *masks)


def _batch_of(arrays: list[Array], learner: _Replica) -> tuple[Batch, list[Array]]:
    """The batch of a message, and the statistics of observations after it."""
    count = 0 if obs_norm(learner.online) is None else 2
    end = len(arrays) - count
    return Batch(*arrays[:end]), arrays[end:]


def _write_stats(learner: _Replica, stats: list[Array]) -> None:
    for network in {learner.online, learner.target}:
        write_obs_stats(network, *(torch.from_numpy(value) for value in stats))
