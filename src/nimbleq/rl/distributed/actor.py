"""An actor of Ape-X [1803.00933]: it plays environments with an ε of its own, and needs numpy only: no torch, no Ray.

It has no state that anybody would miss: whoever starts it again gets the same chunks from new environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.rl.distributed.acting import Acting, acting_of, unflat
from nimbleq.rl.distributed.chunk import Chunk
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.envs.vectors import VECTOR_ENGINES
from nimbleq.rl.explore import Explorer
from nimbleq.rl.masks import best_legal
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.rewards import clipped
from nimbleq.types import Array, ObsSpec, Step

_PLAY, _EXPLORE = range(2)  # purposes of seeds


def actor_epsilon(actor: int, actors: int) -> float:
    """ε of one of ``actors``: ``0.4^(1 + 7·i/(N − 1))`` [1803.00933 §4.1]; 0.4 of a single one."""
    return float(0.4 ** (1 + 7 * actor / max(1, actors - 1)))


class Actor:
    """Plays ``config.envs`` environments.

    Args:
        config: of the run.
        number: its own, from 0 on.
        weights: of the network that acts, as `sent_weights` gives them; later ones come with every request.
    """

    def __init__(self, config: TrainConfig, number: int, weights: Mapping[str, Array]) -> None:
        self.config, self.number, self.like = config, number, weights
        self.epsilon = actor_epsilon(number, config.distributed.actors)
        self.version = -1
        self.envs: Environments | None = None
        self.acting: Acting | None = None

    def play(self, sequence: int, version: int, weights: Array) -> Chunk:
        """The chunk ``sequence``, played with the flat ``weights: float32[W]`` of a learner after ``version`` updates.

        Raises:
            EnvError: see `Environments.step`.
        """
        config = self.config
        began = self.envs is None
        if self.envs is None:
            seed = self._seed(_PLAY, sequence)
            self.envs = VECTOR_ENGINES[config.env.engine].make(config.env, config.envs, seed)
        if self.acting is None:
            self.acting = acting_of(config, self.envs.spec)
        if version != self.version:
            self.acting.set_weights(unflat(self.like, weights))
            self.version = version
        envs, acting, actions = self.envs, self.acting, self.envs.spec.actions
        explorer = Explorer(config.explore, np.random.default_rng(self._seed(_EXPLORE, sequence)), config.envs, actions)
        steps, values, finished = list[Step](), list[Array](), list[tuple[float, int]]()
        for _ in range(config.distributed.chunk):
            q = acting.q(envs.obs)
            greedy = q.argmax(axis=1) if envs.mask is None else best_legal(q, envs.mask)
            steps.append(envs.step(explorer.choose(greedy, self.epsilon, envs.mask)))
            values.append(q)
            finished += envs.finished
        play = clipped(_joined(steps), config.learner.reward_clip)
        play.truncated[-1] = ~play.terminated[-1]
        abs_td = self._abs_td(play, np.stack(values)) if config.replay.prioritized else None
        return Chunk(self.number, sequence, version, began, play, abs_td, finished)

    def _seed(self, purpose: int, sequence: int) -> int:
        """Of this actor's chunk: no other purpose, actor or chunk of the run has the same."""
        entropy = np.random.SeedSequence([self.config.seed, self.number, sequence, purpose])
        return int(entropy.generate_state(1, np.uint64)[0] >> 1)

    def _abs_td(self, play: Step, q: Array) -> Array:
        """``float32[L·N]``: ``|TD error|`` of the n-step transitions of ``play``, ``q: float32[L, N, A]`` of its obs.

        In their order in the learner's replay: a small one stores the numbers of the observations in place of these.
        """
        config, count = self.config, play.action.size
        best = np.full(play.action.shape, -np.inf, np.float32)  # the value of next_obs
        ended = play.terminated | play.truncated
        following = q[1:] if play.next_mask is None else np.where(play.next_mask[:-1], q[1:], -np.inf)
        best[:-1] = following.max(axis=2)
        assert self.acting is not None
        last = self.acting.q(play.next_obs[ended])
        best[ended] = (last if play.next_mask is None else np.where(play.next_mask[ended], last, -np.inf)).max(axis=1)
        number = np.arange(count).reshape(play.action.shape)
        small = replace(config.replay, capacity=count, prioritized=False)
        replay = Replay(small, config.learner.gamma, config.envs, ObsSpec((), "int64"))
        for time in range(len(number)):
            action, reward, terminated, truncated = (array[time] for array in play[1:5])
            replay.add(Step(number[time], action, reward, terminated, truncated, number[time]))
        stored = replay.store
        value, reward = q.reshape(count, -1)[stored.obs, stored.action], stored.reward * config.learner.reward_scale
        return np.abs(reward + stored.discount * best.ravel()[stored.next_obs] - value).astype(np.float32)


def _joined(steps: list[Step]) -> Step:
    """One `Step` with a leading axis of time."""
    first, rest = zip(*(step[:6] for step in steps), strict=True), zip(*(step[6:] for step in steps), strict=True)
    masks = (None if array[0] is None else np.stack(array) for array in rest)
    return Step(*(np.stack(array) for array in first), *masks)
