"""What training has come to: the best network, its policy, and how that plays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.learners.engines import checking_engine, for_playing
from nimbleq.rl.learners.learner import training_threads
from nimbleq.rl.policy_value.graphs import graphs_of
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.evaluate import Evaluator, interval95
from nimbleq.rl.training.evolve import evolve_policy
from nimbleq.rl.training.race import Outcome
from nimbleq.rl.training.state import TrainState
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Episodes, Policy, Tick, no_tick


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes:
        weights: of the best checked network, by name.
        graph: its greedy policy as a layer graph, its last layer evolved where that was asked for and returned more.
        value_graph: the value network beside a policy network (None: there is no policy network).
        spec: of the environment.
        steps: environment steps; when ``solved`` those before the check that solved it, as the next one:
        updates: gradient steps.
        seconds: wall-clock of training, checks and the search of the last layer included, the final evaluation not.
        final: fresh greedy episodes of that network.
        best_return: mean return of the check that chose it (None: none was due).
        solved: training stopped because ``stop_return`` was reached.
        learner: engine that did the updates.
        transfer: whether it went on from its source or from scratch (None: it had no source).
        evolved: whether the search of the last layer has changed ``graph``.
    """

    weights: dict[str, Array]
    graph: Graph
    value_graph: Graph | None
    spec: EnvSpec
    steps: int
    updates: int
    seconds: float
    final: Episodes
    best_return: float | None
    solved: bool
    learner: str
    transfer: Outcome | None = None
    evolved: bool = False

    def summary(self) -> dict[str, Any]:
        """JSON values: the ``train`` result without the names of run and environment."""
        return {
            "steps": self.steps,
            "updates": self.updates,
            "train_seconds": self.seconds,
            "return_mean": float(self.final.returns.mean()),
            "return_ci95": list(interval95(self.final.returns)),
            "episodes": len(self.final.returns),
            "solved": self.solved,
            "learner": self.learner,
            **({} if self.transfer is None else {"transfer": self.transfer._asdict()}),
            **({"evolved": True} if self.evolved else {}),
        }


def played(state: TrainState, outcome: Outcome | None, tick: Tick = no_tick) -> Trained:
    """The best network of a run that has ended, its last layer searched if that was asked for, and fresh episodes."""
    config, spec, counters = state.config, state.envs.spec, state.counters
    graphs = graphs_of(config, spec, state.best)
    began = time.monotonic()
    graph = evolve_policy(graphs.policy, config, tick) if config.evolve.generations else graphs.policy
    seconds = counters.seconds + time.monotonic() - began
    evolved = graph is not graphs.policy
    seeds = episode_seeds("final", config.seed, config.evaluation.final_episodes).tolist()
    with Evaluator(config.env) as evaluate, training_threads(state.learner.parameters().size):
        policy = GraphPolicy(graph) if evolved else _policy(state, graph, paired=graphs.value is not None)
        final = evaluate(policy, seeds)
    return Trained(
        weights=state.best,
        graph=graph,
        value_graph=graphs.value,
        spec=spec,
        steps=counters.best_steps if counters.solved else counters.steps,
        updates=counters.best_updates if counters.solved else state.learner.updates,
        seconds=seconds,
        final=final,
        best_return=counters.best_return,
        solved=counters.solved,
        learner=state.engine.name,
        transfer=outcome,
        evolved=evolved,
    )


def _policy(state: TrainState, graph: Graph, paired: bool) -> Policy:
    """What plays: of a policy beside a value network, and of one that remembers, what is saved."""
    if paired or graph.units:
        return GraphPolicy(graph)
    config, spec = state.config, state.envs.spec
    player = checking_engine(config, spec).make(for_playing(config), spec, config.seed)
    player.set_weights(state.best)
    policy: Policy = player.act
    return policy
