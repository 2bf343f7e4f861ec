"""One gradient step of DQN. A `Learner` holds everything that a step changes and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from nimbleq.config import LearnerConfig, TrainConfig
from nimbleq.rl import losses
from nimbleq.rl.masks import best_legal
from nimbleq.rl.networks import ObsNorm, QNetwork
from nimbleq.types import Array, Batch, EnvSpec, Policy

_SMALL_NET_PARAMETERS = 1_000_000  # below this a second thread costs more than it brings


class Learner(Protocol):
    """What the training loop asks of a learner, whichever engine it runs on. Numpy in, numpy out.

    Attributes:
        name: the engine, for reports (``"torch"``, ``"native"``).
        updates: gradient steps done.
    """

    name: str
    updates: int

    def q(self, obs: Array) -> Array:
        """Online Q-values: ``obs[B, *O] → float32[B, A]``."""
        ...

    def act(self, obs: Array, mask: Array | None = None) -> Array:
        """Greedy actions: ``obs[B, *O] → int64[B]``, legal in ``mask: bool[B, A]``; ties go to the lowest index."""
        ...

    def update(self, batch: Batch) -> Array:
        """One gradient step; returns ``|TD error|: float32[B]`` before it."""
        ...

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """Statistics that normalise observations, ``float32[O]`` each, online and target; ignored without `ObsNorm`."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Complete state, as copies.

        ``online.<name>`` and ``target.<name>`` (names as in `QNetwork.state_dict`; target only where there is one),
        ``adam_m.<name>``, ``adam_v.<name>`` (parameters only), ``updates`` (``int64[1]``).
        """
        ...

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Continue from what `arrays` returned, bit for bit."""
        ...

    def weights(self) -> dict[str, Array]:
        """Copies of the online network's parameters and buffers, named as in `QNetwork.state_dict`."""
        ...


def make_learner(config: TrainConfig, spec: EnvSpec, seed: int) -> Learner:
    """A fresh learner; the same seed gives the same initial weights on every engine.

    Raises:
        ConfigError: the native engine was asked for and cannot train this network.
    """
    from nimbleq.rl.native_learner import make_native_learner, native_available  # it builds on this module

    if config.learner.engine == "native" or (
        config.learner.engine == "auto" and native_available(config.network, spec.obs) is None
    ):
        return make_native_learner(config, spec, seed)
    return TorchLearner(config, spec, seed)


def initial_network(config: TrainConfig, spec: EnvSpec, seed: int) -> QNetwork:
    """A `QNetwork` with weights drawn from ``seed`` as PyTorch does by default; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QNetwork(spec, config.network)


def greedy_policy(network: QNetwork) -> Policy:
    """The greedy policy of a network, ``obs[B, *O] → action int64[B]``."""

    def act(obs: Array, mask: Array | None = None) -> Array:
        with torch.no_grad():
            q = network(torch.from_numpy(obs))
        return cast(Array, q.argmax(dim=1).numpy()) if mask is None else best_legal(q.numpy(), mask)

    return act


def learning_rate(config: LearnerConfig, updates: int) -> float:
    """Step size of the update that follows ``updates`` earlier ones: a linear ramp, constant after it."""
    done = min(1.0, updates / config.lr_updates)
    return config.lr + (config.lr_end - config.lr) * done


class TorchLearner:
    """`Learner` in PyTorch on the CPU: any network, any setting."""

    name = "torch"

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        self.config = config.learner
        self.updates = 0
        self.online = initial_network(config, spec, seed)
        self.target = self.online
        if self.config.target != "none":
            self.target = initial_network(config, spec, seed).requires_grad_(False)
        if sum(p.numel() for p in self.online.parameters()) < _SMALL_NET_PARAMETERS:
            torch.set_num_threads(1)
        self.parameters = dict(self.online.named_parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters.values(), lr=self.config.lr, eps=self.config.adam_eps, fused=True
        )
        # Adam's state exists from the start, so that saving and loading never meet a half-made optimizer.
        for parameter in self.parameters.values():
            self.optimizer.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def q(self, obs: Array) -> Array:
        """See `Learner`."""
        with torch.no_grad():
            return cast(Array, self.online(torch.from_numpy(obs)).numpy())

    def act(self, obs: Array, mask: Array | None = None) -> Array:
        """See `Learner`."""
        q = self.q(obs)
        return cast(Array, q.argmax(axis=1)) if mask is None else best_legal(q, mask)

    def update(self, batch: Batch) -> Array:
        """See `Learner`. Loss: MSE or Huber of ``Q(s, a) − (r·scale + discount·V(s'))``, global-norm clip, Adam."""
        config = self.config
        reward = torch.from_numpy(batch.reward) * config.reward_scale
        target = losses.td_target(reward, torch.from_numpy(batch.discount), self._next_value(batch))  # [B]
        q = self.online(torch.from_numpy(batch.obs)).gather(1, torch.from_numpy(batch.action)[:, None])  # [B, 1]
        td_error = q.squeeze(1) - target
        loss = (losses.huber if config.loss == "huber" else losses.squared)(td_error, torch.from_numpy(batch.weight))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if config.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.updates)
        self.optimizer.step()
        self.updates += 1
        self._move_target()
        return cast(Array, td_error.detach().abs().numpy())

    def _next_value(self, batch: Batch) -> Tensor:
        """``V(s')``, ``[B]``, no gradient."""
        with torch.no_grad():
            next_obs = torch.from_numpy(batch.next_obs)
            mask = None if batch.next_mask is None else torch.from_numpy(batch.next_mask)
            next_q = self.target(next_obs)
            if self.config.double and self.target is not self.online:
                return losses.double_value(next_q, losses.legal(self.online(next_obs), mask))
            return losses.max_value(losses.legal(next_q, mask))

    @torch.no_grad()
    def _move_target(self) -> None:
        if self.config.target == "polyak":
            for target, parameter in zip(self.target.parameters(), self.parameters.values(), strict=True):
                target.lerp_(parameter, self.config.tau)
        elif self.config.target == "hard" and self.updates % self.config.target_every == 0:
            self.target.load_state_dict(self.online.state_dict())

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """See `Learner`."""
        for network in {self.online, self.target}:
            if isinstance(network.prepare, ObsNorm):
                network.prepare.mean.copy_(torch.from_numpy(mean))
                network.prepare.inverse_std.copy_(torch.from_numpy(1 / std))

    def arrays(self) -> dict[str, Array]:
        """See `Learner`."""
        state = {f"online.{name}": value for name, value in self.weights().items()}
        if self.target is not self.online:
            state |= {f"target.{name}": value.numpy().copy() for name, value in self.target.state_dict().items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            state[f"adam_m.{name}"] = moments["exp_avg"].numpy().copy()
            state[f"adam_v.{name}"] = moments["exp_avg_sq"].numpy().copy()
        return state | {"updates": np.array([self.updates], np.int64)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        self.online.load_state_dict({name: tensors[f"online.{name}"] for name in self.online.state_dict()})
        if self.target is not self.online:
            self.target.load_state_dict({name: tensors[f"target.{name}"] for name in self.target.state_dict()})
        self.updates = int(arrays["updates"][0])
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            moments["step"].fill_(self.updates)
            moments["exp_avg"].copy_(tensors[f"adam_m.{name}"])
            moments["exp_avg_sq"].copy_(tensors[f"adam_v.{name}"])

    def weights(self) -> dict[str, Array]:
        """See `Learner`."""
        return {name: value.numpy().copy() for name, value in self.online.state_dict().items()}
