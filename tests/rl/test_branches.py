"""Actions of several dimensions: from the environment through training and compression to C, ONNX and `Runtime`."""

from itertools import product
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.config import EnvConfig, LearnerConfig, NetworkConfig, TrainConfig, with_changes
from nimbleq.deploy.runtime import Runtime
from nimbleq.errors import ConfigError, EnvError, ObservationError
from nimbleq.graph import branches as math
from nimbleq.graph.graph import ACTION, Q
from nimbleq.graph.interface import as_mask, describe, environment_action
from nimbleq.graph.interface_codec import from_dict, to_dict
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.explore import Explorer
from nimbleq.rl.learners.engines import engine_for, make_learner
from nimbleq.rl.masks import nth_legal
from nimbleq.rl.nets.heads.branching import HEAD
from nimbleq.rl.nets.heads.head import Sample
from nimbleq.rl.nets.network import initial_network
from nimbleq.rl.presets import preset
from nimbleq.rl.rules import check_settings
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.evaluate import Evaluator
from nimbleq.types import ObsSpec

LEVERS = EnvConfig("tests.rl.own_envs:Levers")
MASKED = EnvConfig("tests.rl.own_envs:Levers", kwargs=("masks=True", "first=5"))
SPEC = EnvSpec(ObsSpec((2,)), 9, branches=(2, 3, 4))
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(SIZES, st.integers(0, 1 << 20))
def test_an_index_is_its_choices(sizes, seed):
    rng = np.random.default_rng(seed)
    index = rng.integers(math.combinations(0, sizes), size=7)
    choices = math.split(index, sizes)
    assert (choices >= 0).all()
    assert (choices < sizes).all()
    assert np.array_equal(math.join(list(choices.T), sizes), index)
    assert index[0] == list(product(*map(range, sizes))).index(tuple(choices[0].tolist()))


@given(SIZES, st.integers(0, 1 << 20))
def test_the_best_action_is_best_among_all(sizes, seed):
    rng = np.random.default_rng(seed)
    q = rng.integers(0, 3, (3, sum(sizes))).astype(np.float32)
    mask = rng.random(q.shape) < 0.6
    for part in math.parts(sizes):
        mask[np.arange(3), rng.integers(part.start, part.stop, 3)] = True
    every = np.array(list(product(*map(range, sizes)))) + np.cumsum([0, *sizes[:-1]])
    for row in range(3):
        legal = mask[row, every].all(axis=1)
        total = np.where(legal, q[row, every].mean(axis=1), -np.inf)
        assert math.best(q, sizes, mask)[row] == total.argmax()  # the lowest on ties
        assert math.value(q, sizes, mask)[row] == pytest.approx(total.max(), rel=1e-6)
        drawn = {int(nth_legal(mask[row : row + 1], np.array([n]), sizes)[0]) for n in range(legal.sum())}
        assert drawn == set(np.flatnonzero(legal).tolist())


def test_the_environment_gets_a_vector_within_its_masks():
    env = make_env(MASKED)
    interface = env.interface
    assert (interface.actions, interface.branches, interface.starts, interface.choices) == (9, (2, 3, 4), (0, 5, 0), 24)
    assert from_dict(to_dict(interface)) == interface
    assert environment_action(interface, 23).tolist() == [1, 7, 3]
    assert "in 3 dimensions: 0..1, 5..7, 0..3" in "\n".join(describe(interface))
    envs = VectorEnv(MASKED, 3, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(30):  # the environment itself asserts that actions are legal
        envs.step(nth_legal(envs.mask, rng.integers(1 << 31, size=3), envs.spec.branches))


def test_masks_in_every_form():
    interface = make_env(MASKED).interface
    flags = [[1, 0], [0, 1, 1], [1, 1, 0, 1]]
    flat = [1, 0, 0, 1, 1, 1, 1, 0, 1]
    for form in (flags, tuple(map(np.array, flags)), flat, np.array(flat, bool)):
        assert as_mask(interface, form).tolist() == [bool(flag) for flag in flat]
    for wrong in ([[1, 0], [0, 1], [1, 1, 0, 1]], [[0, 0], [0, 1, 1], [1, 1, 0, 1]], [1] * 8, [2] * 9):
        with pytest.raises(ObservationError, match=r"^[^\n]+$"):
            as_mask(interface, wrong)


class Odd(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}


def test_other_spaces_of_actions():
    from nimbleq.rl.envs.interfaces import interface_of

    assert interface_of(Odd(spaces.MultiBinary(3)), LEVERS).branches == (2, 2, 2)
    for space, words in (
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), "one row of them"),
        (spaces.MultiDiscrete([100] * 5), "10,000,000,000 actions"),
    ):
        with pytest.raises(EnvError, match=words):
            interface_of(Odd(space), LEVERS)


def test_exploration_covers_every_dimension():
    explorer = Explorer(TrainConfig().explore, np.random.default_rng(0), 6000, SPEC.choices, SPEC.branches)
    mask = np.ones((6000, 9), bool)
    mask[:, 3] = False  # the second choice of the second lever
    for legal, count in ((None, 24), (mask, 16)):
        seen, counts = np.unique(explorer.choose(np.zeros(6000, np.int64), 1.0, legal), return_counts=True)
        assert len(seen) == count
        assert counts.min() > 0.8 * 6000 / count


@pytest.mark.parametrize("dueling", [False, True])
def test_the_loss_is_that_of_each_branch_towards_their_mean(dueling):
    network, target = (
        initial_network(SPEC, NetworkConfig(hidden=(5,), head="branching", dueling=dueling, normalize_obs=False), seed)
        for seed in (0, 1)
    )
    rng = np.random.default_rng(0)
    obs, next_obs = (torch.tensor(rng.normal(size=(6, 2)), dtype=torch.float32) for _ in range(2))
    action, reward = torch.tensor(rng.integers(24, size=6)), torch.tensor(rng.normal(size=6), dtype=torch.float32)
    mask = torch.tensor(rng.random((6, 9)) < 0.7)
    mask[:, [0, 2, 5]] = True
    sample = Sample(obs, action, reward, torch.full((6,), 0.9), next_obs, mask)
    made = HEAD.loss(network, target, sample, LearnerConfig(double=True, loss="mse"), torch.Generator())
    with torch.no_grad():
        q, next_online, next_target = network(obs), network(next_obs), target(next_obs)
    sides = [slice(0, 2), slice(2, 5), slice(5, 9)]
    if dueling:  # advantages have mean 0, so the mean of each dimension is V
        means = torch.stack([q[:, side].mean(1) for side in sides])
        assert torch.allclose(means[0], means[1], atol=1e-6)
    for row in range(6):
        picks = [next_online[row, s].masked_fill(~mask[row, s], -9e9).argmax() for s in sides]
        later = np.mean([float(next_target[row, s][pick]) for s, pick in zip(sides, picks, strict=True)])
        y = float(reward[row]) + 0.9 * later
        digits = math.split(np.array(int(action[row])), (2, 3, 4))
        errors = np.array([float(q[row, s][d]) - y for s, d in zip(sides, digits, strict=True)])
        assert float(made.loss[row].detach()) == pytest.approx(np.mean(errors**2), rel=1e-4)
        assert float(made.surprise[row]) == pytest.approx(np.abs(errors).mean(), rel=1e-4)


def test_settings_that_do_not_fit_are_refused_in_one_line():
    config = preset(LEVERS.id)
    assert config.network.head == "branching"
    for changes, words in (
        ({"network.head": "q"}, "3 dimensions: the setting network.head must be branching, not q"),
        ({"learner.engine": "native"}, "no branching head"),
        ({"learner.engine": "device"}, "no branching head"),
    ):
        with pytest.raises(ConfigError, match=words):
            engine_for(with_changes(config, changes), SPEC)
    with pytest.raises(
        ConfigError, match=r"of one dimension: .* must be q or c51 or hl-gauss or qr or iqn, not branching"
    ):
        engine_for(config, EnvSpec(ObsSpec((2,)), 3))
    for changes in ({"learner.munchausen": True, "learner.double": False}, {"policy.network": "8"}):
        with pytest.raises(ConfigError, match=r"network\.head branching"):
            check_settings(with_changes(config, changes))


@pytest.mark.parametrize("dueling", [False, True])
def test_the_graph_is_the_network(dueling):
    config = with_changes(preset(LEVERS.id), {"network.hidden": (8,), "network.dueling": dueling})
    learner = make_learner(config, SPEC, 3)
    obs = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    made = interpret(learner.graph(), obs)
    np.testing.assert_allclose(made[Q], learner.q(obs), atol=1e-5)
    assert np.array_equal(made[ACTION], learner.act(obs))


def test_the_runtime_answers_with_a_vector(tmp_path: Path):
    interface = make_env(MASKED).interface
    config = with_changes(preset(LEVERS.id), {"network.hidden": (8,)})
    graph = make_learner(config, SPEC, 3).graph()
    obs = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    plain = Runtime(graph, engine="numpy")
    for engine in ("auto", "numpy", "onnxruntime"):
        policy = Runtime(with_mask(graph), engine=engine, interface=interface)
        for row in obs:
            action = policy.act(row, (np.ones(2, bool), np.array([1, 1, 0]), np.ones(4, bool)))
            free = plain.act(row)
            assert action.shape == (3,)
            assert action[1] in (5, 6)
            assert [action[0], action[2]] == [free[0], free[2]]
        with pytest.raises(ObservationError, match="dimension"):
            policy.act(obs[0], [1, 1, 0, 0, 0, 1, 1, 1, 1])


def test_random_play_is_uniform_and_legal():
    with Evaluator(MASKED) as evaluate:
        played = evaluate(lambda obs, mask: np.zeros(len(obs), np.int64), range(64), epsilon=1.0)
    # By luck: a half of the first lever, and a half and a third of those that have one choice fewer.
    assert played.returns.mean() == pytest.approx(8 * (1 / 2 + 1 / 2 + 1 / 3) / 3, rel=0.1)
