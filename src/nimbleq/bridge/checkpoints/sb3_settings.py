"""Reads observations, activation and training from the plain JSON in an SB3 zip's ``data``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from nimbleq.errors import FileError, UnsupportedOpError
from nimbleq.graph import ops

_ACTIVATIONS: Mapping[str, ops.Activation | ops.Tanh | None] = {
    "ReLU": ops.Activation("relu"),
    "LeakyReLU": ops.Activation("leaky_relu", slope=0.01),
    "ReLU6": ops.Activation("clip", low=0.0, high=6.0),
    "Hardtanh": ops.Activation("clip", low=-1.0, high=1.0),
    "Tanh": ops.Tanh(),
    "Identity": None,
}
"""As SB3 makes them: ``activation_fn()``, without arguments."""
_TRAINING = (
    "num_timesteps", "n_envs", "seed", "gamma", "learning_rate", "batch_size", "buffer_size", "learning_starts", "tau",
    "n_steps", "gradient_steps", "target_update_interval", "max_grad_norm", "exploration_initial_eps",
    "exploration_final_eps", "exploration_fraction",
)  # fmt: skip


@dataclass(frozen=True)
class Observation:
    """The input of SB3's policy.

    Attributes:
        kind: ``box`` numbers, ``image`` numbers that SB3 divides by 255 (by default), ``one_hot`` an index.
        shape: of the space; channels first for images, as SB3 transposes them.
        dtype: numpy name.
        is_clipped_image: float numbers within ±10, which is how VecNormalize describes the images that it gives.
    """

    kind: Literal["box", "image", "one_hot"]
    shape: tuple[int, ...]
    dtype: str
    is_clipped_image: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


def policy_module(settings: Mapping[str, Any]) -> str:
    """The module of the policy's class; empty where the file does not say."""
    policy = settings.get("policy_class")
    module = policy.get("__module__") if isinstance(policy, dict) else None
    return module if isinstance(module, str) else ""


def check_extractor(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse policies whose features are not computed by SB3's own code: it is not in the file.

    Raises:
        FileError: a custom features extractor.
    """
    extractor = _policy_kwargs(settings, path).get("features_extractor_class")
    if extractor is not None and _class_name(extractor, "stable_baselines3.common.torch_layers") not in (
        "FlattenExtractor",
        "NatureCNN",
    ):
        raise FileError(f"{path} has its own features extractor ({extractor}), whose code is not in the file")


def observation(settings: Mapping[str, Any], path: Path) -> Observation:
    """The observation space.

    SB3 takes a three-dimensional uint8 box as an image when all bounds are 0 and 255; the file shows the bounds of
    large images abbreviated, so the bounds that it shows decide.

    Raises:
        FileError: it is not described, or its kind is not supported.
    """
    space = _space(settings, "observation_space", path)
    name = _type_name(space)
    if name == "Dict":
        raise FileError(f"{path} has a MultiInputPolicy: Dict observations are not supported, only one array")
    if name == "Discrete":
        _check_start(space, "observations", path)
        return Observation("one_hot", (_integer(space.get("n"), "observation_space", path),), "float32")
    if name not in ("Box", "MultiBinary"):
        raise FileError(
            f"{path}: {name or 'unknown'} observations are not supported; Box, MultiBinary and Discrete are"
        )
    extents = space.get("_shape")
    if not isinstance(extents, list) or not extents:
        raise FileError(f"{path}: 'data' does not say the shape of the observations")
    shape = tuple(_integer(extent, "observation_space", path) for extent in extents)
    dtype = str(space.get("dtype"))
    bounds = _shown_values(space.get("low")), _shown_values(space.get("high"))
    is_image = len(shape) == 3 and dtype == "uint8" and bounds == ({0.0}, {255.0})
    is_clipped = len(shape) == 3 and dtype == "float32" and bounds == ({-10.0}, {10.0})
    return Observation("image" if is_image else "box", shape, dtype, is_clipped)


def action_count(settings: Mapping[str, Any], path: Path) -> int:
    """Number of actions.

    Raises:
        FileError: the action space is not Discrete from 0.
    """
    space = _space(settings, "action_space", path)
    if _type_name(space) != "Discrete":
        raise FileError(
            f"{path}: only Discrete actions can be imported, this file says {_type_name(space) or 'nothing'}"
        )
    _check_start(space, "actions", path)
    return _integer(space.get("n"), "action_space", path)


def activation(settings: Mapping[str, Any], path: Path, default: str) -> ops.Activation | ops.Tanh | None:
    """Between the fully connected layers; None for Identity.

    Args:
        default: the algorithm's, which stands where the file names none.

    Raises:
        UnsupportedOpError: the layer graph has no such activation.
        FileError: it is not one of torch's.
    """
    text = _policy_kwargs(settings, path).get("activation_fn")
    name = (
        default
        if text is None
        else _class_name(text, "torch.nn.modules.activation") or _class_name(text, "torch.nn.modules.linear")
    )
    if name is None:
        raise FileError(f"{path} has its own activation function ({text}), whose code is not in the file")
    if name not in _ACTIVATIONS:
        raise UnsupportedOpError(name, "the layer graph", f"train with one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def normalizes_images(settings: Mapping[str, Any], path: Path) -> bool:
    """Whether SB3 divides images by 255.

    Raises:
        FileError: the value is not true or false.
    """
    value = _policy_kwargs(settings, path).get("normalize_images", True)
    if not isinstance(value, bool):
        raise FileError(f"{path}: normalize_images is {value!r}, expected true or false")
    return value


def training(settings: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Numbers of the training, under SB3's names; schedules, which are code, are left out."""
    return {key: settings[key] for key in _TRAINING if isinstance(settings.get(key), int | float)}


def _policy_kwargs(settings: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    kwargs = settings.get("policy_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise FileError(f"{path}: 'policy_kwargs' is not an object: not a Stable-Baselines3 model, or damaged")
    return kwargs


def _space(settings: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    space = settings.get(key)
    if not isinstance(space, dict):
        raise FileError(f"{path}: 'data' has no {key!r}: not a Stable-Baselines3 model, or damaged")
    return space


def _type_name(space: Mapping[str, Any]) -> str:
    """``Box`` from ``<class 'gymnasium.spaces.box.Box'>``; empty for a custom subclass."""
    found = re.fullmatch(r"<class 'gym(?:nasium)?\.spaces\.\w+\.(\w+)'>", str(space.get(":type:")))
    return found.group(1) if found else ""


def _class_name(text: Any, module: str) -> str | None:
    found = re.fullmatch(rf"<class '{re.escape(module)}\.(\w+)'>", str(text))
    return found.group(1) if found else None


def _check_start(space: Mapping[str, Any], what: str, path: Path) -> None:
    if str(space.get("start", 0)) != "0":
        raise FileError(f"{path}: Discrete {what} that start at {space['start']} are not supported, only from 0")


def _integer(value: Any, where: str, path: Path) -> int:
    """A positive count; numpy integers were written as text."""
    if re.fullmatch(r"[1-9]\d{0,8}", str(value)):
        return int(value)
    raise FileError(f"{path}: {where!r} holds {value!r} where a positive number is expected")


def _shown_values(text: Any) -> set[float]:
    """The distinct numbers in numpy's text of an array."""
    return {float(number) for number in re.findall(r"(?<![\w.])-?\d+\.?\d*(?:e[+-]?\d+)?(?!\w)", str(text))}
