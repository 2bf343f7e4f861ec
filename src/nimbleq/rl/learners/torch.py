"""The engine ``torch``: one gradient step of DQN in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.config import LearnerConfig, TrainConfig
from nimbleq.graph.branches import best
from nimbleq.rl.learners import torch_state as learner_state
from nimbleq.rl.learners.imitation import Imitation
from nimbleq.rl.learners.learner import learning_rate
from nimbleq.rl.learners.sparsity import Sparsity
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads.head import Sample
from nimbleq.rl.nets.network import initial_network
from nimbleq.rl.nets.noisy import noise, noisy_layers
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch

_CPU = torch.device("cpu")


def _optimizer(config: LearnerConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "radam":
        return torch.optim.RAdam(parameters, lr=config.lr, eps=config.adam_eps)
    return torch.optim.Adam(parameters, lr=config.lr, eps=config.adam_eps, fused=True)


class TorchLearner(learner_state.Weights):
    """`Learner` in PyTorch on ``device``: any network, any setting."""

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int, device: torch.device = _CPU) -> None:
        self.config, self.spec, self.device = config.learner, spec, device
        self.updates = 0
        self.online = initial_network(spec, config.network, seed).to(device)
        self.sparsity = Sparsity(self.online, config.network, seed) if config.network.sparsity else None
        self.target = self.online
        if self.config.target != "none":
            self.target = initial_network(spec, config.network, seed).to(device).requires_grad_(False)
            self.target.load_state_dict(self.online.state_dict())
        head = self.online.head
        loss = head.return_loss if config.algorithm == "pqn" else head.loss
        assert loss is not None, "`check_head` refuses pqn with this head"
        self.loss = loss
        self.noisy = noisy_layers(self.online), noisy_layers(self.target)
        self.draws = config.network.noisy or head.draws
        self.generator = torch.Generator(device).manual_seed(seed)
        self.trained = list(self.online.parameters())
        self.frozen: list[torch.nn.Parameter] = []
        self.optimizer = make_optimizer(lambda: _optimizer(self.config, self.trained))
        learner_state.start_moments(self.optimizer, step_on_device=config.learner.optimizer == "adam")

    def q(self, obs: Array) -> Array:
        """See `Learner`."""
        with torch.no_grad():
            return cast(Array, self.online(torch.from_numpy(obs).to(self.device)).cpu().numpy())

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `Learner`."""
        with noise(self.noisy[0] if explore else (), self.generator):
            q = self.q(obs)
        return best(q, self.spec.branches, mask)

    def update(self, batch: Batch) -> Array:
        """See `Learner`. The head's loss, weighted; global-norm clip; Adam or RAdam."""
        return self._updated(batch, None)

    def update_towards(self, batch: Batch, towards: Imitation) -> Array:
        """See `nimbleq.rl.learners.imitation.Imitator`."""
        return self._updated(batch, towards)

    def imitate(self, obs: Array, towards: Imitation) -> None:
        """See `nimbleq.rl.learners.imitation.Imitator`."""
        self._descend(self._divergence(self._tensor(obs), towards))

    def freeze(self, layers: int) -> None:
        """See `nimbleq.rl.learners.imitation.Imitator`."""
        own = (list(module.parameters(recurse=False)) for module in self.online.modules())
        weighted = [parameters for parameters in own if parameters]
        chosen = {parameter for parameters in weighted[:layers] for parameter in parameters}
        self.frozen = [parameter for parameter in self.trained if parameter in chosen]
        for parameter in self.trained:
            parameter.requires_grad_(parameter not in chosen)

    def _divergence(self, obs: torch.Tensor, towards: Imitation) -> torch.Tensor:
        """The mean of ``weight · KL(π ‖ softmax(Q/τ))`` over the states, up to a constant."""
        probability = self._tensor(towards.probability)
        scaled = (self.online(obs) / towards.temperature).masked_fill(probability < 0, -torch.inf)
        log_policy = torch.log_softmax(scaled, dim=1).masked_fill(probability < 0, 0.0)
        return losses.weighted_mean(-(probability * log_policy).sum(dim=1), self._tensor(towards.weight))

    def _updated(self, batch: Batch, towards: Imitation | None) -> Array:
        config = self.config
        obs, action, reward, discount, next_obs, weight = (self._tensor(array) for array in batch[:6])
        masks = (None if mask is None else self._tensor(mask) for mask in (batch.next_mask, batch.mask))
        sample = Sample(obs, action, reward * config.reward_scale, discount, next_obs, *masks)
        with noise(self.noisy[1], self.generator), noise(self.noisy[0], self.generator):
            errors = self.loss(self.online, self.target, sample, config, self.generator)
        loss = losses.weighted_mean(errors.loss, weight)
        self._descend(loss if towards is None else loss + self._divergence(obs, towards))
        return errors.surprise.cpu().numpy()

    def _descend(self, loss: torch.Tensor) -> None:
        """One step of the optimizer and what follows it."""
        config = self.config
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.combine_gradients()
        if self.sparsity is not None:
            self.sparsity.before_step(self.updates, self.optimizer)
        if config.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.trained, config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.updates)
        self.optimizer.step()
        if self.sparsity is not None:
            self.sparsity.after_step()
        for parameter in self.frozen:  # its moments are as old as those of the others
            self.optimizer.state[parameter]["step"] += 1
        self.updates += 1
        self._move_target()

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def combine_gradients(self) -> None:
        """What becomes of gradients before they are clipped: nothing, where one process computes all of the batch."""

    @torch.no_grad()
    def _move_target(self) -> None:
        if self.config.target == "polyak":
            for target, parameter in zip(self.target.parameters(), self.trained, strict=True):
                target.lerp_(parameter, self.config.tau)
            for old, buffer in zip(self.target.buffers(), self.online.buffers(), strict=True):
                old.copy_(buffer)
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
        if self.sparsity is not None:
            state |= self.sparsity.arrays()
        if self.draws:
            state["rng"] = self.generator.get_state().numpy().copy()
        return state | {"updates": np.array([self.updates], np.int64)}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        learner_state.load_network(self.online, arrays, "online.")
        if self.target is not self.online:
            learner_state.load_network(self.target, arrays, "target.")
        self.updates = int(arrays["updates"][0])
        if self.sparsity is not None:
            self.sparsity.load_arrays(arrays)
        if self.draws:
            self.generator.set_state(torch.from_numpy(np.array(arrays["rng"])))
        learner_state.load_moments(self.online, self.optimizer, arrays, self.updates)
