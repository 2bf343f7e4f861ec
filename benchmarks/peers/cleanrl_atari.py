"""The recipe of CleanRL's `dqn_atari.py`, written anew from its published settings, as the peer of `gpu.py`.

One environment, ε-greedy from 1 to 0.01 over the first tenth of 10M steps, replay of 1M, batches of 32 every fourth
step, a hard target copy every 1,000 steps, Adam at 1e-4, γ 0.99, mean squared error, the convolutions of Nature 2015;
no-ops at the start, an episode per life, a press of fire, four frames a step, clipped rewards.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.types import Array

BATCH, EVERY, TARGET_EVERY, GAMMA, LR, END_EPSILON = 32, 4, 1_000, 0.99, 1e-4, 0.01


def play(game: str) -> Any:
    """The environment in ALE's own vector, of one: faster than the wrappers in Python that the recipe is used with."""
    import ale_py
    from ale_py.vector_env import AtariVectorEnv

    gymnasium.register_envs(ale_py)
    settings = {"reward_clipping": True, "use_fire_reset": True, "episodic_life": True, "noop_max": 30}
    return AtariVectorEnv(gymnasium.spec(game).kwargs["game"], 1, repeat_action_probability=0.0, **settings)


def network(actions: int) -> nn.Module:
    """Nature 2015, ``float[B, 4, 84, 84]`` in 0 … 1 → ``[B, A]``."""
    convolutions = (nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3, 1))
    layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions))


class Memory:
    """Observations and their successors, each stored whole."""

    def __init__(self, capacity: int) -> None:
        self.obs, self.next_obs = (np.zeros((capacity, 4, 84, 84), np.uint8) for _ in range(2))
        self.action = np.zeros(capacity, np.int64)
        self.reward, self.alive = np.zeros(capacity, np.float32), np.zeros(capacity, np.float32)
        self.count = 0

    def add(self, obs: Array, action: int, reward: float, terminated: bool, next_obs: Array) -> None:
        """Remember one transition."""
        slot = self.count % len(self.action)
        self.obs[slot], self.next_obs[slot], self.action[slot] = obs, next_obs, action
        self.reward[slot], self.alive[slot] = reward, not terminated
        self.count += 1

    def sample(self, rng: np.random.Generator, device: torch.device) -> list[Tensor]:
        """obs, action, reward, alive, next_obs of `BATCH` transitions."""
        index = rng.integers(min(self.count, len(self.action)), size=BATCH)
        fields = (self.obs, self.action, self.reward, self.alive, self.next_obs)
        return [torch.from_numpy(field[index]).to(device) for field in fields]


def measure(game: str, device: torch.device, learn_start: int, steps: int) -> dict[str, float]:
    """Environment steps and learnt samples per second over the last ``steps`` steps, and of random play.

    Random until ``learn_start``, then with the ε of most of the run. The replay holds 100,000 transitions at most: its
    rate does not depend on that, its memory does.
    """
    env, rng = play(game), np.random.default_rng(0)
    actions = int(env.single_action_space.n)
    online, target = network(actions).to(device), network(actions).to(device)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=LR)
    memory = Memory(min(100_000, learn_start + steps))
    obs = env.reset(seed=0)[0].copy()
    began, random_seconds = time.perf_counter(), 0.0
    for step in range(learn_start + steps):
        if step == learn_start:
            random_seconds, began = time.perf_counter() - began, time.perf_counter()
        action = int(rng.integers(actions))
        if step >= learn_start and rng.random() >= END_EPSILON:
            with torch.no_grad():
                action = int(online(torch.from_numpy(obs).to(device) / 255.0).argmax())
        next_obs, reward, terminated, _, _ = env.step(np.array([action]))
        memory.add(obs[0], action, float(reward[0]), bool(terminated[0]), next_obs[0])
        obs = next_obs.copy()
        if step >= learn_start and step % EVERY == 0:
            update(online, target, optimizer, memory.sample(rng, device))
        if step % TARGET_EVERY == 0:
            target.load_state_dict(online.state_dict())
    seconds = time.perf_counter() - began
    env.close()
    rate, random_rate = steps / seconds, learn_start / random_seconds
    return {
        "train_steps_per_s": rate,
        "samples_per_s": rate * BATCH / EVERY,
        "random_steps_per_s": random_rate,
        "ratio": rate / random_rate,
    }


def update(online: nn.Module, target: nn.Module, optimizer: torch.optim.Optimizer, batch: list[Tensor]) -> None:
    """One step on the mean squared TD error."""
    obs, action, reward, alive, next_obs = batch
    with torch.no_grad():
        wanted = reward + GAMMA * alive * target(next_obs / 255.0).max(dim=1).values
    q = online(obs / 255.0).gather(1, action[:, None]).squeeze(1)
    optimizer.zero_grad()
    F.mse_loss(q, wanted).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
