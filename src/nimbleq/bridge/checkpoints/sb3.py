"""A Stable-Baselines3 DQN → the layer graph.

What the policy computes is rebuilt from the shapes of its tensors and from the readable settings; nothing in the file
is unpickled or executed. The statistics of a VecNormalize wrapper are not in the zip (SB3 saves them apart, and they
are read from there): a model trained behind one expects observations that were normalised before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.bridge.checkpoints import sb3_settings
from nimbleq.bridge.checkpoints.archive import read_archive
from nimbleq.bridge.checkpoints.sb3_settings import Observation
from nimbleq.bridge.checkpoints.vecnormalize import read_vecnormalize, with_normalisation
from nimbleq.errors import FileError, GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.types import Array, ObsSpec

_NATURE = ((8, 4), (4, 2), (3, 1))
"""Kernel and stride of SB3's NatureCNN."""
_UNKNOWN_NORMALISATION = (
    "a Stable-Baselines3 zip does not say whether the model was trained behind VecNormalize: if it was, give what "
    "VecNormalize.save wrote as --vecnormalize FILE, or the policy acts on observations that it has never seen"
)
_LIKELY_NORMALISED = (
    "the model reads images clipped at 10, as VecNormalize gives them: give what VecNormalize.save wrote as "
    "--vecnormalize FILE, or the policy acts on observations that it has never seen"
)
_NO_REWARDS = "the rewards of training were normalised, too; acting needs no rewards, so this is left out"
_NOT_NORMALISED = "the VecNormalize was set not to normalise observations (norm_obs=False)"
_ONE_HOT = "an index is given one-hot, as a vector of zeros and one 1"

Layer = tuple[Array, Array]
"""Weight and bias."""


@dataclass(frozen=True)
class Imported:
    """An imported policy as a graph.

    Attributes:
        graph: outputs ``q`` and ``action``, preprocessing included.
        obs: the graph's input: uint8 images with channels first, anything else as a flat float32 vector.
        actions: number of actions.
        info: plain values for a run's config: ``sb3_version``, ``policy``, ``hidden``, ``activation``, ``observation``,
            ``training`` (SB3's own names), ``notes`` and ``warnings`` for the user. The environment's id is not in
            the file.
    """

    graph: Graph
    obs: ObsSpec
    actions: int
    info: dict[str, Any]


def import_sb3(path: Path, vecnormalize: Path | None = None) -> Imported:
    """Read what ``DQN.save`` wrote, with MlpPolicy or CnnPolicy.

    Args:
        path: the zip.
        vecnormalize: what ``VecNormalize.save`` wrote, whose statistics become the graph's first layers.

    Raises:
        FileError: a file is missing, not SB3's, not a DQN, truncated, damaged, or built with code that is not in it;
            the pickle would run something; its statistics are of other observations.
        UnsupportedOpError: an activation that the layer graph does not have.
    """
    archive = read_archive(path)
    heads = sorted({name.split(".")[0] for name in archive.tensors})
    if not any(name.startswith("q_net.q_net.") for name in archive.tensors):
        found = f"its parts are {', '.join(heads)}" if heads else "it holds no tensors"
        raise FileError(f"{path} is not a DQN of Stable-Baselines3: the policy has no q_net ({found})")
    settings = archive.settings
    space = sb3_settings.observation(settings, path)
    sb3_settings.check_policy(settings, path)
    actions = sb3_settings.action_count(settings, path)
    between = sb3_settings.activation(settings, path)
    convolutions, hidden, head = _layers(archive.tensors, path)
    if head[-1][0].shape[0] != actions:
        raise FileError(f"{path}: the last layer has {head[-1][0].shape[0]} outputs for {actions} actions")
    divide = space.kind == "image" and sb3_settings.normalizes_images(settings, path)
    obs = _obs_spec(space, bool(convolutions))
    try:
        graph = _graph(obs, divide, convolutions, hidden, head, between)
    except GraphError as error:
        raise FileError(f"{path}: the layers do not fit each other or the observations: {error}") from error
    notes, warnings = [_ONE_HOT] if space.kind == "one_hot" else [], []
    if vecnormalize is None:
        warnings = [] if space.kind in ("image", "one_hot") else [_UNKNOWN_NORMALISATION]
        warnings = [_LIKELY_NORMALISED] if space.is_clipped_image else warnings
    else:
        normalisation = read_vecnormalize(vecnormalize)
        graph = with_normalisation(graph, normalisation, vecnormalize)
        notes += [_NO_REWARDS] if normalisation.rewards else []
        notes += [_NOT_NORMALISED] if normalisation.mean is None else []
    info = {
        "sb3_version": archive.version,
        "policy": "CnnPolicy" if convolutions else "MlpPolicy",
        "hidden": [weight.shape[0] for weight, _ in (*hidden, *head[:-1])],
        "activation": "none" if between is None else between.function,
        "observation": {"kind": space.kind, "shape": list(space.shape), "divided_by_255": divide},
        "training": sb3_settings.training(settings),
        "vecnormalize": vecnormalize is not None,
        "notes": notes,
        "warnings": warnings,
    }
    return Imported(graph, obs, actions, info)


def _obs_spec(space: Observation, convolutional: bool) -> ObsSpec:
    if convolutional or space.kind == "image":
        return ObsSpec(space.shape, "uint8" if space.dtype == "uint8" else "float32")
    return ObsSpec((space.size,))


def _layers(tensors: Mapping[str, Array], path: Path) -> tuple[list[Layer], list[Layer], list[Layer]]:
    """Convolutions, the features' linear layer (each empty for an MlpPolicy), and the head's linear layers."""
    online = {name: array for name, array in tensors.items() if name.startswith("q_net.")}
    if any(name.startswith("q_net.features_extractor.extractors.") for name in online):
        raise FileError(f"{path} has a MultiInputPolicy: Dict observations are not supported, only one array")
    groups = [
        _sequential(online, prefix, path)
        for prefix in ("q_net.features_extractor.cnn.", "q_net.features_extractor.linear.", "q_net.q_net.")
    ]
    used = 2 * sum(len(group) for group in groups)
    convolutions, features, head = groups
    kernels = [weight.shape[2:] for weight, _ in convolutions]
    nature = kernels == [(kernel, kernel) for kernel, _ in _NATURE] and len(features) == 1
    if used != len(online) or not head or not (nature or not (convolutions or features)):
        raise FileError(f"{path} has its own features extractor or layers, whose code is not in the file")
    return convolutions, features, head


def _sequential(tensors: Mapping[str, Array], prefix: str, path: Path) -> list[Layer]:
    """Weight and bias of the layers of an ``nn.Sequential`` that alternates with activations."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.weight")
    found = sorted(int(match.group(1)) for match in map(pattern.fullmatch, tensors) if match)
    if found != list(range(0, 2 * len(found), 2)):
        raise FileError(f"{path}: the layers {prefix}* are numbered {found}, expected 0, 2, 4 …: not SB3's own network")
    layers = []
    for index in found:
        weight, bias = tensors[f"{prefix}{index}.weight"], tensors.get(f"{prefix}{index}.bias")
        if bias is None or weight.ndim not in (2, 4) or bias.shape != weight.shape[:1]:
            raise FileError(f"{path}: {prefix}{index} is not a layer with weight and bias that fit")
        layers.append((weight, bias))
    return layers


def _graph(
    obs: ObsSpec,
    divide: bool,
    convolutions: list[Layer],
    features: list[Layer],
    head: list[Layer],
    between: ops.Activation | None,
) -> Graph:
    nodes: list[Node] = []
    weights: dict[str, Array] = {}

    def add(op: ops.Op | None, name: str) -> None:
        if op is not None:
            nodes.append(Node(op, (nodes[-1].output if nodes else "obs",), name))

    def store(name: str, layer: Layer) -> tuple[str, str]:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = layer
        return f"{name}.weight", f"{name}.bias"

    relu = ops.Activation("relu")
    if obs.dtype == "uint8":
        weights["obs.scale"] = np.array(1 / 255 if divide else 1, np.float32)
        weights["obs.shift"] = np.zeros((), np.float32)
        add(ops.Affine("obs.scale", "obs.shift"), "pixels")
    for index, (layer, (_, stride)) in enumerate(zip(convolutions, _NATURE, strict=False)):
        add(ops.Conv2d(*store(f"conv{index}", layer), stride=(stride, stride)), f"conv{index}")
        add(relu, f"conv{index}.relu")
    if len(obs.shape) > 1:
        add(ops.Flatten(), "flat")
    for layer in features:
        add(ops.Linear(*store("features", layer)), "features")
        add(relu, "features.relu")
    for index, layer in enumerate(head[:-1]):
        add(ops.Linear(*store(f"linear{index}", layer)), f"linear{index}")
        add(between, f"linear{index}.{between.function}" if between is not None else "")
    add(ops.Linear(*store("head", head[-1])), Q)
    add(ops.ArgMax(), ACTION)
    kind = TensorType(obs.shape, UINT8 if obs.dtype == "uint8" else FLOAT32)
    return Graph({"obs": kind}, tuple(nodes), (Q, ACTION), weights)
