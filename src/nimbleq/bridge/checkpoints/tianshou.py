"""Policies of Tianshou → the layer graph: what ``torch.save(policy.state_dict())`` wrote, or an algorithm's.

The networks are ``tianshou.utils.net.common.Net`` (dueling or not) and those of its Atari examples, of DQN, C51,
QRDQN and Rainbow. Activations are not in the file; Tianshou's default is ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nimbleq.bridge.checkpoints.archive import read_tensors
from nimbleq.bridge.checkpoints.imported import Imported
from nimbleq.bridge.checkpoints.stack import Layer, Stack, Tensors, dueling, dueling_logits, mean_of
from nimbleq.errors import FileError, GraphError
from nimbleq.types import Array, ObsSpec

_PIXELS = 255.0
_SCALED = "module."
"""Begins the network's names inside ``ScaledObsInputActionReprNet``, which divides pixels by 255."""
_RELU = "Tianshou does not save which activation lies between the layers: taken as ReLU, its default"
_NOT_DIVIDED = (
    "the file does not say whether pixels are divided before the network: taken as they are; give --divide 255 if "
    "the training scaled observations"
)


def import_tianshou(path: Path, given: ObsSpec, actions: int, divide: float | None = None) -> Imported:
    """Read a state dict of a policy or of an algorithm with one.

    Args:
        path: the file.
        given: what the environment gives the network.
        actions: how many it has.
        divide: what bytes of pixels are divided by; None: by 255 if the file says so, else not.

    Raises:
        FileError: missing, damaged, holds more than tensors, or its network is none of Tianshou's own.
    """
    content = read_tensors(path)
    prefix = next((start for start in ("policy.model.", "model.") if _any(content.tensors, start)), None)
    if prefix is None:
        raise FileError(
            f"{path} is not a policy of Tianshou with action values: no tensor is called model.*; its tensors "
            f"are {', '.join(list(content.tensors)[:4]) or 'none'}"
        )
    support = content.tensors.get(prefix.removesuffix("model.") + "support")
    scaled = _any(content.tensors, prefix + _SCALED)
    prefix += _SCALED if scaled else ""
    own = {name.removeprefix(prefix): array for name, array in content.tensors.items() if name.startswith(prefix)}
    tensors = Tensors(own, path)
    trunk = _trunk(tensors)
    pictures = bool(trunk) and trunk[0].is_conv
    if not trunk or (pictures and len(given.shape) != 3):
        raise FileError(f"{path} does not read observations {given.dtype} {given.shape}: wrong --env?")
    flat = ObsSpec((trunk[0].weight.shape[1],))
    obs = given if pictures or len(given.shape) == 3 else flat
    divisor = (_PIXELS if scaled else 1.0) if divide is None else divide
    stack = Stack(obs, divisor)
    try:
        graph = stack.finish(_values(stack, tensors, trunk, support, actions))
    except GraphError as error:
        raise FileError(f"{path}: the layers do not fit each other or the observations: {error}") from error
    tensors.check_all_read()
    unsaid = pictures and not scaled and divide is None
    info = {
        "divided_by": divisor,
        "distribution": "histogram" if support is not None else "none",
        "notes": [_RELU, *([_NOT_DIVIDED] if unsaid else [])],
        "warnings": [],
    }
    return Imported(graph, obs, graph.actions, info)


def _any(tensors: Mapping[str, Array], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)


def _trunk(tensors: Tensors) -> list[Layer]:
    """The layers before the heads, or all of them."""
    if tensors.has("net.0.0."):  # an Atari network: convolutions in a Sequential of their own
        convolutions = [replace(layer, active=True) for layer in tensors.sequential("net.0.")]
        return [*convolutions, *_numbered(tensors, "net.")]
    if tensors.has("net."):
        return tensors.sequential("net.")
    return tensors.sequential("model.model.")


def _numbered(tensors: Tensors, prefix: str) -> list[Layer]:
    """The linear layers 1 and 3 behind an Atari network's convolutions."""
    return [tensors.layer(f"{prefix}{number}") for number in (1, 3) if tensors.has(f"{prefix}{number}.")]


def _values(stack: Stack, tensors: Tensors, trunk: list[Layer], support: Array | None, actions: int) -> str:
    """The tensor of the action values."""
    value, advantage = (tensors.sequential(f"{name}.model.") or tensors.sequential(f"{name}.") for name in "VQ")
    if not advantage:
        trunk, advantage = trunk[:-1], trunk[-1:]
    source = stack.layers(stack.start, trunk, "trunk", last=True)
    if support is not None:
        atoms = len(support)
        if value:
            return stack.expectation(dueling_logits(stack, source, value, advantage, atoms), support)
        return stack.expectation(stack.layers(source, advantage, "head"), support)
    outputs = advantage[-1].weight.shape[0]
    if outputs % actions:
        raise GraphError(f"{outputs} outputs for {actions} actions")
    quantiles = outputs // actions
    value, advantage = (
        [*head[:-1], mean_of(head[-1], quantiles, first=False)] if head else [] for head in (value, advantage)
    )
    return dueling(stack, source, value, advantage) if value else stack.layers(source, advantage, "head")
