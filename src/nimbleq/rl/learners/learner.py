"""What training asks of a learner, whichever engine it runs on. A learner holds everything that an update changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from nimbleq.config import LearnerConfig
from nimbleq.graph.graph import Graph
from nimbleq.rl.ramp import ramp
from nimbleq.types import Array, Batch

_SMALL_NET_PARAMETERS = 1_000_000  # below this a second thread costs more than it brings


class Learner(Protocol):
    """What the training loop asks of a learner, whichever engine it runs on. Numpy in, numpy out.

    Attributes:
        updates: gradient steps done.
    """

    updates: int

    def q(self, obs: Array) -> Array:
        """Online Q-values: ``obs[B, *O] → float32[B, A]``."""
        ...

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """Greedy actions: ``obs[B, *O] → int64[B]``, legal in ``mask: bool[B, A]``; ties go to the lowest index.

        ``explore``: of noisy layers with fresh noise, where there are any; otherwise of their means.
        """
        ...

    def update(self, batch: Batch) -> Array:
        """One gradient step; returns ``|TD error|: float32[B]`` before it (see `nimbleq.rl.nets.heads.head`)."""
        ...

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """Statistics that normalise observations, ``float32[O]`` each, online and target; ignored without `ObsNorm`."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Complete state, as copies.

        ``online.<name>`` and ``target.<name>`` (names as in `QNetwork.state_dict`; target only where there is one),
        ``adam_m.<name>``, ``adam_v.<name>`` (parameters only), ``updates`` (``int64[1]``), and ``rng`` (``uint8``)
        where noise or fractions are drawn.
        """
        ...

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned, bit for bit."""
        ...

    def weights(self) -> dict[str, Array]:
        """Copies of the online network's parameters and buffers, named as in `QNetwork.state_dict`."""
        ...

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Put `weights` into the online network; target network and optimizer are left as they are."""
        ...

    def parameters(self) -> Array:
        """The online network's parameters end to end, ``float32[P]``, in the engine's own layout.

        To read at once: the next update may change them.
        """
        ...

    def unpack(self, parameters: Array) -> dict[str, Array]:
        """`weights` with ``parameters: float32[P]``, laid out as `parameters` has them, in place of the network's."""
        ...

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """The way back from `unpack`; buffers are left out."""
        ...

    def graph(self, weights: Mapping[str, Array] | None = None) -> Graph:
        """The greedy policy as a layer graph, with ``weights`` (None: the online network's)."""
        ...


@contextmanager
def training_threads(parameters: int) -> Iterator[None]:
    """PyTorch's threads for a network of so many parameters; afterwards they are as many as before.

    Where PyTorch was not imported so far, none is used.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1 if parameters < _SMALL_NET_PARAMETERS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate(config: LearnerConfig, updates: int) -> float:
    """Step size of the update that follows ``updates`` earlier ones: a linear ramp, constant after it."""
    return ramp(config.lr, config.lr_end, updates / config.lr_updates)
