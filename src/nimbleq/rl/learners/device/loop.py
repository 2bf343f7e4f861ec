"""The loop of deep Q-learning on a device: the environments play while the device learns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nimbleq.rl.learners.device.learner import DeviceLearner
from nimbleq.rl.learners.device.replay import DeviceReplay
from nimbleq.rl.training.session import Session
from nimbleq.types import Tick

_LOG_UPDATES = 100  # updates between two records of metrics; the host waits for what they say


def learn_on_device(session: Session, tick: Tick, interrupted: Callable[[], bool]) -> None:
    """Act; then play that step in a thread, and meanwhile remember the step before it and learn.

    So learning is always exactly one step behind playing: the updates beside step t draw from the steps before it, and
    the actions of step t + 1 come from the weights after them. Nothing depends on which of the two is done first.

    What the host waits for in a step is the environments and the Q-values of the next observations.
    """
    state = session.state
    config, counters = state.config, state.counters
    learner, envs, replay = state.learner, state.envs, state.replay
    assert isinstance(learner, DeviceLearner)
    assert isinstance(replay, DeviceReplay)
    with ThreadPoolExecutor(max_workers=1) as player:
        while not session.over:
            epsilon = state.explorer.epsilon(learner.updates)
            action = state.explorer.choose(learner.act(envs.obs, envs.mask, explore=True), epsilon, envs.mask)
            playing = player.submit(session.play, action)
            replay.settle()
            due = counters.steps // config.envs % config.update_every == 0
            if due and counters.steps >= config.learn_start and len(replay) > 0:
                replay.anneal(counters.steps / config.steps)
                for _ in range(config.updates_per_step):
                    learner.learn(replay)
                    if learner.updates % _LOG_UPDATES == 0:
                        session.write_update(*learner.measures(), epsilon)
            step = playing.result()
            replay.add(step)
            counters.steps += config.envs
            if state.stats is not None:
                state.stats.add(step.obs)
                learner.set_obs_stats(*state.stats.mean_std())
            session.average_weights()
            session.note_finished()
            session.end_turn(tick, interrupted)
