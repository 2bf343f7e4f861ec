"""The training loops: deep Q-learning [1312.5602; Nature 2015] with its extensions, and PQN [2407.04811]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from nimbleq.config import LogConfig, TrainConfig, to_dict, validate
from nimbleq.errors import EnvError
from nimbleq.graph.graph import Graph
from nimbleq.log import MetricsLog
from nimbleq.rl.learners.device.loop import learn_on_device
from nimbleq.rl.learners.learner import greedy_policy, training_threads
from nimbleq.rl.learners.torch_state import named_arrays
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import QNetwork, initial_network
from nimbleq.rl.ramp import ramp
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.check import Checker
from nimbleq.rl.training.checkpoint import has_checkpoint
from nimbleq.rl.training.evaluate import Evaluator, interval95
from nimbleq.rl.training.pqn import rollout_batches
from nimbleq.rl.training.session import Session
from nimbleq.rl.training.state import TrainState, load_state, new_state
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.stopping import Stopped, deferred
from nimbleq.types import Array, Episodes, Tick, no_tick
from nimbleq.wandb_log import wandb_log

_LOG_UPDATES = 100  # updates between two records of metrics


@dataclass(frozen=True)
class Trained:
    """What training leaves.

    Attributes:
        module: the best checked network.
        spec: of the environment.
        steps: environment steps; when ``solved`` those before the check that solved it, as the next one:
        updates: gradient steps.
        seconds: wall-clock of training, checks included, the final evaluation not.
        final: fresh greedy episodes of ``module``.
        best_return: mean return of the check that chose ``module`` (None: none was due).
        solved: training stopped because ``stop_return`` was reached.
        learner: engine that did the updates.
    """

    module: QNetwork
    spec: EnvSpec
    steps: int
    updates: int
    seconds: float
    final: Episodes
    best_return: float | None
    solved: bool
    learner: str

    def graph(self) -> Graph:
        """The policy as a layer graph."""
        return network_graph(self.spec, self.module.config, named_arrays(self.module))

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
        }


def train(
    config: TrainConfig,
    run: RunDir,
    tick: Tick = no_tick,
    resume: bool = False,
    log_to: LogConfig | None = None,
    seconds: float | None = None,
) -> Trained:
    """Train a Q-network; checkpoints and metrics go to ``run``.

    Interrupted (Ctrl-C, SIGTERM) it finishes the step, saves and raises `KeyboardInterrupt`; ``resume`` then continues
    to the same weights, bit for bit, as if nothing had happened. So it does after a kill, and after a second Ctrl-C,
    which does not wait: from the last checkpoint.

    Args:
        config: all settings.
        run: where checkpoints and metrics lie.
        tick: progress in environment steps.
        resume: continue from the checkpoint in ``run`` if there is one; otherwise, and without it, start anew.
        log_to: where metrics go beside JSONL and TensorBoard.
        seconds: training ends after so many, earlier sittings included, as if ``config.steps`` were used up.

    Raises:
        ConfigError: settings out of range, or other ones than those of the checkpoint.
        EnvError: unknown or unsupported environment; or it returned NaN (the state before that is saved).
        FileError: the disk is full or the checkpoint damaged.
    """
    validate(config)
    with deferred() as interrupted, Checker(config, interrupted) as checker:
        # The state comes after the checker, or it would lie in both processes.
        resuming = resume and has_checkpoint(run.checkpoint)
        state = load_state(config, run.checkpoint) if resuming else new_state(config)
        parameters = state.learner.parameters().size
        other = wandb_log(log_to, run.path, to_dict(config), resuming)
        log = MetricsLog(run.metrics, run.path / "tensorboard", state.counters.metrics_bytes, other)
        with log, training_threads(parameters):
            session = Session(state, run, log, checker, seconds)
            try:
                session.resume_check()
                _loop_of(config)(session, tick, interrupted)
                session.finish_checks()
            except (KeyboardInterrupt, EnvError, BrokenPipeError) as stop:  # the last: nobody reads our progress
                if not (isinstance(stop, Stopped) and stop.at_once):
                    session.save()
                raise
            session.save()
    state.envs.close()
    module = initial_network(state.envs.spec, config.network)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.best.items()})
    seeds = episode_seeds("final", config.seed, config.evaluation.final_episodes).tolist()
    with Evaluator(config.env) as evaluate, training_threads(parameters):
        final = evaluate(greedy_policy(module), seeds)
    counters = state.counters
    return Trained(
        module=module.eval(),
        spec=state.envs.spec,
        steps=counters.best_steps if counters.solved else counters.steps,
        updates=counters.best_updates if counters.solved else state.learner.updates,
        seconds=session.seconds,
        final=final,
        best_return=counters.best_return,
        solved=counters.solved,
        learner=state.learner.name,
    )


def _loop_of(config: TrainConfig) -> Callable[[Session, Tick, Callable[[], bool]], None]:
    if config.learner.engine == "device":
        return learn_on_device
    return _learn if config.algorithm == "dqn" else _learn_pqn


def _learn(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """The loop: act, remember, learn; check now and then."""
    state = session.state
    config, counters = state.config, state.counters
    learner, replay = state.learner, state.replay
    assert isinstance(replay, Replay)
    while not session.over:
        epsilon = state.explorer.epsilon(learner.updates)
        step = session.play(_explore(state, epsilon))
        replay.add(step)
        counters.steps += config.envs
        if state.stats is not None:
            state.stats.add(step.obs)
            learner.set_obs_stats(*state.stats.mean_std())
        due = counters.steps // config.envs % config.update_every == 0
        if due and counters.steps >= config.learn_start and len(replay) > 0:
            for _ in range(config.updates_per_step):
                beta = ramp(config.replay.beta_start, config.replay.beta_end, counters.steps / config.steps)
                batch = replay.sample(state.replay_rng, config.learner.batch_size, beta)
                abs_td = learner.update(batch)
                replay.reprioritize(batch.index, abs_td)
                if learner.updates % _LOG_UPDATES == 0:
                    session.record(batch, abs_td, epsilon)
        session.average_weights()
        session.note_finished()
        session.end_turn(tick, interrupted)


def _learn_pqn(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """The loop of PQN: play a rollout, learn from it, forget it. It stops and saves between rollouts only."""
    state = session.state
    config, counters = state.config, state.counters
    learner = state.learner
    while not session.over:
        epsilon = state.explorer.epsilon(learner.updates)
        steps = []
        for _ in range(config.pqn.rollout):
            steps.append(session.play(_explore(state, epsilon)))
            session.note_finished()
        counters.steps += config.envs * config.pqn.rollout
        if state.stats is not None:
            for step in steps:
                state.stats.add(step.obs)
            learner.set_obs_stats(*state.stats.mean_std())
        for batch in rollout_batches(config, learner, steps, state.replay_rng):
            abs_td = learner.update(batch)
            if learner.updates % _LOG_UPDATES == 0:
                session.record(batch, abs_td, epsilon)
            session.average_weights()
        session.end_turn(tick, interrupted)


def _explore(state: TrainState, epsilon: float) -> Array:
    """Legal next actions of all environments, ``int64[N]``: what the (noisy) network prefers, or random ones."""
    envs = state.envs
    return state.explorer.choose(state.learner.act(envs.obs, envs.mask, explore=True), epsilon, envs.mask)
