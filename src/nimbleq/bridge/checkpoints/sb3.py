"""A Stable-Baselines3 policy → the layer graph: DQN, QRDQN, and the actor of PPO, A2C and MaskablePPO.

What the policy computes is rebuilt from the shapes of its tensors and from the readable settings; nothing in the file
is unpickled or executed. The statistics of a VecNormalize wrapper are not in the zip (SB3 saves them apart, and they
are read from there): a model trained behind one expects observations that were normalised before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nimbleq.bridge.checkpoints import sb3_settings
from nimbleq.bridge.checkpoints.archive import read_archive
from nimbleq.bridge.checkpoints.imported import LOGITS, Imported
from nimbleq.bridge.checkpoints.sb3_settings import Observation
from nimbleq.bridge.checkpoints.stack import STRIDES, Layer, Stack, Tensors, mean_of, title
from nimbleq.bridge.checkpoints.vecnormalize import read_vecnormalize, with_normalisation
from nimbleq.errors import FileError, GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import ObsSpec

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
_LOGITS = (
    "the action values are logits of a policy: their differences are those of log-probabilities, in nats, not returns"
)


@dataclass(frozen=True)
class Algorithm:
    """How one algorithm names the parts of its policy.

    Attributes:
        name: in SB3.
        module: of its policy classes.
        features: begins the names of its features extractor.
        head: begins the names of the layers behind.
        last: the last layer, where it has a name of its own.
        other: begins the names of what acting does not need.
        activation: of the head's layers, if the file names none.
    """

    name: str
    module: str
    features: str
    head: str
    last: str = ""
    other: tuple[str, ...] = ()
    activation: str = "ReLU"


_ACTOR = Algorithm(
    "PPO or A2C", "stable_baselines3.common.policies", "features_extractor.", "mlp_extractor.policy_net.",
    last="action_net", activation="Tanh",
    other=("pi_features_extractor.", "vf_features_extractor.", "mlp_extractor.value_net.", "value_net."),
)  # fmt: skip
ALGORITHMS = (
    Algorithm("DQN", "stable_baselines3.dqn.policies", "q_net.features_extractor.", "q_net.q_net.",
              other=("q_net_target.",)),
    Algorithm("QRDQN", "sb3_contrib.qrdqn.policies", "quantile_net.features_extractor.", "quantile_net.quantile_net.",
              other=("quantile_net_target.",)),
    _ACTOR,
    replace(_ACTOR, name="MaskablePPO", module="sb3_contrib.common.maskable.policies"),
)  # fmt: skip


def import_sb3(path: Path, vecnormalize: Path | None = None, divide: float | None = None) -> Imported:
    """Read what ``DQN.save`` and the like wrote, with MlpPolicy or CnnPolicy.

    Args:
        path: the zip.
        vecnormalize: what ``VecNormalize.save`` wrote, whose statistics become the graph's first layers.
        divide: what bytes of pixels are divided by; None: as the file says.

    Raises:
        FileError: a file is missing, not SB3's, of another algorithm, truncated, damaged, or built with code that is
            not in it; the pickle would run something; its statistics are of other observations.
        UnsupportedOpError: an activation that the layer graph does not have.
    """
    archive = read_archive(path)
    tensors = Tensors(archive.tensors, path)
    module = sb3_settings.policy_module(archive.settings)
    algorithm = next((row for row in ALGORITHMS if row.module == module), None)
    if algorithm is None:
        known = ", ".join(row.name for row in ALGORITHMS)
        raise FileError(f"{path}: its policy class comes from {module or 'an unnamed module'}; {known} can be imported")
    settings = archive.settings
    space = sb3_settings.observation(settings, path)
    sb3_settings.check_extractor(settings, path)
    actions = sb3_settings.action_count(settings, path)
    convolutions, features, head = _layers(tensors, algorithm)
    hidden = [*features, *head[:-1]]
    between = sb3_settings.activation(settings, path, algorithm.activation) if len(head) > 1 else None
    head = _with_means(head, actions, algorithm, path)
    by_255 = space.kind == "image" and sb3_settings.normalizes_images(settings, path)
    divisor = (255.0 if by_255 else 1.0) if divide is None else divide
    obs = _obs_spec(space, bool(convolutions))
    try:
        graph = _graph(obs, divisor, convolutions, features, head, between)
    except GraphError as error:
        raise FileError(f"{path}: the layers do not fit each other or the observations: {error}") from error
    notes = [_ONE_HOT] if space.kind == "one_hot" else []
    notes += [_LOGITS] if algorithm.last else []
    graph, told, warnings = _normalised(graph, space, vecnormalize)
    info = {
        "sb3_version": archive.version,
        "algorithm": algorithm.name,
        "policy": "CnnPolicy" if convolutions else "MlpPolicy",
        "hidden": [layer.weight.shape[0] for layer in hidden],
        "activation": "none" if between is None else title(between),
        "observation": {"kind": space.kind, "shape": list(space.shape), "divided_by_255": divisor == 255},
        "training": sb3_settings.training(settings),
        "vecnormalize": vecnormalize is not None,
        **({"q_meaning": LOGITS} if algorithm.last else {}),
        "notes": notes + told,
        "warnings": warnings,
    }
    return Imported(graph, obs, actions, info)


def _normalised(graph: Graph, space: Observation, path: Path | None) -> tuple[Graph, list[str], list[str]]:
    """The graph behind the statistics in ``path``, and notes and warnings about them."""
    if path is None:
        if space.is_clipped_image:
            return graph, [], [_LIKELY_NORMALISED]
        return graph, [], [] if space.kind in ("image", "one_hot") else [_UNKNOWN_NORMALISATION]
    normalisation = read_vecnormalize(path)
    notes = [_NO_REWARDS] if normalisation.rewards else []
    notes += [_NOT_NORMALISED] if normalisation.mean is None else []
    return with_normalisation(graph, normalisation, path), notes, []


def _obs_spec(space: Observation, convolutional: bool) -> ObsSpec:
    if convolutional or space.kind == "image":
        return ObsSpec(space.shape, "uint8" if space.dtype == "uint8" else "float32")
    return ObsSpec((space.size,))


def _layers(tensors: Tensors, algorithm: Algorithm) -> tuple[list[Layer], list[Layer], list[Layer]]:
    """Convolutions, the features' linear layer (each empty for an MlpPolicy), and the head's linear layers."""
    path = tensors.path
    if not (tensors.has(algorithm.head) or (algorithm.last and tensors.has(algorithm.last))):
        parts = sorted({name.split(".")[0] for name in tensors.arrays})
        found = f"its parts are {', '.join(parts)}" if parts else "it holds no tensors"
        raise FileError(f"{path} is not a {algorithm.name} of Stable-Baselines3: no {algorithm.head}* ({found})")
    if tensors.has(f"{algorithm.features}extractors."):
        raise FileError(f"{path} has a MultiInputPolicy: Dict observations are not supported, only one array")
    convolutions, features, head = (
        tensors.sequential(prefix)
        for prefix in (f"{algorithm.features}cnn.", f"{algorithm.features}linear.", algorithm.head)
    )
    if algorithm.last:
        head = [*(replace(layer, active=True) for layer in head), tensors.layer(algorithm.last)]
    kernels = [layer.weight.shape[2:] for layer in convolutions]
    nature = kernels == [(kernel, kernel) for kernel in STRIDES] and len(features) == 1
    plain = all(layer.active for layer in (*convolutions[:-1], *head[:-1]))
    if not plain or not head or not (nature or not (convolutions or features)):
        raise FileError(f"{path} has its own features extractor or layers, whose code is not in the file")
    tensors.check_all_read(algorithm.other, "part of its own features extractor or layers")
    return convolutions, features, head


def _with_means(head: Sequence[Layer], actions: int, algorithm: Algorithm, path: Path) -> list[Layer]:
    """The head with an output for each action: of quantiles their mean."""
    outputs = head[-1].weight.shape[0]
    if algorithm.name == "QRDQN" and outputs % actions == 0:
        return [*head[:-1], mean_of(head[-1], outputs // actions, first=True)]
    if outputs != actions:
        raise FileError(f"{path}: the last layer has {outputs} outputs for {actions} actions")
    return list(head)


def _graph(
    obs: ObsSpec,
    divide: float,
    convolutions: list[Layer],
    features: list[Layer],
    head: list[Layer],
    between: ops.Activation | ops.Tanh | None,
) -> Graph:
    stack = Stack(obs, divide)
    last = stack.layers(stack.start, convolutions, "conv", last=True)
    last = stack.layers(last, features, "features", last=True)
    return stack.finish(stack.layers(last, head, "linear", between))
