"""The vector of environments that training steps. Autoreset and truncation live here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from nimbleq.config import EnvConfig
from nimbleq.errors import EnvError
from nimbleq.rl.envs.batch import Expecting, expect
from nimbleq.rl.envs.engines import env_engine, make_env_batch
from nimbleq.rl.envs.vector_engine import VectorEngine
from nimbleq.rl.envs.workers import WorkerEnvBatch
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Step

_SEEDS = 256  # of episodes, drawn at once
_AHEAD = 64  # episodes that the environments are told of before they begin


class VectorEnv:
    """``N`` environments that restart by themselves, each episode from a seed of its own.

    An episode is described by its seed and the actions since: that is what `arrays` holds, and how `load_arrays`
    rebuilds environments that have no notion of saving.

    Attributes:
        spec: of one environment.
        obs: ``[N, *O]`` what the next action is chosen from.
        mask: ``bool[N, A]`` among which actions (None: all).
        finished: ``(return, length)`` of the episodes that ended in the last `step`.
    """

    def __init__(self, config: EnvConfig, envs: int, seed: int) -> None:
        self.name, self.seed, self.count = config.id, seed, envs
        apart = config.workers > 1 or (env_engine(config).apart and hasattr(os, "fork"))
        self.batch = (WorkerEnvBatch if apart else make_env_batch)(config, envs)
        self._expecting = self.batch if isinstance(self.batch, Expecting) else None
        self.spec = self.batch.spec
        self.finished: list[tuple[float, int]] = []
        self._all = np.arange(envs)
        self._episode_seeds = episode_seeds("train", seed, envs)
        self._started = envs
        self._block, self._seeds = -1, list[int]()  # a block of episode seeds, and its number
        self._began = np.zeros(envs, np.int64)  # row of ``_actions`` with the first action of the running episode
        self._actions: list[Array] = []
        self._returns = np.zeros(envs)
        expect(self.batch, self._episode_seeds.tolist())
        self.obs = np.stack([self.batch.reset(index, self._episode_seeds[index]) for index in range(envs)])
        self._look_ahead()
        self.mask = self._legal()

    def step(self, action: Array) -> Step:
        """Step all environments with ``action: int64[N]``; those whose episode ends start the next one.

        Raises:
            EnvError: see `EnvBatch.step`; `arrays` then still describes the moment before.
        """
        obs, mask = self.obs, self.mask
        next_obs, reward, terminated, truncated = self.batch.step(self._all, action)
        next_mask = self._legal()
        over = (terminated | truncated).nonzero()[0]
        # What may fail, starting the next episodes, comes before anything of this object changes.
        started = self._start(over) if over.size else None
        self._actions.append(action.copy())
        self._returns += reward
        self.finished = []
        self.obs, self.mask = next_obs, next_mask
        if started is not None:
            self.obs = next_obs.copy()
            self.obs[over] = started[1]
            self._note_restarts(over, started[0])
            self._look_ahead()
            self.mask = self._legal()
        return Step(obs, action, reward, terminated, truncated, next_obs, next_mask, mask)

    def _start(self, indices: Array) -> tuple[list[int], list[Array]]:
        """Start in ``indices`` the episodes that come next: their seeds, and first observations."""
        seeds = [self._seed(self._started + ahead) for ahead in range(len(indices))]
        return seeds, [self.batch.reset(index, seed) for index, seed in zip(indices.tolist(), seeds, strict=True)]

    def _look_ahead(self) -> None:
        if self._expecting is not None:
            self._expecting.expect([self._seed(self._started + ahead) for ahead in range(_AHEAD)])

    def _legal(self) -> Array | None:
        return None if self.batch.mask is None else self.batch.mask.copy()

    def _seed(self, number: int) -> int:
        """Of an episode; drawn in blocks, which is quicker."""
        block, place = divmod(number, _SEEDS)
        if block != self._block:
            self._block = block
            self._seeds = episode_seeds("train", self.seed, _SEEDS, start=block * _SEEDS).tolist()
        return self._seeds[place]

    def _note_restarts(self, indices: Array, seeds: list[int]) -> None:
        lengths = len(self._actions) - self._began[indices]
        self.finished = list(zip(self._returns[indices].tolist(), lengths.tolist(), strict=True))
        self._episode_seeds[indices] = seeds
        self._started += len(seeds)
        self._began[indices] = len(self._actions)
        self._returns[indices] = 0.0
        unused = int(self._began.min())  # actions that no running episode needs
        if 2 * unused > len(self._actions):
            del self._actions[:unused]
            self._began -= unused

    def arrays(self) -> dict[str, Array]:
        """Complete state: seeds, actions, and the current observations to check a rebuild against."""
        actions = np.stack(self._actions) if self._actions else np.zeros((0, self.count), np.int64)
        return {
            "seeds": self._episode_seeds.copy(),
            "began": self._began.copy(),
            "actions": actions,
            "started": np.array([self._started]),
            "obs": self.obs.copy(),
        }

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Play the running episodes again up to where they were.

        Raises:
            EnvError: the environment does not repeat itself, so the run cannot go on from there.
        """
        self._episode_seeds, self._began = arrays["seeds"].copy(), arrays["began"].copy()
        self._started = int(arrays["started"][0])
        self._block = -1
        self._actions = [row.copy() for row in arrays["actions"]]
        self._returns = np.zeros(self.count)
        expect(self.batch, self._episode_seeds[np.argsort(self._began, kind="stable")].tolist())
        for time in range(len(self._actions) + 1):
            for index in np.flatnonzero(self._began == time):
                self.obs[index] = self.batch.reset(int(index), self._episode_seeds[index])
            running = np.flatnonzero(self._began <= time)
            if time < len(self._actions) and running.size:
                next_obs, reward, *_ = self.batch.step(running, self._actions[time][running])
                self.obs[running] = next_obs
                self._returns[running] += reward
        self.mask = self._legal()
        self._look_ahead()
        if not np.array_equal(self.obs, arrays["obs"]):
            raise EnvError(
                f"{self.name} does not repeat an episode from its seed and actions, so this run cannot be resumed "
                "exactly; train again without resuming"
            )

    def close(self) -> None:
        """Release what the environments hold."""
        self.batch.close()


ENGINE = VectorEngine(VectorEnv)
