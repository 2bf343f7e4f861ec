"""The engine ``device``: draw, loss, gradient, clip, optimizer and target on one device, without the host."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.config import LearnerConfig, NetworkConfig, TrainConfig
from nimbleq.rl.learners import torch_state as learner_state
from nimbleq.rl.learners.device.blocked import BlockedConv2d, with_blocks
from nimbleq.rl.learners.device.capture import Captured
from nimbleq.rl.learners.device.replay import DeviceReplay, Draw
from nimbleq.rl.learners.device.transfer import choose_device, to_device, to_host
from nimbleq.rl.masks import best_legal
from nimbleq.rl.nets import losses
from nimbleq.rl.nets.heads.head import Errors, Sample
from nimbleq.rl.nets.network import QNetwork, Scale, initial_network
from nimbleq.rl.nets.noisy import noise, noisy_layers
from nimbleq.rl.ramp import ramp
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import Array, Batch

if TYPE_CHECKING:
    from nimbleq.rl.nets.heads.head import HeadLoss


class HalfNetwork(QNetwork):
    """A `QNetwork` whose torso and fully connected layers compute in bfloat16; the head gets float32, and is float32.

    Q-values of different actions differ by less than bfloat16 resolves, so they must not be rounded to it.
    """

    def __init__(self, spec: EnvSpec, config: NetworkConfig) -> None:
        super().__init__(spec, config)
        with_blocks(self)

    def features(self, obs: Tensor) -> Tensor:
        """See `QNetwork`."""
        with torch.autocast(obs.device.type, torch.bfloat16):
            return super().features(obs).float()

    def seen(self, obs: Tensor) -> Tensor:
        """See `QNetwork`; bytes enter the first convolution as they are, its weights are scaled in their place."""
        layers = list(self.torso) if isinstance(self.torso, nn.Sequential) else []
        takes_bytes = bool(layers) and isinstance(layers[0], BlockedConv2d) and isinstance(self.prepare, Scale)
        if obs.dtype != torch.uint8 or not takes_bytes:
            return super().seen(obs)
        first, *others = layers
        features = first(obs, self.prepare.factor)
        for layer in others:
            features = layer(features)
        return cast(Tensor, self.body(features))


class DeviceLearner(learner_state.Weights):
    """A `Learner` on ``device``: the mathematics of `TorchLearner`, with nothing decided on the host.

    Step size, target copies and counts are tensors, so that `learn` is the same work every time: on CUDA it is one
    launch of a recorded graph (`Captured`), on the CPU the same function runs eagerly.

    Args:
        config: of the run.
        spec: of the environment.
        seed: the same seed gives the same initial weights on every engine.
        device: where (None: as ``config.learner`` says).

    Raises:
        ConfigError: see `choose_device`.
    """

    def __init__(self, config: TrainConfig, spec: EnvSpec, seed: int, device: torch.device | None = None) -> None:
        self.config, self.spec = config.learner, spec
        self.device = choose_device(self.config) if device is None else device
        self.updates = 0
        kind = HalfNetwork if self.config.precision == "bf16" else QNetwork
        self.online, target = (initial_network(spec, config.network, seed, kind) for _ in range(2))
        self.target = self.online if self.config.target == "none" else target.requires_grad_(False)
        for network in {self.online, self.target}:
            network.to(self.device)
            if self.config.precision == "bf16":  # tensor cores want channels last in memory
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters = list(self.online.parameters())
        self.generator = torch.Generator("cuda" if self.device.type == "cuda" else "cpu").manual_seed(seed)
        self.count = torch.zeros((), dtype=torch.float64, device=self.device)  # updates, where the device sees them
        self.lr = torch.full((), self.config.lr, device=self.device)
        self.optimizer = make_optimizer(lambda: _optimizer(self.config, parameters, self.lr))
        self.noisy = noisy_layers(self.online), noisy_layers(self.target)
        loss = partial(_loss, self.online.head.loss, self.config, self.generator)
        self._loss = torch.compile(loss, dynamic=False) if self.config.compile else loss
        self._learning: tuple[Captured, DeviceReplay, int] | None = (
            None  # with the replay, and its `moves`, that were recorded
        )
        self._acting: tuple[Captured, Tensor, Tensor] | None = None  # and its observations, and its Q-values
        self._last: tuple[Tensor, Tensor] | None = None  # observations and losses of the update before

    def learn(self, replay: DeviceReplay) -> None:
        """One gradient step on what is drawn from ``replay``, on whose device everything stays."""
        if self._learning is None or self._learning[1:] != (replay, replay.moves):
            captured = Captured(partial(self.learn_from, replay), self.device, (self.generator,))
            self._learning = captured, replay, replay.moves
        self._learning[0]()
        self.updates += 1

    def learn_from(self, replay: DeviceReplay) -> None:
        """What `learn` counts, records and replays: the step itself, launched operation by operation."""
        draw = replay.draw(self.config.batch_size, self.generator)
        replay.reprioritize(draw.index, self._step(draw))

    def _step(self, draw: Draw) -> Tensor:
        """One gradient step; ``|TD error|: float32[B]`` before it."""
        config = self.config
        sample = Sample(
            draw.obs, draw.action, draw.reward * config.reward_scale, draw.discount, draw.next_obs, *draw.masks
        )
        with noise(self.noisy[1], self.generator), noise(self.noisy[0], self.generator):
            errors = self._loss(self.online, self.target, sample)
        self.optimizer.zero_grad()
        losses.weighted_mean(errors.loss, draw.weight).backward()  # type: ignore[no-untyped-call]
        if config.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.online.parameters(), config.max_grad_norm)
        with torch.no_grad():
            self.lr.copy_(ramp(config.lr, config.lr_end, self.count / config.lr_updates))
            self.optimizer.step()
            self.count += 1
            self._move_target()
        self._last = draw.obs, draw.weight * errors.surprise.square()
        return errors.surprise

    def _move_target(self) -> None:
        """By τ towards the online network; a hard copy moves by 1 when it is due and by 0 otherwise."""
        if self.config.target == "none":
            return
        share = torch.full_like(self.lr, self.config.tau)
        if self.config.target == "hard":
            share = (self.count % self.config.target_every == 0).float()
        for target, parameter in zip(self.target.parameters(), self.online.parameters(), strict=True):
            target.lerp_(parameter, share)
        whole = torch.ones_like(share) if self.config.target == "polyak" else share
        for old, buffer in zip(self.target.buffers(), self.online.buffers(), strict=True):
            old.lerp_(buffer, whole)

    def measures(self) -> dict[str, float]:
        """Mean loss and mean Q-value of the last batch. Waits for the device."""
        assert self._last is not None, "learn or update first"
        obs, loss = self._last
        with torch.no_grad():
            both = to_host(torch.stack([loss.mean(), self.online(obs).mean()]))
        return {"loss": float(both[0]), "q_mean": float(both[1])}

    def update(self, batch: Batch) -> Array:
        """See `Learner`; `learn` does the same without the host."""
        obs, action, reward, discount, next_obs, weight, index = (to_device(a, self.device) for a in batch[:7])
        masks = tuple(to_device(mask, self.device) for mask in batch[7:] if mask is not None)
        surprise = self._step(Draw(obs, action, reward, discount, next_obs, weight, index, masks))
        self.updates += 1
        return to_host(surprise)

    def q(self, obs: Array) -> Array:
        """See `Learner`."""
        with torch.no_grad():
            return to_host(self.online(to_device(obs, self.device)))

    def act(self, obs: Array, mask: Array | None = None, explore: bool = False) -> Array:
        """See `Learner`; ``explore`` always asks for as many actions as the first time."""
        q = self._exploring_q(obs) if explore else self.q(obs)
        return cast(Array, q.argmax(axis=1)) if mask is None else best_legal(q, mask)

    def _exploring_q(self, obs: Array) -> Array:
        """`q` with fresh noise, captured: the one transfer from the device that a step of training waits for."""
        if self._acting is None:
            seen = to_device(obs, self.device)
            q = torch.zeros(len(obs), self.online.actions, device=self.device)
            self._acting = Captured(partial(self._answer, seen, q), self.device, (self.generator,)), seen, q
        captured, seen, q = self._acting
        seen.copy_(to_device(obs, self.device))
        captured()
        return to_host(q)

    @torch.no_grad()
    def _answer(self, obs: Tensor, q: Tensor) -> None:
        with noise(self.noisy[0], self.generator):
            q.copy_(self.online(obs))

    def set_obs_stats(self, mean: Array, std: Array) -> None:
        """See `Learner`."""
        both = to_device(np.stack([mean, 1 / std]), self.device)
        for network in {self.online, self.target}:
            learner_state.write_obs_stats(network, both[0], both[1])

    def arrays(self) -> dict[str, Array]:
        """See `Learner`; ``rng`` is always there, since the device draws its batches itself."""
        state = learner_state.named_arrays(self.online, "online.")
        if self.target is not self.online:
            state |= learner_state.named_arrays(self.target, "target.")
        state |= learner_state.moment_arrays(self.online, self.optimizer)
        rng = self.generator.get_state().numpy().copy()
        return state | {"updates": np.array([self.updates], np.int64), "rng": rng}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """See `Learner`."""
        learner_state.load_network(self.online, arrays, "online.")
        if self.target is not self.online:
            learner_state.load_network(self.target, arrays, "target.")
        self.updates = int(arrays["updates"][0])
        self.count.fill_(self.updates)
        learner_state.load_moments(self.online, self.optimizer, arrays, self.updates)
        self.generator.set_state(torch.from_numpy(np.array(arrays["rng"])))


def _loss(
    loss: HeadLoss,
    config: LearnerConfig,
    generator: torch.Generator,
    online: QNetwork,
    target: QNetwork,
    sample: Sample,
) -> Errors:
    return loss(online, target, sample, config, generator)


def _optimizer(
    config: LearnerConfig, parameters: list[torch.nn.Parameter], lr: Tensor
) -> torch.optim.Adam | torch.optim.RAdam:
    """With ``lr`` as a tensor, and on CUDA with the steps counted there: the host reads none of it."""
    on_cuda = lr.device.type == "cuda"
    optimizer: torch.optim.Adam | torch.optim.RAdam
    if config.optimizer == "radam":
        optimizer = torch.optim.RAdam(parameters, lr=lr, eps=config.adam_eps, capturable=on_cuda, foreach=on_cuda)
    else:
        optimizer = torch.optim.Adam(parameters, lr=lr, eps=config.adam_eps, capturable=on_cuda, fused=True)
    learner_state.start_moments(optimizer, step_on_device=on_cuda)
    return optimizer
