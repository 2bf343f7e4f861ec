"""Direct search of a network's last layer on returns, by CMA-ES [1604.00772], when learning has ended.

A network that has learnt what matters still weighs it as the Bellman equation asks, not as the return does. The search
adds to the values of each action but one a weighted sum of the observation's features, as the last hidden layer tells
them: few numbers to find, and a change of the last layer alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from nimbleq.cma import Cma
from nimbleq.config import EvolveConfig, TrainConfig
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import GraphPolicy, trace
from nimbleq.graph.rewrite import fold
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate, Tick, no_tick

_FIRST_SEED = 1 << 24  # of the ``check`` stream: checks during training use those before
_STATE_EPISODES, _STATES = 16, 4_000
_DAMPING = 1e-3
"""Of least squares, in mean variances of a hidden unit."""
_RISK = 0.1
"""A candidate is worth its mean return less this many standard deviations."""
_JUDGED, _EVERY = 200, 10
"""Episodes of the environment as it is that judge the mean of the search, and generations between two judgements."""


@dataclass(frozen=True, eq=False)
class Components:
    """The last layer, and what of its input may be weighed anew.

    Attributes:
        weight: name of the last layer's ``[A, H]``.
        bias: of its ``[A]``.
        hidden: name of the tensor that it reads.
        centre: ``float64[H]``, subtracted before.
        axes: ``float64[k, H]``: ``axes @ (hidden − centre)`` tells a feature in each entry, with variance 1.
        unit: median action gap.
    """

    weight: str
    bias: str
    hidden: str
    centre: Array
    axes: Array
    unit: float

    @classmethod
    def of(cls, graph: Graph, obs: Array, count: int) -> Components:
        """Of a folded policy, in visited states ``obs [K, *O]``.

        Raises:
            ConfigError: it has no last layer of weights and biases.
        """
        node = graph.producer(Q)
        if node is None or not isinstance(node.op, ops.Linear) or node.op.bias is None:
            raise ConfigError("evolve.generations needs a network that ends in a linear layer")
        made = trace(graph, obs)
        hidden = made[node.inputs[0]].astype(np.float64)
        centre = hidden.mean(axis=0)
        inner = hidden - centre
        square = inner.T @ inner
        damped = square + _DAMPING * np.trace(square) / len(square) * np.eye(len(square))
        axes = np.linalg.solve(damped, inner.T @ _features(obs, count)).T
        spread = (inner @ axes.T).std(axis=0)
        known = spread > 1e-6
        top = np.partition(made[Q].astype(np.float64), -2, axis=1)
        gap = float(np.median(top[:, -1] - top[:, -2]))
        return cls(
            node.op.weight, node.op.bias, node.inputs[0], centre, axes[known] / spread[known, None], max(gap, 1e-12)
        )  # fmt: skip

    def dimension(self, actions: int) -> int:
        """Numbers that the search has to find: argmax does not see what all actions have in common."""
        return (actions - 1) * (len(self.axes) + 1)

    def change(self, vector: Array, actions: int) -> tuple[Array, Array]:
        """``float64[…, A, H]`` and ``float64[…, A]`` that ``vector […, n]`` adds to the last layer."""
        rows = self.unit * vector.reshape(*vector.shape[:-1], actions - 1, -1)
        rows = np.concatenate([rows, np.zeros_like(rows[..., :1, :])], axis=-2)
        weight = rows[..., :-1] @ self.axes
        return weight, rows[..., -1] - weight @ self.centre

    def changed(self, graph: Graph, vector: Array) -> Graph:
        """``graph`` with that added."""
        weight, bias = self.change(vector, graph.actions)
        return graph.with_weights({
            self.weight: (graph.weights[self.weight] + weight).astype(np.float32),
            self.bias: (graph.weights[self.bias] + bias).astype(np.float32),
        })  # fmt: skip


def _features(obs: Array, count: int) -> Array:
    """``float64[K, k]`` the features of ``obs [K, *O]`` that vary, in deviations; above ``count`` of them, their first
    principal components."""
    flat = obs.reshape(len(obs), -1).astype(np.float64)
    flat = flat[:, flat.std(axis=0) > 1e-9]
    told = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    if told.shape[1] > count:
        _, _, directions = np.linalg.svd(told, full_matrices=False)
        told = told @ directions[:count].T
    return np.asarray(told / np.maximum(told.std(axis=0), 1e-12))


@dataclass(frozen=True, eq=False)
class Heads:
    """The policy of ``P`` candidates: candidate ``p`` plays the episodes ``p·each … (p + 1)·each − 1``.

    Attributes:
        graph: what they have in common.
        parts: of it.
        weight: ``float32[P, A, H]`` added to the last layer.
        bias: ``float32[P, A]``.
        each: episodes of a candidate.
    """

    graph: Graph
    parts: Components
    weight: Array
    bias: Array
    each: int
    by_episode = True

    def __call__(self, obs: Array, mask: Array | None = None, *, episode: Array) -> Array:
        """``int64[B]`` greedy (legal) actions."""
        made, who = trace(self.graph, obs), episode // self.each
        values = made[Q] + np.matmul(self.weight[who], made[self.parts.hidden][:, :, None])[:, :, 0] + self.bias[who]
        return np.asarray((values if mask is None else np.where(mask, values, -np.inf)).argmax(axis=1))


def evolve_policy(graph: Graph, config: TrainConfig, tick: Tick = no_tick) -> Graph:
    """The policy of a run after the search that its settings ask for; two processes play where training uses two."""
    workers = 2 if config.evaluation.beside and len(os.sched_getaffinity(0)) > 1 else 1
    enough = np.inf if config.evaluation.stop_return is None else config.evaluation.stop_return
    with Evaluator(config.env, workers) as evaluate:
        return evolved(graph, evaluate, config.evolve, config.seed, enough, tick)


def evolved(
    graph: Graph,
    evaluate: Evaluator,
    config: EvolveConfig,
    seed: int,
    enough: float = np.inf,
    tick: Tick = no_tick,
) -> Graph:
    """``graph`` with the last layer that returns most; ``graph`` itself where none returns more.

    Args:
        graph: float policy without a mask.
        evaluate: of its environment: the search plays it in low fidelity where there is one, judgements as it is.
        seed: of candidates and episodes.
        enough: a mean return at which the search ends.

    Raises:
        ConfigError: see `Components.of`.
    """
    whole, seeds, rng = fold(graph), _Seeds(seed), np.random.default_rng(seed)
    met = evaluate(GraphPolicy(whole), seeds(_STATE_EPISODES), epsilon=0.02, keep_obs=_STATES)
    assert met.obs is not None
    parts = Components.of(whole, met.obs, config.features)
    search = Cma.start(np.zeros(parts.dimension(graph.actions)), config.sigma)

    def judged() -> float:
        return float(_returns(whole, parts, search.mean[None], evaluate, seeds(_JUDGED)).mean())

    best, most = search.mean, judged()
    for generation in range(1, config.generations + 1):
        if most >= enough:
            break
        candidates = search.ask(config.population, rng)
        returns = _returns(whole, parts, candidates, evaluate.low_fidelity, seeds(config.episodes))
        search = search.tell(candidates, returns.mean(axis=1) - _RISK * returns.std(axis=1))
        if generation % _EVERY == 0 or generation == config.generations:
            mean = judged()
            best, most = (search.mean, mean) if mean > most else (best, most)
        tick(generation, config.generations, f"last layer: return {returns.mean():.0f}, best {most:.0f}")
    return parts.changed(whole, best) if best.any() else graph


@dataclass
class _Seeds:
    """Of checks that training does not make."""

    nonce: int
    next: int = _FIRST_SEED

    def __call__(self, count: int) -> list[int]:
        self.next += count
        return episode_seeds("check", self.nonce, count, start=self.next - count).tolist()  # type: ignore[no-any-return]


def _returns(graph: Graph, parts: Components, vectors: Array, evaluate: Evaluate, seeds: list[int]) -> Array:
    """``float64[P, E]`` of the changes ``vectors [P, n]``, all on the same seeds."""
    weight, bias = parts.change(vectors, graph.actions)
    heads = Heads(graph, parts, weight.astype(np.float32), bias.astype(np.float32), len(seeds))
    played = evaluate(heads, seeds * len(vectors))
    return np.asarray(played.returns.reshape(len(vectors), len(seeds)))
