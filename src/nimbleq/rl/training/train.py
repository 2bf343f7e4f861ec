"""The training loops: deep Q-learning [1312.5602; Nature 2015] with its extensions, and PQN [2407.04811]."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

import numpy as np

from nimbleq.config import LogConfig, TrainConfig, to_dict
from nimbleq.errors import EnvError
from nimbleq.log import MetricsLog
from nimbleq.rl.cluster import cluster
from nimbleq.rl.distributed.actor import actor_epsilon
from nimbleq.rl.distributed.fleet import Fleet
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.envs.vector_engine import Environments
from nimbleq.rl.learners.engine import measured
from nimbleq.rl.learners.learner import training_threads
from nimbleq.rl.learners.lost import LearnersLostError
from nimbleq.rl.learners.stream import StreamLearner
from nimbleq.rl.rules import check_settings
from nimbleq.rl.training.check import Checker
from nimbleq.rl.training.checkpoint import has_checkpoint
from nimbleq.rl.training.pqn import rollout_batches
from nimbleq.rl.training.programs import learn_in_programs
from nimbleq.rl.training.race import settled
from nimbleq.rl.training.session import Session
from nimbleq.rl.training.state import TrainState, load_state, new_state
from nimbleq.rl.training.trained import Trained, played
from nimbleq.rl.transfer.source import open_source
from nimbleq.rl.transfer.transfer import Transfer
from nimbleq.rundir import RunDir
from nimbleq.stopping import Stopped, deferred
from nimbleq.types import Array, Step, Tick, no_tick
from nimbleq.wandb_log import wandb_log

_STREAM_STEPS = 100


def train(
    config: TrainConfig,
    run: RunDir,
    tick: Tick = no_tick,
    resume: bool = False,
    log_to: LogConfig | None = None,
    seconds: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train a Q-network; checkpoints and metrics go to ``run``.

    On Ctrl-C or SIGTERM it finishes the step, saves and raises `KeyboardInterrupt`; ``resume`` then continues to the
    same weights, bit for bit, as without the stop. After a kill, or a second Ctrl-C (which does not wait), it continues
    from the last checkpoint. With actors it continues exactly in what is counted, not in the bits that follow.

    Args:
        config: all settings.
        run: where checkpoints and metrics lie.
        tick: progress in environment steps.
        resume: continue from the checkpoint in ``run`` if there is one; otherwise, and without it, start anew.
        log_to: where metrics go beside JSONL and TensorBoard.
        seconds: training ends after so many, earlier sessions included, as if ``config.steps`` were used up.
        say: gets a line about what a transfer came to.

    Raises:
        ConfigError: settings out of range, or other ones than those of the checkpoint; or the source does not fit.
        EnvError: unknown or unsupported environment; or it returned NaN (the state before that is saved).
        FileError: the disk is full or the checkpoint damaged.
    """
    check_settings(config)
    source = open_source(config, run)
    transfer = None if source is None else Transfer(config, source, spec_of(config.env))
    with deferred() as interrupted, Checker(config, interrupted) as checker, cluster(config.distributed):
        # The state comes after the checker, or it would lie in both processes.
        start = partial(_session, config, run, checker, log_to, seconds, transfer)
        session = start(resume)
        while not _worked(session, tick, interrupted):
            checker.forget()
            session = start(True)
            session.note = f"a learner was lost: all went on from step {session.state.counters.steps:,}"
    state = session.state
    state.envs.close()
    outcome = settled(state.race, state.counters.best_transferred, state.counters.steps, run)
    if outcome is not None:
        say(outcome.why)
    return played(state, outcome, tick)


def _session(
    config: TrainConfig, run: RunDir, checker: Checker, log_to: LogConfig | None, seconds: float | None,
    transfer: Transfer | None, resume: bool,
) -> Session:  # fmt: skip
    """From the checkpoint in ``run``, to ``resume`` and if there is one; else from the start."""
    resuming = resume and has_checkpoint(run.checkpoint)
    state = load_state(config, run.checkpoint, transfer) if resuming else new_state(config, transfer)
    if state.race is not None and not resuming:
        state.race.measure()
    other = wandb_log(log_to, run.path, to_dict(config), resuming)
    log = MetricsLog(run.metrics, run.path / "tensorboard", state.counters.metrics_bytes, other)
    return Session(state, run, log, checker, seconds)


def _worked(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> bool:
    """Train to the end, or until it is stopped, and save; False if a learner was lost after some updates."""
    began = session.state.learner.updates
    try:
        _work(session, tick, interrupted)
    except LearnersLostError:
        if session.state.learner.updates == began:
            raise
        return False
    return True


def _work(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """Train to the end, or until it is stopped, and save."""
    state = session.state
    size = 0 if state.engine.on_gpu(state.config) else state.learner.parameters().size
    with session.log, training_threads(size):
        try:
            if state.config.distributed.learners > 1:
                session.save()  # where all start again if one of them dies
            session.resume_check()
            _loop_of(state)(session, tick, interrupted)
            session.finish_checks()
        except (KeyboardInterrupt, EnvError, BrokenPipeError) as stop:  # the last: the reader of our output is gone
            if not (isinstance(stop, Stopped) and stop.at_once):
                session.save()
            raise
        finally:
            state.engine.close(state.learner)
        session.save()


def _loop_of(state: TrainState) -> Callable[[Session, Tick, Callable[[], bool]], None]:
    if state.config.distributed.actors > 0:
        return _learn_from_actors
    program = state.engine.program(state.config, state.learner, cast(Environments, state.envs), state.replay)
    if program is not None and state.race is None:
        return partial(learn_in_programs, program)
    if state.config.algorithm == "pqn":
        return _learn_pqn
    if state.config.algorithm == "stream":
        return _learn_stream
    return _learn_while_playing if state.engine.overlaps else _learn


def _learn(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """Deep Q-learning: act, remember, learn; check now and then."""
    while not session.over:
        epsilon = session.epsilon()
        step = session.store(session.play(session.explore(epsilon)))
        session.count([step])
        session.settle()
        session.learn(epsilon)
        session.average_weights()
        session.note_finished()
        session.end_turn(tick, interrupted)


def _learn_while_playing(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """The same, but a thread steps the environments, and stores that step, while the engine learns from those before.

    So learning is always exactly one step behind playing: the updates beside step t draw from the steps before it, and
    the actions of step t + 1 come from the weights after them. The result does not depend on which of the two ends
    first.
    """
    with ThreadPoolExecutor(max_workers=1) as player:
        while not session.over:
            epsilon = session.epsilon()
            action = session.explore(epsilon)
            settle = session.collect()
            playing = player.submit(_play_and_store, session, action)
            settle()
            session.learn(epsilon)
            session.count([playing.result()])
            session.average_weights()
            session.note_finished()
            session.end_turn(tick, interrupted)


def _play_and_store(session: Session, action: Array) -> Step:
    return session.store(session.play(action))


def _learn_from_actors(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """Ape-X [1803.00933]: actors play and send chunks of steps; as much is learnt from each as if played here."""
    state, actors = session.state, session.state.config.distributed.actors
    learner, ledger = state.learner, cast(Ledger, state.envs)
    epsilon = float(np.mean([actor_epsilon(number, actors) for number in range(actors)]))
    with Fleet(state.config, ledger, learner.weights()) as fleet:
        while not session.over:
            fleet.publish(learner.updates, learner.weights)
            chunk = fleet.take(interrupted)
            ledger.count(chunk)
            session.store_chunk(chunk)
            for _ in range(len(chunk.play.action)):
                state.counters.steps += state.config.envs
                session.learn(epsilon)
                session.average_weights()
            session.note_finished()
            session.lag, session.measures = str(fleet.lag), vars(fleet.lag)
            session.end_turn(tick, interrupted)


def _learn_pqn(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """PQN: play a rollout, learn from it, discard it. It stops and saves between rollouts only."""
    state = session.state
    while not session.over:
        epsilon = session.epsilon()
        steps = []
        for _ in range(state.config.pqn.rollout):
            steps.append(session.play(session.explore(epsilon)))
            session.note_finished()
        session.count(steps)
        branches = state.envs.spec.branches
        for learner in session.learners:
            for batch in rollout_batches(state.config, learner, steps, state.replay_rng, branches):
                abs_td = learner.update(batch)
                if learner is state.learner:
                    session.log_update(partial(measured, learner, batch, abs_td), epsilon)
                session.average_weights()
        session.end_turn(tick, interrupted)


def _learn_stream(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """Stream Q(λ) [2410.14606]: learn from each step at once, and forget it. It stops between a hundred steps only."""
    state = session.state
    learner = cast(StreamLearner, state.learner)
    while not session.over:
        for _ in range(_STREAM_STEPS):
            epsilon = session.epsilon()
            step = session.play(session.explore(epsilon))
            error = learner.learn(step)
            session.count([step])
            session.log_update(partial(learner.measures, step, error), epsilon)
            session.average_weights()
            session.note_finished()
        session.end_turn(tick, interrupted)
