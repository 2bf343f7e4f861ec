"""Models of CleanRL's scripts → the layer graph.

A script saves the tensors of its network, alone or beside its arguments; the network itself is in the script. The
scripts with a table row here name their parts differently, so the names say which one it is. All of them put a ReLU
after each layer but the last and divide pixels by 255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nimbleq.bridge.checkpoints.archive import read_tensors
from nimbleq.bridge.checkpoints.imported import LOGITS, Imported
from nimbleq.bridge.checkpoints.stack import Stack, Tensors, dueling_logits
from nimbleq.errors import FileError, GraphError
from nimbleq.types import ObsSpec

_PIXELS = 255.0
_RESIZED_FIRST = (
    "CleanRL's gymnasium scripts for Atari resize frames in colour and make them grey afterwards; ALE's vector makes "
    "them grey first, so pixels differ by a few levels: to play on the frames of its training, give --env a function "
    "that wraps the game as the script does"
)


@dataclass(frozen=True)
class Script:
    """One kind of script.

    Attributes:
        names: what it is called.
        part: begins the names of tensors that no other kind has.
        build: the nodes after the observation; gives the tensor of the action values.
        other: begins the names of what acting does not need.
    """

    names: str
    part: str
    build: Callable[[Stack, Tensors], str]
    other: tuple[str, ...] = ()


def _q(stack: Stack, tensors: Tensors) -> str:
    return stack.layers(stack.start, tensors.sequential("network."), "network")


def _c51(stack: Stack, tensors: Tensors) -> str:
    return stack.expectation(_q(stack, tensors), tensors.take("atoms"))


def _rainbow(stack: Stack, tensors: Tensors) -> str:
    support = tensors.take("support")
    features = stack.layers(stack.start, tensors.sequential("network."), "network", last=True)
    value, advantage = (tensors.sequential(f"{head}_head.") for head in ("value", "advantage"))
    return stack.expectation(dueling_logits(stack, features, value, advantage, len(support)), support)


def _ppo_atari(stack: Stack, tensors: Tensors) -> str:
    """Logits of the actor: their order is that of the probabilities."""
    features = stack.layers(stack.start, tensors.sequential("network."), "network", last=True)
    return stack.layer(features, tensors.layer("actor"), "actor")


SCRIPTS = (
    Script("c51, c51_atari", "atoms", _c51),
    Script("rainbow_atari", "value_head.", _rainbow),
    Script("ppo_atari", "critic.weight", _ppo_atari, ("critic.",)),
    Script("dqn, dqn_atari, pqn, pqn_atari_envpool", "network.", _q),
)
"""The first row whose part is there is taken."""


def import_cleanrl(path: Path, given: ObsSpec, divide: float | None = None) -> Imported:
    """Read what a script saved as ``NAME.cleanrl_model``.

    Args:
        path: the file.
        given: what the environment gives the network.
        divide: what bytes of pixels are divided by; None: as the scripts do, by 255.

    Raises:
        FileError: missing, damaged, holds more than tensors and numbers, or is of no script in `SCRIPTS`.
    """
    content = read_tensors(path)
    tensors = Tensors(content.tensors, path)
    script = next((row for row in SCRIPTS if tensors.has(row.part)), None)
    if script is None or not tensors.has("network."):
        raise FileError(
            f"{path} is of no script of CleanRL that is known ({', '.join(row.names for row in SCRIPTS)}): its "
            f"tensors are {', '.join(list(content.tensors)[:4]) or 'none'}"
        )
    first = content.tensors.get("network.0.weight")
    pictures = first is not None and first.ndim == 4
    if first is None or first.ndim not in (2, 4) or (pictures and len(given.shape) != 3):
        raise FileError(f"{path} does not read observations {given.dtype} {given.shape}: wrong --env?")
    obs = given if pictures else ObsSpec((first.shape[1],))
    divisor = (_PIXELS if pictures else 1.0) if divide is None else divide
    stack = Stack(obs, divisor)
    try:
        graph = stack.finish(script.build(stack, tensors))
    except GraphError as error:
        raise FileError(f"{path}: the layers do not fit each other or the observations: {error}") from error
    tensors.check_all_read(script.other)
    info = {
        "script": script.names,
        "divided_by": divisor,
        "arguments": _plain(content.settings.get("args", {})),
        "notes": [_RESIZED_FIRST] if pictures else [],
        "warnings": [],
        **({"q_meaning": LOGITS} if script.build is _ppo_atari else {}),
    }
    return Imported(graph, obs, graph.actions, info)


def _plain(arguments: Mapping[str, object] | object) -> dict[str, object]:
    """Numbers, texts and flags among a script's arguments."""
    if not isinstance(arguments, Mapping):
        return {}
    return {str(key): value for key, value in arguments.items() if isinstance(value, str | int | float | bool)}
