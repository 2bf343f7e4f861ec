"""The table of torsos: a torso that is one row trains, is exported and has its choice on the command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nimbleq import cli
from nimbleq.config import NetworkConfig, TorsoName, TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.graph.interpret import interpret
from nimbleq.rl.nets.graph import network_graph
from nimbleq.rl.nets.network import QNetwork
from nimbleq.rl.nets.torsos.mixed import make_torso
from nimbleq.rl.nets.torsos.nodes import MAX_POOL, Layer, conv, plain
from nimbleq.rl.nets.torsos.table import TORSOS
from nimbleq.rl.nets.torsos.torso import Torso
from nimbleq.rl.rules import check_settings
from nimbleq.rl.spec import EnvSpec
from nimbleq.types import ObsSpec


def pooled(channels: int, config: NetworkConfig) -> list[nn.Module]:
    return [nn.MaxPool2d(3, stride=2, padding=1), nn.Conv2d(channels, 3 * config.torso_width, 3)]


def nodes(config: NetworkConfig) -> list[Layer]:
    return [plain(MAX_POOL), conv()]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TORSOS, "pooled", Torso("pooled", pooled, nodes))  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [1, 2])
def test_a_torso_that_is_one_row_is_exported_as_it_computes(block: int) -> None:
    torch.manual_seed(0)
    spec = EnvSpec(ObsSpec((2, 20, 16), "uint8"), 3)
    config = NetworkConfig(torso=TorsoName("pooled"), torso_width=2, space_to_depth=block, hidden=(8,))
    module = QNetwork(spec, config).eval()
    obs = np.random.default_rng(0).integers(0, 256, (5, 2, 20, 16)).astype(np.uint8)
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    with torch.no_grad():
        expected = module(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(
        interpret(network_graph(spec, config, weights), obs)["q"], expected, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ConfigError, match=r"network\.torso pooled needs"):
        make_torso(replace(config, space_to_depth=3), (2, 20, 16))


def test_the_command_line_takes_it_and_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert "{mlp,nature,small,board,impala,mobile,shuffle,pooled}" in capsys.readouterr().out
    assert cli.main(["train", "--network.torso", "pooled", "--out", str(tmp_path / "run")]) == 2
    assert "network.torso pooled needs (channels, height, width)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network.torso": "none"}, r"no network\.torso 'none'; choose from mlp, nature, .*, pooled"),
        (
            {"network.spectral_norm": True, "network.torso": "nature"},
            r"network\.spectral_norm must be off, except with the torso mlp or impala",
        ),
        ({"network.spectral_norm": True, "network.noisy": True}, r"network\.noisy must be off with .* torso mlp"),
        (
            {"network.spectral_norm": True, "transfer.source": "runs/a"},
            r"transfer\.source must be left out with .* mlp",
        ),
    ],
)
def test_settings_that_a_torso_cannot_have_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_settings(with_changes(TrainConfig(), changes))
