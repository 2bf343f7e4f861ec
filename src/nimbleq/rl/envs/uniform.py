"""One environment with everything that its author's code may do wrong turned into one line."""

from __future__ import annotations

import math
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nimbleq.errors import EnvError, ObservationError
from nimbleq.graph.interface import MASKS, Interface, environment_action, mask_of
from nimbleq.graph.reading import as_array, described
from nimbleq.types import Array

_OURS = (Path(__file__).parents[2], Path(gymnasium.__file__).parent)
_IN_INFO = frozenset(where.partition(":")[2] for where in MASKS if where.startswith("info:"))
_STEP = "step must return five values: observation, reward, terminated, truncated, info (Gymnasium's API, not gym's)"
_RESET = "reset must return two values: observation, info (a dict)"


class UniformEnv(gymnasium.Wrapper):  # type: ignore[misc]  # (gymnasium is untyped here)
    """Observes what ``interface`` makes of the environment's observations and takes actions 0 … A−1.

    Attributes:
        name: for messages.
        interface: what the environment gives and takes.
        raw: the last observation as the environment gave it.
        mask: ``bool[A]`` the actions that are legal now; None without masks, and where an episode's end brings none.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str, interface: Interface) -> None:
        super().__init__(env)
        self.name, self.interface = name, interface
        self.mask: Array | None = None
        self.raw: Any = None
        obs = interface.obs
        limits = (0, 255, obs.shape, np.uint8) if obs.dtype == "uint8" else (-np.inf, np.inf, obs.shape, np.float32)
        self.observation_space = spaces.Box(*limits)
        self.actions = interface.actions
        self.action_space = spaces.Discrete(interface.choices)
        self._direct = not interface.action_shape  # numbers, for which a call would take longer than the sum
        self._start = interface.action_start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Gymnasium's ``reset``.

        Raises:
            EnvError: it failed, or returned something else than its spaces promise.
        """
        raw, info = reset(self.env, self.name, seed, options)
        return self._uniform(raw, info, over=False), info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Gymnasium's ``step``.

        Raises:
            EnvError: it failed, or returned something else than its spaces promise.
        """
        command = action + self._start if self._direct else environment_action(self.interface, int(action))
        raw, reward, terminated, truncated, info = step(self.env, self.name, command)
        return self._uniform(raw, info, over=terminated or truncated), reward, terminated, truncated, info

    def render(self) -> Any:
        """Gymnasium's ``render``; raises `EnvError` when it fails."""
        return guarded(self.name, "render", self.env.render)

    def close(self) -> None:
        """Gymnasium's ``close``; raises `EnvError` when it fails."""
        guarded(self.name, "close", self.env.close)

    def _uniform(self, raw: Any, info: dict[str, Any], over: bool) -> Array:
        interface, self.raw = self.interface, raw
        try:
            if interface.mask is not None:
                self.mask = self._mask(raw, info, over)
            elif not _IN_INFO.isdisjoint(info):
                name = next(iter(_IN_INFO & info.keys()))
                raise EnvError(
                    f"{self.name} gives info[{name!r}] now, but gave none after its first reset: it must say which "
                    "actions are legal from reset on, or never"
                )
            return interface.read(raw)
        except ObservationError as error:
            raise EnvError(f"{self.name} returned something else than its spaces promise: {error}") from None
        except (Exception, SystemExit) as error:  # of the environment's own mapping, array or tensor
            raise error if isinstance(error, EnvError) else failure(self.name, "its observation", error) from error

    def _mask(self, raw: Any, info: dict[str, Any], over: bool) -> Array | None:
        place, _, method = (self.interface.mask or "").partition(":")
        try:
            if place == "method":
                answer = guarded(self.name, method, self.env.get_wrapper_attr(method))
                return mask_of(self.interface, raw, info, _Answers(method, answer))
            return mask_of(self.interface, raw, info)
        except (ObservationError, EnvError):
            if over:  # nothing is chosen any more
                return None
            raise


class _Answers:
    """Stands for the environment: its method ``name`` has been called."""

    def __init__(self, name: str, answer: Any) -> None:
        setattr(self, name, lambda: answer)


def reset(
    env: gymnasium.Env[Any, Any], name: str, seed: int | None, options: dict[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """What ``env.reset`` gives, unpacked and checked."""
    answer = guarded(name, "reset", lambda: env.reset(seed=seed, options=options))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise EnvError(f"{name}: {_RESET}, not {_returned(answer)}")
    if not isinstance(answer[1], dict):
        raise EnvError(f"{name}: {_RESET}; its info is {described(answer[1])}")
    return answer


def step(env: gymnasium.Env[Any, Any], name: str, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """What ``env.step`` gives, unpacked and checked."""
    try:
        answer = env.step(action)
    except (Exception, SystemExit) as error:
        raise failure(name, "step", error) from error
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise EnvError(f"{name}: {_STEP}, not {_returned(answer)}")
    raw, reward, terminated, truncated, info = answer
    if type(reward) is not float:
        reward = _number(name, reward)
    if type(terminated) is not bool:
        terminated = _truth(name, "terminated", terminated)
    if type(truncated) is not bool:
        truncated = _truth(name, "truncated", truncated)
    if not isinstance(info, dict):
        raise EnvError(f"{name}: {_STEP}; its info is {described(info)}")
    return raw, reward, terminated, truncated, info


def _number(name: str, reward: Any) -> float:
    if isinstance(reward, int | float | np.integer | np.floating):
        try:
            return float(reward)
        except OverflowError:  # of a Python integer; infinity is told below
            return math.inf
    try:
        array = as_array(reward)
    except ObservationError:
        array = np.empty(0)
    if array.size != 1:
        raise EnvError(f"{name} returned {described(reward)} as its reward: it must be one number")
    return float(array.item())


def _truth(name: str, what: str, value: Any) -> bool:
    if isinstance(value, np.bool_):
        return bool(value)
    try:
        array = as_array(value)
    except ObservationError:
        array = np.empty(0)
    if array.size != 1 or array.item() not in (0, 1):
        raise EnvError(f"{name} returned {described(value)} as {what}: it must be True or False")
    return bool(array.item())


def _returned(answer: Any) -> str:
    return f"{len(answer)} values" if isinstance(answer, tuple) else described(answer)


def guarded(name: str, doing: str, call: Callable[[], Any]) -> Any:
    """``call()``, code of the environment ``name``.

    Raises:
        EnvError: it raised anything.
    """
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise failure(name, doing, error) from error


def failure(name: str, doing: str, error: BaseException) -> EnvError:
    """What an environment's own code raised, in one line that says where in it and, where that is known, what to do."""
    said = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(Path(frame.filename).is_relative_to(folder) for folder in _OURS)]
    if not own and "unpack" in said:  # a wrapper of Gymnasium took the answer apart
        return EnvError(f"{name}: {_STEP if doing == 'step' else _RESET} ({said})")
    if not own and isinstance(error, TypeError) and "argument" in said:
        wanted = {"reset": "def reset(self, *, seed=None, options=None)", "step": "def step(self, action)"}.get(doing)
        if wanted is not None:
            return EnvError(f"{name} cannot be called as Gymnasium does: {said}; write {wanted}")
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    frame = (own or list(frames))[-1]
    return EnvError(f"{name} failed in {doing}: {what} ({Path(frame.filename).name}, line {frame.lineno})")


@contextmanager
def quiet() -> Iterator[None]:
    """Gymnasium and the libraries behind it warn about their own matters; people read what nimbleq says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
