"""The zoo: what is written is read again, rounded to bfloat16, small, and refused when it is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nimbleq.config import EnvConfig, NetworkConfig
from nimbleq.errors import FileError
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.zoo import ZooEntry, load_zoo, save_zoo
from nimbleq.types import ObsSpec

SPEC = EnvSpec(ObsSpec((4, 84, 84), "uint8"), 6)
NATURE = NetworkConfig(torso="nature", hidden=(512,), layer_norm=False, dueling=True, normalize_obs=False)


def entry() -> ZooEntry:
    return ZooEntry(QNetwork(SPEC, NATURE), EnvConfig("ALE/Pong-v5"), SPEC, {"return_mean": 18.5, "steps": 7})


def test_a_file_becomes_the_network_again_and_goes_on_to_compression(tmp_path: Path) -> None:
    made = entry()
    save_zoo(tmp_path / "pong.safetensors", made)
    assert (tmp_path / "pong.safetensors").stat().st_size <= 4_000_000
    read = load_zoo(tmp_path / "pong.safetensors")
    assert (read.env, read.spec, read.facts) == (made.env, made.spec, made.facts)
    for name, value in made.network.state_dict().items():
        assert torch.equal(read.network.state_dict()[name], value.bfloat16().float()), name
    obs = np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84)).astype(np.uint8)
    with torch.no_grad():
        q = read.network(torch.from_numpy(obs)).numpy()
    assert q == pytest.approx(made.network(torch.from_numpy(obs)).detach().numpy(), abs=0.02)
    assert np.array_equal(GraphPolicy(read.graph())(obs), q.argmax(axis=1))


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pong.safetensors"
    with pytest.raises(FileError, match="cannot read"):
        load_zoo(path)
    save_zoo(path, entry())
    about = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(about | {"format": 9}))
    with pytest.raises(FileError, match="format 1"):
        load_zoo(path)
    path.with_suffix(".json").write_text(json.dumps(about | {"network": about["network"] | {"hidden": [64]}}))
    with pytest.raises(FileError, match="does not describe"):
        load_zoo(path)
    path.with_suffix(".json").write_text(json.dumps(about))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="damaged"):
        load_zoo(path)
