"""An actor without Ray: what its chunks hold, and that it imports no torch."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nimbleq.config import EnvConfig, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.distributed.acting import ByGraph, acting_of, flat, sent_weights, unflat
from nimbleq.rl.distributed.actor import Actor, actor_epsilon
from nimbleq.rl.distributed.chunk import Chunk
from nimbleq.rl.distributed.ledger import Ledger
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.policy_value.pair import training_engine
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.rules import check_settings

CHANGES: dict[str, Any] = {
    "envs": 3, "distributed.actors": 2, "distributed.chunk": 40, "replay.prioritized": True, "replay.n_step": 3,
    "network.hidden": (8,), "network.normalize_obs": False, "learner.gamma": 0.9, "learner.reward_scale": 0.5,
    "env": EnvConfig("tests.rl.own_envs:Counter"),
}  # fmt: skip


def config(**changes: Any) -> TrainConfig:
    settings: TrainConfig = with_changes(TrainConfig(), CHANGES | changes)
    return settings


def started(settings: TrainConfig, number: int = 0) -> tuple[Actor, Any]:
    """An actor, and the learner that it plays for."""
    learner = make_learner(settings, Ledger(settings).spec, 0)
    return Actor(settings, number, learner.weights()), learner


def test_the_ladder_of_epsilons() -> None:
    assert [actor_epsilon(actor, 8) for actor in (0, 7)] == pytest.approx([0.4, 0.4**8])
    assert actor_epsilon(1, 3) == pytest.approx(0.4**4.5)
    assert actor_epsilon(0, 1) == 0.4


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_weights_go_flat_and_an_actor_has_the_values_of_its_learner(engine: str) -> None:
    settings = config(**{"learner.engine": engine, "network.normalize_obs": True})
    spec = Ledger(settings).spec
    learner, other = (make_learner(settings, spec, seed) for seed in range(2))
    other.set_obs_stats(np.full(spec.obs.shape, 0.3, np.float32), np.full(spec.obs.shape, 2.0, np.float32))
    weights = unflat(learner.weights(), flat(other.weights()))
    obs = np.random.default_rng(0).normal(size=(7, *spec.obs.shape)).astype(np.float32)
    for acting in (acting_of(settings, spec), ByGraph(settings.network, spec)):
        acting.set_weights(weights)
        np.testing.assert_allclose(acting.q(obs), other.q(obs), rtol=1e-5, atol=1e-5)


def test_an_int8_policy_beside_a_value_network_acts_with_rounded_weights() -> None:
    settings = config(**{
        "policy.network": "6", "policy.format": "int8", "policy.collects": "policy", "replay.prioritized": False,
    })  # fmt: skip
    check_settings(settings)
    spec = Ledger(settings).spec
    learner = training_engine(settings, spec).make(settings, spec, 0)
    sent = sent_weights(settings, learner.weights())
    assert all(len(np.unique(np.abs(row))) <= 128 for row in sent["body.0.weight"])
    acting = acting_of(settings, spec)
    acting.set_weights(unflat(sent, flat(sent)))
    obs = np.random.default_rng(0).normal(size=(50, *spec.obs.shape)).astype(np.float32)
    assert np.array_equal(acting.q(obs).argmax(axis=1), learner.act(obs))


@pytest.mark.parametrize("masks", ["none", "info"])
def test_a_chunk_has_every_step_once_and_the_priorities_of_the_replay(masks: str) -> None:
    settings = config(env=EnvConfig("tests.rl.own_envs:Counter", kwargs=(f"masks={masks}",)))
    actor, learner = started(settings)
    chunks = [actor.play(number, 0, flat(learner.weights())) for number in range(2)]
    assert [chunk.began for chunk in chunks] == [True, False]
    spec = Ledger(settings).spec
    replay = Replay(settings.replay, settings.learner.gamma, 3, spec.obs, spec.actions if spec.masked else 0)
    for chunk in chunks:
        first = replay.added
        for step in chunk.steps():
            replay.add(step)
        assert replay.added - first == 40 * 3, "every step begins one transition, all of them closed"
        assert chunk.abs_td is not None
        batch = rows(replay, first, 120)
        np.testing.assert_allclose(chunk.abs_td, td(learner, batch, settings), rtol=1e-5, atol=1e-5)
        replay.prioritize(first, chunk.abs_td)
    assert replay.priorities is not None
    wanted = (np.concatenate([chunk.abs_td for chunk in chunks if chunk.abs_td is not None]) + 1e-6) ** 0.6
    np.testing.assert_allclose(replay.priorities.tree.leaves()[:240], wanted, rtol=1e-5)


def rows(replay: Replay, first: int, count: int) -> dict[str, np.ndarray]:
    return replay.rows(first, count)


def td(learner: Any, batch: dict[str, np.ndarray], settings: TrainConfig) -> np.ndarray:
    """The plain |TD error| of stored transitions."""
    next_q = learner.q(batch["next_obs"])
    if batch["next_mask"].shape[1]:
        next_q = np.where(batch["next_mask"], next_q, -np.inf)
    value = learner.q(batch["obs"])[np.arange(len(next_q)), batch["action"]]
    return np.abs(batch["reward"] * settings.learner.reward_scale + batch["discount"] * next_q.max(axis=1) - value)


def test_a_chunk_that_is_played_again_is_the_same_until_it_is_delivered() -> None:
    """An actor that dies is started again: its first chunk depends on its number and the weights only."""
    settings = config()
    (one, learner), (two, _) = started(settings, 1), started(settings, 1)
    weights = flat(learner.weights())
    chunks = [actor.play(5, 0, weights) for actor in (one, two)]
    for left, right in zip(chunks[0].play[:6], chunks[1].play[:6], strict=True):
        np.testing.assert_array_equal(left, right)
    later = one.play(6, 0, weights)
    assert not np.array_equal(later.play.obs, chunks[0].play.obs)


def test_the_ledger_counts_in_order_and_once() -> None:
    settings = config()
    ledger, (actor, learner) = Ledger(settings), started(settings, 1)
    chunk: Chunk = actor.play(0, 0, flat(learner.weights()))
    ledger.count(chunk)
    assert ledger.counted.tolist() == [0, 1]
    for wrong in (chunk, chunk._replace(sequence=2)):
        with pytest.raises(ValueError, match="is not number 1"):
            ledger.count(wrong)
    other = Ledger(settings)
    other.load_arrays(ledger.arrays())
    assert other.counted.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "pqn", "learner.batch_size": 96}, "algorithm must be dqn with actors"),
        ({"network.noisy": True}, "network.noisy must be off with actors"),
        ({"env.workers": 2}, "workers must be 1 with actors"),
        ({"replay.capacity": 100}, r"replay.capacity must be at least envs · distributed.chunk, 120"),
        ({"distributed.actors": 0, "distributed.ray": "auto"}, "distributed.ray must be left out without"),
        ({"distributed.ray": "ray://host:10001"}, "distributed.ray must be host:port or auto, on a machine of"),
        ({"distributed.learners": 3}, "learner.batch_size must be a multiple of learners, 3"),
        ({"distributed.learners": 2, "learner.engine": "native"}, "computes in one process: leave out --learners"),
        ({"learner.engine": "parallel"}, "needs --learners 2 or more"),
        ({"policy.network": "6"}, "policy.collects must be policy, which is what actors play"),
        ({"policy.network": "6", "policy.collects": "policy"}, "replay.prioritized must be off"),
        (
            {"policy.network": "6", "distributed.actors": 0, "distributed.learners": 2, "learner.batch_size": 64},
            "--learners shares one network",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(config(**changes))


def test_an_actor_needs_neither_torch_nor_ray() -> None:
    program = (
        "import sys, nimbleq.rl.distributed.actor, nimbleq.rl.envs.vector\n"
        "assert not {'torch', 'ray'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
