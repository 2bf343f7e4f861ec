"""Screens → stacked pictures: pixel for pixel as ALE's vector environment and OpenCV make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nimbleq.errors import ObservationError
from nimbleq.graph.frames import Frames, FrameStack, axis, grey, resized

RNG = np.random.default_rng(0)


def test_whole_shares_add_up_and_are_those_of_the_areas() -> None:
    for size, out in ((210, 84), (160, 84), (214, 84), (250, 84), (84, 84), (168, 84), (97, 31)):
        made = axis(size, out)
        assert (made.parts.sum(axis=1) == made.total).all()
        assert (made.parts.shape[1] - 1) * out <= 2 * size + out
        np.testing.assert_allclose(made.floats.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(made.floats, made.parts / made.total, atol=1e-6)


def test_a_constant_stays_and_halves_are_averaged() -> None:
    np.testing.assert_array_equal(resized(np.full((210, 160), 77, np.uint8), 84, 84), 77)
    pair = np.array([[10, 20], [30, 40]], np.uint8)
    np.testing.assert_array_equal(resized(pair.repeat(2, 0).repeat(2, 1), 2, 2), pair)
    assert resized(pair, 1, 1) == 25


@pytest.mark.parametrize("height", [210, 214, 250])
def test_pixels_are_those_of_opencv(height: int) -> None:
    cv2 = pytest.importorskip("cv2")
    for _ in range(20):
        # Few levels and large blocks, as on a console: many sums are ties.
        screen = RNG.choice(np.array([0, 64, 95, 142, 200], np.uint8), (height // 2, 80)).repeat(2, 0).repeat(2, 1)
        screen[RNG.integers(height)] = RNG.integers(0, 256, 160)
        want = cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(resized(screen, 84, 84), want)


@pytest.mark.parametrize("game", ["breakout", "ms_pacman"])
@pytest.mark.parametrize("colours", [1, 3])
def test_the_stack_is_that_of_ale(game: str, colours: int) -> None:
    ale_py = pytest.importorskip("ale_py")
    from ale_py.vector_env import AtariVectorEnv

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    vector = AtariVectorEnv(
        game, 1, noop_max=0, repeat_action_probability=0.0, reward_clipping=False, use_fire_reset=False
    )
    seen, _ = vector.reset(seed=np.array([5]))
    console: Any = ale_py.ALEInterface()
    console.setInt("random_seed", 5)
    console.setFloat("repeat_action_probability", 0.0)
    console.loadROM(ale_py.roms.get_rom_path(game))
    console.reset_game()
    screen = console.getScreenRGB if colours == 3 else console.getScreenGrayscale
    actions = console.getMinimalActionSet()
    frames = Frames(*screen().shape[:2], colours)
    stack = FrameStack(frames, (4, 84, 84))
    np.testing.assert_array_equal(stack.reset(screen()), seen[0])
    for _ in range(25):
        action = int(RNG.integers(len(actions)))
        screens = []
        for _ in range(frames.skip):
            console.act(actions[action])
            screens.append(screen().copy())
        seen, _, ended, _, _ = vector.step(np.array([action]))
        if ended[0]:
            break
        np.testing.assert_array_equal(stack.push(*screens[-2:]), seen[0])


def test_greys_are_rounded_and_kept() -> None:
    assert grey(np.array([[[255, 255, 255]]], np.uint8)) == 255
    assert grey(np.array([[[100, 0, 0]]], np.uint8)) == 30
    assert grey(np.array([[7]], np.uint8)) == 7


def test_another_screen_is_refused() -> None:
    stack = FrameStack(Frames(), (4, 84, 84))
    for wrong in (np.zeros((210, 160), np.uint8), np.zeros((210, 160, 3)), np.zeros((160, 210, 3), np.uint8)):
        with pytest.raises(ObservationError, match="the policy reads"):
            stack.reset(wrong)
