"""Deep Q-learning of a network that remembers, from sequences with stored memory and burn-in [R2D2: Kapturowski et al.
2019, "Recurrent experience replay in distributed reinforcement learning"].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nimbleq.config import TrainConfig
from nimbleq.graph.branches import best
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads.head import Sample
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.replay.sequences import Sequences
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch


class OverFeatures:
    """A network for heads, whose observations are features of it already: ``[2, M, H]`` of both networks, of which it
    reads its own (0: online, 1: target).
    """

    def __init__(self, network: QNetwork, which: int) -> None:
        self.network, self.which = network, which

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def features(self, both: Tensor) -> Tensor:
        """Its own: ``[M, H]``."""
        return both[self.which]

    def __call__(self, both: Tensor) -> Tensor:
        return self.network.head.q(self.network, both[self.which])


class RecurrentLearner(TorchLearner):
    """`nimbleq.rl.learners.learner.Learner` of networks that remember; `update_sequences` in place of ``update``.

    Attributes:
        state: ``float32[N, H]`` what the network remembers in the environments that training plays.
        before: the same before the last actions.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        super().__init__(config, spec, seed)
        self.replay = config.replay
        cells = self.online.memory_cell, self.target.memory_cell
        assert cells[0] is not None
        assert cells[1] is not None
        self.cells = cast("tuple[torch.nn.GRUCell, torch.nn.GRUCell]", cells)
        self.state = np.zeros((config.envs, config.network.memory), np.float32)
        self.before = self.state

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """Greedy actions of the environments that training plays, which it remembers from now on: ``explore``."""
        assert explore, "checks play the graph, which remembers by itself"
        self.before = self.state
        with torch.no_grad():
            state = self._remember(obs, torch.from_numpy(self.state))
            q = self.online.head.q(self.online, state).numpy()
        self.state = state.numpy()
        return best(q, self.spec.branches, mask)

    def _remember(self, obs: Array, state: Tensor) -> Tensor:
        return cast(Tensor, self.cells[0](self.online.seen(torch.from_numpy(obs)), state))

    def forget(self, ended: Array) -> None:
        """Episodes ended: ``bool[N]``."""
        self.state = np.where(ended[:, None], np.float32(0), self.state)

    def q(self, obs: Array) -> Array:
        """Action values of first observations: ``obs[B, *O] → float32[B, A]``."""
        with torch.no_grad():
            state = self._remember(obs, torch.zeros(len(obs), self.state.shape[1]))
            return self.online.head.q(self.online, state).numpy()

    def update(self, batch: Batch) -> Array:
        """There are no single transitions here."""
        raise AssertionError("a network that remembers learns from sequences")

    def update_sequences(self, drawn: Sequences) -> tuple[Array, Array]:
        """One gradient step.

        The memory of both networks starts from what was stored; the first ``replay.burn_in`` steps only refresh it.
        Each of the next ``replay.sequence`` steps is a transition of up to ``replay.n_step`` steps, cut where its
        episode ends: the true successor is looked at with the memory of that episode.

        Returns:
            ``|TD error|: float32[M]`` and action values of the steps learnt from ``float32[M]``.
        """
        burn_in, count, n = self.replay.burn_in, self.replay.sequence, self.replay.n_step
        obs, next_obs = (self._tensor(array) for array in (drawn.obs, drawn.next_obs))
        ended = drawn.terminated | drawn.truncated
        state = self._tensor(drawn.state)
        online, later = _unrolled(self.online, self.cells[0], obs, next_obs, ended, state, burn_in)
        with torch.no_grad():
            target, later_target = _unrolled(self.target, self.cells[1], obs, next_obs, ended, state, burn_in)
        reward, discount, last = returns(drawn.reward[burn_in:], drawn.terminated[burn_in:], ended[burn_in:], n, count,
                                         self.config.gamma)  # fmt: skip
        pick = torch.from_numpy(last), torch.arange(len(drawn.state)).expand(count, -1)
        first = slice(burn_in, burn_in + count)
        flat = Sample(
            obs=torch.stack([online[:count], target[:count]]).flatten(1, 2),
            action=self._tensor(drawn.action[first]).reshape(-1),
            reward=self._tensor(reward).reshape(-1) * self.config.reward_scale,
            discount=self._tensor(discount).reshape(-1),
            next_obs=torch.stack([later[pick], later_target[pick]]).flatten(1, 2).detach(),
            next_mask=None if drawn.next_mask is None else self._tensor(drawn.next_mask[burn_in:])[pick].flatten(0, 1),
            mask=None if drawn.mask is None else self._tensor(drawn.mask[first]).flatten(0, 1),
        )
        networks = OverFeatures(self.online, 0), OverFeatures(self.target, 1)
        if self.target is self.online:
            networks = networks[0], networks[0]
        errors = self.loss(*networks, flat, self.config, self.generator)  # type: ignore[arg-type]
        self._descend(errors.loss.mean())
        with torch.no_grad():
            values = losses.chosen(networks[0](flat.obs), flat.action) if not self.spec.branches else errors.surprise
        return errors.surprise.numpy(), values.numpy()

    def measures(self, abs_td: Array, values: Array) -> dict[str, float]:
        """What is logged about an update."""
        with np.errstate(over="ignore"):
            return {"loss": float(np.square(abs_td).mean()), "q_mean": float(values.mean())}

    def arrays(self) -> dict[str, Array]:
        """See `Learner`; and what is remembered in the environments."""
        return super().arrays() | {"memory": self.state.copy()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        super().load_arrays(arrays)
        self.state = arrays["memory"].copy()


def _unrolled(
    network: QNetwork, cell: torch.nn.GRUCell, obs: Tensor, next_obs: Tensor, ended: Array, state: Tensor, burn_in: int
) -> tuple[Tensor, Tensor]:
    """Features of each step after ``burn_in``, and of its true successor: ``[T − burn_in, K, H]`` each.

    No gradient flows into the steps of the burn-in.
    """
    keep = torch.from_numpy(~ended)
    steps, count = obs.shape[:2]
    seen = network.seen(obs.flatten(0, 1)).view(steps, count, -1)
    with torch.no_grad():
        following = network.seen(next_obs[burn_in:].flatten(0, 1))
    with torch.no_grad():
        for t in range(burn_in):
            state = cell(seen[t], state) * keep[t, :, None]
    features = []
    for t in range(burn_in, len(obs)):
        features.append(cell(seen[t], state))
        state = features[-1] * keep[t, :, None]
    stacked = torch.stack(features)
    with torch.no_grad():
        after = cell(following, stacked.flatten(0, 1))
    return stacked, after.view_as(stacked)


def returns(
    reward: Array, terminated: Array, ended: Array, n: int, count: int, gamma: float
) -> tuple[Array, Array, Array]:
    """Transitions of up to ``n`` steps from each of the first ``count``, cut where an episode ends.

    Args:
        reward: ``float32[T, K]``.
        terminated, ended: ``bool[T, K]``.

    Returns:
        Sum of discounted rewards and discount of what follows, ``float32[count, K]`` each, and the number of the last
        step, ``int64[count, K]``.
    """
    total = np.zeros((count, reward.shape[1]), np.float32)
    discount = np.ones_like(total)
    last = np.repeat(np.arange(count)[:, None], reward.shape[1], axis=1)
    goes_on = np.ones(total.shape, bool)
    for age in range(n):
        rows = slice(age, age + count)
        total += np.where(goes_on, discount * reward[rows], np.float32(0))
        last = np.where(goes_on, np.arange(count)[:, None] + age, last)
        discount = np.where(goes_on, discount * np.float32(gamma) * ~terminated[rows], discount)
        goes_on &= ~ended[rows]
    return total, discount.astype(np.float32), last
