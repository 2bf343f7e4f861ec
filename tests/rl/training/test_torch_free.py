"""``nimbleq train`` with the native engine neither needs PyTorch nor waits for its import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nimbleq.config import NetworkConfig
from nimbleq.rl.learners.native import native_available
from nimbleq.rl.learners.torch_state import named_arrays
from nimbleq.rl.nets.initial import initial_weights
from nimbleq.rl.nets.network import initial_network
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Block())
from nimbleq import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(native_available(NetworkConfig()) is not None, reason="the native learner was not compiled")
@pytest.mark.parametrize("preset", ["dqn", pytest.param("qr", marks=pytest.mark.long)])
def test_cartpole_is_learnt_where_torch_cannot_be_imported(preset: str, tmp_path: Path) -> None:
    words = ["train", "--env", "CartPole-v1", "--preset", preset, "--steps", "20000", "--evaluation.every", "200"]
    command = [sys.executable, "-c", BLOCKED, *words, "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["learner"] == "native"
    assert result["return_mean"] > 100
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert json.loads(again.stdout)["return_mean"] == result["return_mean"], again.stderr


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(),
        NetworkConfig(hidden=(), normalize_obs=False),
        NetworkConfig(spectral_norm=True),
        NetworkConfig(hidden=(5, 300), layer_norm=False, dueling=True, head="c51", atoms=7),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("seed", [0, 7, (1 << 40) + 3])
def test_initial_weights_are_pytorchs(config: NetworkConfig, seed: int) -> None:
    spec = EnvSpec(ObsSpec((9,)), 3)
    ours, theirs = initial_weights(spec, config, seed), named_arrays(initial_network(spec, config, seed))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert np.array_equal(ours[name], value), name
