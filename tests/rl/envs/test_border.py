"""What environments do wrong is one line that names them; what they do in unusual ways is understood."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from nimbleq.config import EnvConfig, with_changes
from nimbleq.errors import EnvError
from nimbleq.rl.envs.atari_names import advice
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.rl.envs.interfaces import interface_of
from nimbleq.rl.envs.probe import find_offsets
from nimbleq.rl.envs.remarks import remarks
from nimbleq.rl.envs.vector import VectorEnv
from nimbleq.rl.masks import nth_legal
from nimbleq.rl.presets import preset
from nimbleq.rl.training.checkpoint import has_checkpoint
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from tests.rl.border_envs import Shop, Steered

HERE = "tests.rl.border_envs"
FIVE = r"step must return five values: observation, reward, terminated, truncated, info"


def play(config: EnvConfig, steps: int = 100) -> VectorEnv:
    envs, rng = VectorEnv(config, 2, seed=0), np.random.default_rng(0)
    for _ in range(steps):
        draws = rng.integers(1000, size=2)
        envs.step(draws % envs.spec.actions if envs.mask is None else nth_legal(envs.mask, draws))
    return envs


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("four", FIVE),
        ("step_none", FIVE),
        ("step_info", f"{FIVE}.*its info is None"),
        ("reset_obs", r"reset must return two values: observation, info \(a dict\), not an array"),
        ("reset_none", "reset must return two values.*not None"),
        ("info_none", "its info is None"),
        ("reset_space", "the observation is a Box, not numbers"),
        ("no_space", "has no observation_space: its __init__ must set"),
        ("no_actions", "has no action_space"),
        ("done_text", "returned the text 'no' as terminated: it must be True or False"),
        ("done_none", "returned None as truncated"),
        ("reward_none", "returned None as its reward: it must be one number"),
        ("reward_text", "returned the text '1.0' as its reward"),
        ("reward_huge", "returned infinity in its reward"),
        ("reward_two", "returned a list as its reward"),
        ("late_mask", r"gives info\['action_mask'\] now, but gave none after its first reset"),
        ("key", r"failed in step: KeyError: 'gear' \(border_envs.py, line \d+\)"),
        ("index", r"failed in step: IndexError: list index out of range \(border_envs.py"),
        ("type", r"failed in step: TypeError: no len\(\) \(border_envs.py"),
        ("runtime", r"failed in step: RuntimeError: the motor has no current \(border_envs.py"),
        ("memory", r"failed in step: MemoryError \(border_envs.py"),
        ("exit", r"failed in step: SystemExit: 3 \(border_envs.py"),
        ("unpack", r"failed in step: ValueError: not enough values to unpack \(expected 2, got 1\) \(border_envs.py"),
        ("stop", r"failed in step: StopIteration \(border_envs.py"),
        ("assert", r"failed in step: AssertionError \(border_envs.py"),
    ],
)
def test_what_an_environment_does_wrong_is_one_line(how: str, words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        play(EnvConfig(f"{HERE}:Old", kwargs=(f"how={how}",)), 10)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{HERE}:Old")


@pytest.mark.parametrize("how", ["fine", "done_array", "done_torch", "reward_array"])
def test_what_says_the_same_in_another_type_is_taken(how: str) -> None:
    envs = VectorEnv(EnvConfig(f"{HERE}:Old", kwargs=(f"how={how}",)), 1, seed=0)
    for time in range(1, 41):
        step = envs.step(np.array([0]))
        assert (step.reward[0], step.terminated[0], step.truncated[0]) == (1.0, time % 20 == 0, False)


def test_a_reset_without_seed_is_told_what_to_write() -> None:
    with pytest.raises(EnvError, match=r"unexpected keyword argument 'seed'; write def reset\(self, \*, seed=None"):
        make_env(EnvConfig(f"{HERE}:NoSeed"))


def test_what_was_learnt_is_saved_when_the_environment_fails(tmp_path: Path) -> None:
    changes = {"env.kwargs": ("how=key",), "env.id": f"{HERE}:Old", "envs": 2, "evaluation.beside": False}
    run = RunDir(tmp_path)
    with pytest.raises(EnvError, match="KeyError: 'gear'"):
        train(with_changes(preset("CartPole-v1"), changes), run)
    assert has_checkpoint(run.checkpoint)


@pytest.mark.parametrize(
    "how",
    [
        "info",
        "int8",
        "list",
        "float",
        "masks",
        "avail",
        "admissible",
        "legal",
        "action_masks",
        "valid_action_mask",
        "dict",
    ],
)
def test_masks_are_found_wherever_they_are(how: str) -> None:
    Shop.illegal = 0
    envs = play(EnvConfig(f"{HERE}:Shop", kwargs=(f"how={how}",)))
    assert envs.spec.masked
    assert envs.spec.obs.shape == (4,)
    assert Shop.illegal == 0


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("late", "gave none after its first reset: it must say which actions are legal from reset on"),
        ("gone", "the info has no 'action_mask', which says which actions are legal"),
        ("short", r"action_mask has the shape \(3,\): it must have a flag for each of 4 actions"),
        ("logits", "says that no action is legal"),
        ("indices", "action_mask has values other than 0 and 1"),
        ("none", "says that no action is legal"),
        ("null", "action_mask is None"),
        ("broken_method", "failed in action_masks: KeyError: 'nothing'"),
        ("available", "gives info 'available_actions', which looks like a mask of its actions"),
        ("moves", "gives info 'legal_moves', which looks like a mask"),
        ("valid", "gives info 'valid_actions', which looks like a mask"),
        ("mask", "gives info 'mask', which looks like a mask"),
        ("deep", "gives info 'player' 'action_mask', which looks like a mask.*at the top"),
        ("strange_dict", "gives the observation's entry 'avail_actions', which looks like a mask"),
    ],
)
def test_masks_that_cannot_be_meant_are_one_line(how: str, words: str) -> None:
    with pytest.raises(EnvError, match=words) as caught:
        play(EnvConfig(f"{HERE}:Shop", kwargs=(f"how={how}",)))
    assert "\n" not in str(caught.value)


def test_what_only_sounds_like_a_mask_is_left_alone() -> None:
    assert not spec_of(EnvConfig(f"{HERE}:Shop", kwargs=("how=harmless",))).masked


def test_a_method_that_may_know_the_legal_actions_is_named() -> None:
    (remark,) = remarks(EnvConfig(f"{HERE}:Advised", kwargs=("how=unmasked",)))
    assert "a method legal_actions() that is not called" in remark
    assert remarks(EnvConfig(f"{HERE}:Advised", kwargs=("how=info",))) == []


def test_actions_begin_where_the_environment_says() -> None:
    Steered.arrived.clear()
    envs = VectorEnv(EnvConfig(f"{HERE}:Steered"), 1, seed=0)
    for action in (0, 1, 2, 2):
        step = envs.step(np.array([action]))
    assert Steered.arrived == [-1, 0, 1, 1]
    assert step.next_obs[0].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert envs.spec.interface is not None
    assert envs.spec.interface.action_start == -1


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_commands_are_gymnasiums_discretisation(name: str) -> None:
    interface = make_env(EnvConfig(name, discretize=7)).interface
    wrapped = gymnasium.wrappers.DiscretizeAction(gymnasium.make(name), 7)
    assert interface.commands is not None
    assert np.array_equal(interface.commands, [wrapped.action(index) for index in range(7)])


def test_commands_of_two_dimensions_are_in_gymnasiums_order() -> None:
    class Flat(gymnasium.Env[np.ndarray, np.ndarray]):
        observation_space = spaces.Box(-1, 1, (2,))
        action_space = spaces.Box(np.array([[-1, 0, 2]], np.float32), np.array([[1, 5, 3]], np.float32))

        def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
            return np.zeros(2, np.float32), {}

    commands = interface_of(Flat(), EnvConfig("flat", discretize=3)).commands
    wrapped = gymnasium.wrappers.DiscretizeAction(Flat(), 3)
    assert commands is not None
    assert commands.shape == (27, 1, 3)
    assert np.array_equal(commands, [wrapped.action(index) for index in range(27)])


@pytest.mark.long
def test_a_camera_beside_a_gauge_is_learnt(tmp_path: Path) -> None:
    """Who sees only one of them gets 10 of 20."""
    config = preset(f"{HERE}:Robot")
    assert (config.network.torso, config.network.normalize_obs) == ("small", True)
    assert config.replay.capacity == 50_000
    changes = {"steps": 6_000, "learn_start": 400, "explore.updates": 1_000, "evaluation.every": 1_000}
    trained = train(with_changes(config, {**changes, "updates_per_step": 2, "seed": 1}), RunDir(tmp_path))
    assert trained.spec.obs.shape == (12 * 12 + 2,)
    assert trained.final.returns.mean() > 17


def test_a_replay_of_pictures_fits_two_gibibytes() -> None:
    capacity = preset("tests.rl.border_envs:wide_camera").replay.capacity
    assert capacity == (2 << 30) // (12 * 200 * 200 // 4)


def test_a_unix_time_keeps_its_digits(tmp_path: Path) -> None:
    config = preset(f"{HERE}:Stamped")
    assert len(config.env.offsets) == 1
    name, _, value = config.env.offsets[0].partition("=")
    assert name == "time[0]"
    assert float(value) == pytest.approx(1.7e9 + 30, abs=10)
    assert "is subtracted" in remarks(config.env)[0]
    assert "--obs-offsets time[0]=" in remarks(EnvConfig(f"{HERE}:Stamped"))[0]
    envs = VectorEnv(config.env, 2, seed=0)
    seen = np.concatenate([envs.step(np.zeros(2, int)).obs[:, 2] for _ in range(200)])
    assert len(np.unique(seen)) > 390
    assert np.abs(seen).max() < 60
    changes = {"steps": 12_000, "explore.updates": 500, "evaluation.every": 500, "seed": 1}
    assert train(with_changes(config, changes), RunDir(tmp_path)).final.returns.mean() > 19


def test_small_numbers_have_no_offsets() -> None:
    assert find_offsets(EnvConfig("Pendulum-v1", discretize=3)) == ()
    with pytest.raises(EnvError, match=r"observes no number 'x\[0\]' to subtract an offset from; it has time\[0\]"):
        make_env(EnvConfig(f"{HERE}:Stamped", offsets=("x[0]=3",)))
    with pytest.raises(EnvError, match=r"written ENTRY\[INDEX\]=VALUE, not 'time'"):
        make_env(EnvConfig(f"{HERE}:Stamped", offsets=("time",)))


def test_channels_are_an_option_where_there_is_a_picture() -> None:
    board = f"{HERE}:board"
    assert spec_of(EnvConfig(board)).obs.shape == (20, 8, 9)
    assert spec_of(EnvConfig(board, channels="first")).obs.shape == (8, 9, 20)
    assert spec_of(EnvConfig(board, channels="flat")).obs.shape == (8 * 9 * 20,)
    assert "seen as 20 planes of 8 × 9: --channels first" in remarks(EnvConfig(board))[0]
    assert remarks(EnvConfig(board, channels="last")) == []
    with pytest.raises(EnvError, match="observes no picture with channels last"):
        make_env(EnvConfig("CartPole-v1", channels="last"))


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("PongNoFrameskip-v4", "ALE/Pong-v5"),
        ("MsPacman-v4", "ALE/MsPacman-v5"),
        ("BreakoutDeterministic-v4", "ALE/Breakout-v5"),
        ("Pong-ramNoFrameskip-v4", "ALE/Pong-v5"),
        ("Pong-ram-v0", "ALE/Pong-v5"),
        ("ALE/Pong-ram-v5", "ALE/Pong-v5"),
        ("ale_py:ALE/Pong-v5", "ALE/Pong-v5"),
        ("ale_py:PongNoFrameskip-v4", "ALE/Pong-v5"),
    ],
)
def test_old_names_of_atari_games_are_led_to_the_new(name: str, new: str) -> None:
    with pytest.raises(EnvError, match=f"use {new} ") as caught:
        spec_of(EnvConfig(name))
    assert "\n" not in str(caught.value)


def test_other_names_are_not_ataris() -> None:
    for name in ("CartPole-v1", "ALE/Pong-v5", "MyGame-v4", "mine:Pong", "Taxi-v3"):
        assert advice(name) is None
