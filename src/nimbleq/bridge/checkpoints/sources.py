"""Where policies come from ★: a reader of each library's files, and a line in `SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nimbleq.bridge.checkpoints.imported import Asked, Imported


@dataclass(frozen=True)
class Source:
    """One library.

    Attributes:
        files: what of it can be read, in one phrase.
        read: the file → a policy. Raises `FileError` and `UnsupportedOpError`.
        normalised: whether it keeps statistics of observations in a file of their own.
    """

    files: str
    read: Callable[[Asked], Imported]
    normalised: bool = False


def _sb3(asked: Asked) -> Imported:
    from nimbleq.bridge.checkpoints.sb3 import import_sb3

    return import_sb3(asked.path, asked.vecnormalize, asked.divide)


def _cleanrl(asked: Asked) -> Imported:
    from nimbleq.bridge.checkpoints.cleanrl import import_cleanrl

    return import_cleanrl(asked.path, asked.obs, asked.divide)


def _tianshou(asked: Asked) -> Imported:
    from nimbleq.bridge.checkpoints.tianshou import import_tianshou

    return import_tianshou(asked.path, asked.obs, asked.actions, asked.divide)


def _onnx(asked: Asked) -> Imported:
    from nimbleq.bridge.checkpoints.onnx_model import import_onnx

    return import_onnx(asked.path, asked.obs, asked.divide)


SOURCES: Mapping[str, Source] = {
    "sb3": Source("the zip that Stable-Baselines3's DQN, QRDQN, PPO or A2C saves", _sb3, normalised=True),
    "cleanrl": Source("NAME.cleanrl_model of CleanRL's DQN, C51, Rainbow, PQN and PPO (Atari) scripts", _cleanrl),
    "onnx": Source("a model with one input and a value or logit for each action", _onnx),
    "tianshou": Source("the state_dict of a Tianshou DQN, C51, QRDQN or Rainbow policy", _tianshou),
}
"""``--from`` → where the file comes from."""
