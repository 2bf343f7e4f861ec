"""A policy that learns on where it runs: the emitted C gives the bits of the learner that trained it."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from nimbleq.config import EnvConfig, NetworkConfig, TrainConfig, with_changes
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.c.learn import LearnOptions, emit_learn, start_of
from nimbleq.deploy.targets.c.target import C, COptions
from nimbleq.deploy.toolchain import compile_library, find_compiler
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.rl.learners.engines import make_learner
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec, Step

CONFIG = with_changes(
    TrainConfig(EnvConfig("CartPole-v1"), NetworkConfig(hidden=(8, 6)), algorithm="stream", envs=1), {"learner.lr": 1.0}
)
SPEC = EnvSpec(ObsSpec((3,)), 4)
LEARNING = LearnOptions(CONFIG.learner.gamma, CONFIG.stream.trace_decay, CONFIG.learner.lr, CONFIG.stream.overshoot)


@pytest.fixture(scope="module")
def learner():
    made = make_learner(CONFIG, SPEC, 0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        _learn(made, *_step(rng))
    return made


def _step(rng):
    return (
        rng.normal(1, 2, 3).astype(np.float32),
        int(rng.integers(4)),
        float(np.float32(rng.normal())),
        rng.normal(1, 2, 3).astype(np.float32),
    )


def _learn(learner, obs, action, reward, next_obs):
    one = Step(
        obs[None], np.array([action]), np.array([reward], np.float32), np.zeros(1, bool), np.zeros(1, bool),
        next_obs[None],
    )  # fmt: skip
    return learner.learn(one)


class Emitted:
    """The C that `emit_learn` writes, compiled."""

    def __init__(self, graph, folder, flags=("-std=c99", "-O2")):
        compiler = find_compiler()
        if compiler is None:
            pytest.skip("no C compiler")
        files = emit_learn(graph, "policy", replace(LEARNING, observations=40))
        library = compile_library(files, folder / "learn.so", compiler, flags)
        self.library = ctypes.CDLL(str(library))
        self.library.policy_learn_update.restype = ctypes.c_float
        start = start_of(graph)
        self.size = 5 + 2 * start.widths[0] + 2 * len(start.weights)
        self.memory = np.zeros(self.size + 4096, np.float32)
        self.library.policy_learn_start(self.at(self.memory), ctypes.c_uint32(7))

    @staticmethod
    def at(array):
        return ctypes.c_void_p(array.ctypes.data)

    @property
    def state(self):
        return self.memory[: self.size]

    def learn(self, obs, action, reward, next_obs):
        return self.library.policy_learn_update(
            self.at(self.memory), self.at(obs), action, ctypes.c_float(reward), 0, 0, self.at(next_obs)
        )


def test_it_learns_what_the_trainer_learns_to_the_bit(learner, tmp_path):
    trainer = make_learner(CONFIG, SPEC, 0)
    trainer.load_arrays(learner.arrays())
    emitted = Emitted(trainer.graph(), tmp_path)
    np.testing.assert_allclose(emitted.state[:7], trainer.state[:7], rtol=1e-5)
    trainer.state[:] = emitted.state  # as exported: without traces, the scale of rewards anew
    rng = np.random.default_rng(1)
    for _ in range(300):
        step = _step(rng)
        assert emitted.learn(*step) == np.float32(_learn(trainer, *step))
    assert np.array_equal(emitted.state, trainer.state)


def test_a_loop_of_its_own_explores_and_refuses(learner, tmp_path):
    emitted = Emitted(learner.graph(), tmp_path)
    act, at, obs = emitted.library.policy_learn_begin, emitted.at(emitted.memory), np.zeros(3, np.float32)
    before = emitted.state.copy()
    actions = [act(at, emitted.at(obs))]
    greedy = emitted.library.policy_learn_act(at, emitted.at(obs))
    actions += [act(at, emitted.at(obs)) for _ in range(4000)]
    share = np.mean(np.array(actions) != greedy)
    assert 0.75 * 0.01 * 0.4 < share < 0.75 * 0.01 * 2.2  # ε = 0.01, of which a quarter is greedy again
    assert np.array_equal(before, emitted.state)
    obs[1] = np.nan
    assert emitted.library.policy_learn_step(at, ctypes.c_float(1.0), emitted.at(obs), 0, 0) == -1
    assert np.array_equal(before, emitted.state)


def test_masks_reach_it(learner):
    files = emit_learn(with_mask(learner.graph()), "policy", LEARNING)
    assert "const uint8_t *next_legal" in files["policy_learn.h"]


def test_it_is_freestanding_and_without_warnings(learner, tmp_path):
    import subprocess

    compiler = find_compiler(("gcc",))
    if compiler is None:
        pytest.skip("no gcc")
    for graph in (learner.graph(), with_mask(learner.graph())):
        files = emit_learn(graph, "policy", LEARNING)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        flags = ["-std=c99", "-ffreestanding", "-nostdlib", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-c"]
        subprocess.run([compiler, *flags, "policy_learn.c", "-o", "learn.o"], cwd=tmp_path, check=True)
        names = subprocess.run(["nm", "-u", "learn.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert not set(names.split()) - {"U", "memset", "memcpy", "_GLOBAL_OFFSET_TABLE_"}


def test_the_target_writes_it_when_asked(learner):
    source = Source(learner.graph())
    assert "policy_learn.c" in C.emit(source, "policy", COptions(learn=True, learning=LEARNING))
    assert "policy_learn.c" not in C.emit(source, "policy", COptions())
    with pytest.raises(ConfigError, match="gamma"):
        emit_learn(learner.graph(), "policy", replace(LEARNING, gamma=2))
    with pytest.raises(ConfigError, match=r"give --c\.learning\.bound, too"):
        emit_learn(learner.graph(), "policy", replace(LEARNING, bound=None))


def test_what_it_cannot_learn_is_refused():
    dueling = with_changes(CONFIG, {"algorithm": "dqn", "network.dueling": True, "learner.engine": "torch"})
    with pytest.raises(UnsupportedOpError, match=r"c\.learn"):
        start_of(make_learner(dueling, SPEC, 0).graph())
