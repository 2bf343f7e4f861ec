"""Trained networks as small files: weights in bfloat16 (safetensors) and beside them what they are (JSON)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nimbleq.config import EnvConfig, NetworkConfig, from_dict, to_dict
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import read_bytes, read_json, sha256, write_bytes, write_json
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.torch_state import named_arrays
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import QNetwork, initial_network
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec

_FORMAT = 1


@dataclass(frozen=True)
class ZooEntry:
    """A trained network.

    Attributes:
        network: with float32 weights, each of which is a bfloat16 number.
        env: what it plays.
        spec: of that environment.
        facts: how it was made and what it reached, plain JSON values.
    """

    network: QNetwork
    env: EnvConfig
    spec: EnvSpec
    facts: dict[str, Any]

    def graph(self) -> Graph:
        """The policy as a layer graph."""
        return network_graph(self.spec, self.network.config, named_arrays(self.network))


def save_zoo(path: Path, entry: ZooEntry) -> None:
    """Write ``path`` (``*.safetensors``) and, with the same name, ``*.json``.

    Raises:
        FileError: not writable.
    """
    weights = save({name: _rounded(value) for name, value in entry.network.state_dict().items()})
    write_bytes(path, weights)
    write_json(
        path.with_suffix(".json"),
        {
            "format": _FORMAT,
            "weights": {"file": path.name, "sha256": sha256(weights)},
            "env": to_dict(entry.env),
            "network": to_dict(entry.network.config),
            "spec": {"obs": asdict(entry.spec.obs), "actions": entry.spec.actions, "masked": entry.spec.masked},
            "facts": entry.facts,
        },
    )


def _rounded(value: Tensor) -> Tensor:
    return value.detach().cpu().to(torch.bfloat16 if value.is_floating_point() else value.dtype).contiguous()


def load_zoo(path: Path) -> ZooEntry:
    """What `save_zoo` wrote; its weights are rounded to bfloat16 then.

    Raises:
        FileError: a file is missing or damaged, the two do not belong together, or a newer nimbleq wrote them.
    """
    about = read_json(path.with_suffix(".json"))
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise FileError(f"{path.with_suffix('.json')} is not of the zoo's format {_FORMAT}, which this nimbleq reads")
    weights = read_bytes(path)
    if sha256(weights) != about.get("weights", {}).get("sha256"):
        raise FileError(f"{path} is damaged, or not the file that {path.with_suffix('.json').name} describes")
    try:
        spec = about["spec"]
        obs = ObsSpec(tuple(spec["obs"]["shape"]), spec["obs"]["dtype"])
        whole = EnvSpec(obs, int(spec["actions"]), bool(spec["masked"]))
        network = initial_network(whole, from_dict(NetworkConfig, about["network"]))
        network.load_state_dict({name: value.float() for name, value in load(weights).items()})
        return ZooEntry(network.eval(), from_dict(EnvConfig, about["env"]), whole, dict(about["facts"]))
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError, SafetensorError) as error:
        raise FileError(f"{path.with_suffix('.json')} does not describe the network in {path.name}: {error}") from error
