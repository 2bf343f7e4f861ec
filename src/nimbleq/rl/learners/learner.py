"""One gradient step of DQN. A `Learner` holds everything that a step changes and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np
import torch

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.config import LearnerConfig, TrainConfig
from nimbleq.rl.envs.masks import best_legal
from nimbleq.rl.learners import torch_state as learner_state
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads import HEADS, Sample, return_loss
from nimbleq.rl.nets.network import QNetwork, initial_network
from nimbleq.rl.nets.noisy import noise, noisy_layers
from nimbleq.rl.ramp import ramp
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch, Policy

_SMALL_NET_PARAMETERS = 1_000_000  # below this a second thread costs more than it brings


class Learner(Protocol):
    """What the training loop asks of a learner, whichever engine it runs on. Numpy in, numpy out.

    Attributes:
        name: the engine, for reports (``"torch"``, ``"native"``, ``"device"``).
        updates: gradient steps done.
    """

    name: str
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
        """One gradient step; returns ``|TD error|: float32[B]`` before it (see `nimbleq.rl.nets.heads`)."""
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


def make_learner(config: TrainConfig, spec: EnvSpec, seed: int) -> Learner:
    """A fresh learner; the same seed gives the same initial weights on every engine.

    Raises:
        ConfigError: the native engine was asked for and cannot train this network; or a GPU, and there is none.
    """
    from nimbleq.rl.learners.device.learner import DeviceLearner  # these build on this module
    from nimbleq.rl.learners.native import make_native_learner, native_available

    if config.learner.engine == "device":
        return DeviceLearner(config, spec, seed)
    if config.learner.engine == "native" or (
        config.learner.engine == "auto" and native_available(config.network, spec.obs, config.learner) is None
    ):
        return make_native_learner(config, spec, seed)
    return TorchLearner(config, spec, seed)


@contextmanager
def training_threads(parameters: int) -> Iterator[None]:
    """PyTorch's threads for a network of so many parameters; afterwards they are as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if parameters < _SMALL_NET_PARAMETERS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def greedy_policy(network: QNetwork) -> Policy:
    """The greedy policy of a network, ``obs[B, *O] → action int64[B]``."""

    def act(obs: Array, mask: Array | None = None) -> Array:
        with torch.no_grad():
            q = network(torch.from_numpy(obs))
        return cast(Array, q.argmax(dim=1).numpy()) if mask is None else best_legal(q.numpy(), mask)

    return act


def learning_rate(config: LearnerConfig, updates: int) -> float:
    """Step size of the update that follows ``updates`` earlier ones: a linear ramp, constant after it."""
    return ramp(config.lr, config.lr_end, updates / config.lr_updates)


def _optimizer(config: LearnerConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "radam":
        return torch.optim.RAdam(parameters, lr=config.lr, eps=config.adam_eps)
    return torch.optim.Adam(parameters, lr=config.lr, eps=config.adam_eps, fused=True)


class TorchLearner(learner_state.Weights):
    """`Learner` in PyTorch on the CPU: any network, any setting."""

    name = "torch"

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int) -> None:
        self.config = config.learner
        self.updates = 0
        self.online = initial_network(spec, config.network, seed)
        self.target = self.online
        if self.config.target != "none":
            self.target = initial_network(spec, config.network, seed).requires_grad_(False)
        self.loss = return_loss if config.algorithm == "pqn" else HEADS[config.network.head]
        self.noisy = noisy_layers(self.online), noisy_layers(self.target)
        self.draws = config.network.noisy or config.network.head == "iqn"
        self.generator = torch.Generator().manual_seed(seed)
        self.trained = list(self.online.parameters())
        self.optimizer = make_optimizer(lambda: _optimizer(self.config, self.trained))
        learner_state.start_moments(self.optimizer, step_on_device=False)

    def q(self, obs: Array) -> Array:
        """See `Learner`."""
        with torch.no_grad():
            return cast(Array, self.online(torch.from_numpy(obs)).numpy())

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `Learner`."""
        with noise(self.noisy[0] if explore else (), self.generator):
            q = self.q(obs)
        return cast(Array, q.argmax(axis=1)) if mask is None else best_legal(q, mask)

    def update(self, batch: Batch) -> Array:
        """See `Learner`. The head's loss, weighted; global-norm clip; Adam or RAdam."""
        config = self.config
        obs, action, reward, discount, next_obs, weight = (torch.from_numpy(array) for array in batch[:6])
        masks = (None if mask is None else torch.from_numpy(mask) for mask in (batch.next_mask, batch.mask))
        sample = Sample(obs, action, reward * config.reward_scale, discount, next_obs, *masks)
        with noise(self.noisy[1], self.generator), noise(self.noisy[0], self.generator):
            errors = self.loss(self.online, self.target, sample, config, self.generator)
        loss = losses.weighted_mean(errors.loss, weight)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if config.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.trained, config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.updates)
        self.optimizer.step()
        self.updates += 1
        self._move_target()
        return errors.surprise.numpy()

    @torch.no_grad()
    def _move_target(self) -> None:
        if self.config.target == "polyak":
            for target, parameter in zip(self.target.parameters(), self.trained, strict=True):
                target.lerp_(parameter, self.config.tau)
            for kept, buffer in zip(self.target.buffers(), self.online.buffers(), strict=True):
                kept.copy_(buffer)
        elif self.config.target == "hard" and self.updates % self.config.target_every == 0:
            self.target.load_state_dict(self.online.state_dict())

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """See `Learner`."""
        for network in {self.online, self.target}:
            learner_state.write_obs_stats(network, torch.from_numpy(mean), torch.from_numpy(1 / std))

    def arrays(self) -> dict[str, Array]:
        """See `Learner`."""
        state = learner_state.named_arrays(self.online, "online.")
        if self.target is not self.online:
            state |= learner_state.named_arrays(self.target, "target.")
        state |= learner_state.moment_arrays(self.online, self.optimizer)
        if self.draws:
            state["rng"] = self.generator.get_state().numpy().copy()
        return state | {"updates": np.array([self.updates], np.int64)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        learner_state.load_network(self.online, arrays, "online.")
        if self.target is not self.online:
            learner_state.load_network(self.target, arrays, "target.")
        self.updates = int(arrays["updates"][0])
        if self.draws:
            self.generator.set_state(torch.from_numpy(np.array(arrays["rng"])))
        learner_state.load_moments(self.online, self.optimizer, arrays, self.updates)
