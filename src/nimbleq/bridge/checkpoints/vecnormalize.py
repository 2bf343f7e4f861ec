"""The statistics of a Stable-Baselines3 VecNormalize, read without unpickling, as the first layers of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.bridge.checkpoints.pickle_values import Record, attribute
from nimbleq.bridge.checkpoints.unpickle import read_pickle
from nimbleq.errors import FileError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import FLOAT32
from nimbleq.types import Array

_CLASS = "stable_baselines3.common.vec_env.vec_normalize.VecNormalize"


@dataclass(frozen=True)
class Normalisation:
    """``clip((obs − mean)/√(var + epsilon), ±clip)``.

    Attributes:
        mean, var: ``float64[*O]``, as the environment gives observations; None where they are not normalised.
        epsilon, clip: see above.
        rewards: whether rewards were normalised too, which a trained policy does not need.
    """

    mean: Array | None
    var: Array | None
    epsilon: float
    clip: float
    rewards: bool


def read_vecnormalize(path: Path) -> Normalisation:
    """What ``VecNormalize.save`` wrote.

    Raises:
        FileError: missing, damaged, not a VecNormalize, of a Dict, or a pickle that would run something.
    """
    content = read_pickle(path)
    if not isinstance(content, Record) or str(content.name) != _CLASS:
        found = str(content.name) if isinstance(content, Record) else f"a {type(content).__name__}"
        raise FileError(f"{path} holds {found}, not the VecNormalize that VecNormalize.save writes")
    rewards = bool(content.state.get("norm_reward", False))
    epsilon, clip = (_positive(content, name, path) for name in ("epsilon", "clip_obs"))
    if not content.state.get("norm_obs", True):
        return Normalisation(None, None, epsilon, clip, rewards)
    statistics = content.state.get("obs_rms")
    if isinstance(statistics, dict):
        raise FileError(f"{path} normalises Dict observations, which cannot be imported: only one array")
    if not isinstance(statistics, Record):
        raise FileError(f"{path}: its VecNormalize has no statistics (obs_rms)")
    mean, var = (_numbers(statistics, name, path) for name in ("mean", "var"))
    if mean.shape != var.shape or np.any(var < 0):
        raise FileError(f"{path}: mean {mean.shape} and variance {var.shape} do not fit each other, or it is negative")
    return Normalisation(mean, var, epsilon, clip, rewards)


def with_normalisation(graph: Graph, normalisation: Normalisation, path: Path) -> Graph:
    """``graph`` with the observation normalised first, as VecNormalize does.

    Raises:
        FileError: the statistics are of other observations.
    """
    if normalisation.mean is None or normalisation.var is None:
        return graph
    obs, kind = graph.obs_name, graph.obs_type
    mean, var = (_first_channels(array, kind.shape) for array in (normalisation.mean, normalisation.var))
    if mean.shape != kind.shape or kind.qtype != FLOAT32:
        raise FileError(
            f"{path} has statistics of {normalisation.mean.shape}, but the model reads {kind}: "
            "give the file that was saved with this model"
        )
    # The difference first, so that a large mean does not cost digits.
    weights = {
        **graph.weights,
        "normalise.one": np.ones((), np.float32),
        "normalise.zero": np.zeros((), np.float32),
        "normalise.minus_mean": (-mean).astype(np.float32),
        "normalise.inverse_std": (1 / np.sqrt(var + normalisation.epsilon)).astype(np.float32),
    }
    clip = ops.Activation("clip", low=-normalisation.clip, high=normalisation.clip)
    first = [
        Node(ops.Affine("normalise.one", "normalise.minus_mean"), (obs,), "normalise.centred"),
        Node(ops.Affine("normalise.inverse_std", "normalise.zero"), ("normalise.centred",), "normalise.scaled"),
        Node(clip, ("normalise.scaled",), "normalise.clipped"),
    ]
    rest = [
        replace(node, inputs=tuple("normalise.clipped" if name == obs else name for name in node.inputs))
        for node in graph.nodes
    ]
    return Graph(graph.inputs, (*first, *rest), graph.outputs, weights)


def _first_channels(array: Array, shape: tuple[int, ...]) -> Array:
    """Statistics of images with channels last, as the model reads them."""
    last = array.ndim == 3 and array.shape != shape and (array.shape[2], *array.shape[:2]) == shape
    return array.transpose(2, 0, 1) if last else array.reshape(shape) if array.size == np.prod(shape) else array


def _positive(record: Record, name: str, path: Path) -> float:
    value: Any = record.state.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < float(value) < np.inf:
        raise FileError(f"{path}: its VecNormalize has no positive number for {name}")
    return float(value)


def _numbers(record: Record, name: str, path: Path) -> Array:
    try:
        value = np.asarray(attribute(record, name), np.float64)
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(f"{path}: the statistics have no {name}") from error
    if not np.isfinite(value).all():
        raise FileError(f"{path}: the {name} of the observations holds NaN or infinity")
    return value
