"""State dicts as Tianshou saves them, against its policies where it is installed, else against networks built alike."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nimbleq.bridge.checkpoints.tianshou import import_tianshou
from nimbleq.errors import FileError
from nimbleq.graph.graph import ACTION, Q
from nimbleq.graph.interpret import interpret
from nimbleq.types import Array, ObsSpec
from tests.bridge.checkpoints.test_cleanrl import FRAMES, pictures, vectors

ACTIONS = 3


class Mlp(nn.Module):
    """``tianshou.utils.net.common.MLP``."""

    def __init__(self, *widths: int, out: int = 0, norm: bool = False) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            parts += [nn.Linear(n_in, n_out), *([nn.LayerNorm(n_out)] if norm else []), nn.ReLU()]
        self.model = nn.Sequential(*parts, *([nn.Linear(widths[-1], out)] if out else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.flatten(1))


class Net(nn.Module):
    """``tianshou.utils.net.common.Net``: logits per action, dueling or not, of atoms or not."""

    def __init__(self, atoms: int = 1, duels: bool = False, norm: bool = False) -> None:
        super().__init__()
        self.atoms, self.duels = atoms, duels
        self.model = Mlp(4, 32, 24, out=0 if duels else ACTIONS * atoms, norm=norm)
        if duels:
            self.Q, self.V = Mlp(24, 16, out=ACTIONS * atoms), Mlp(24, 12, out=atoms)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.model(x)
        if not self.duels:
            return logits.view(len(x), ACTIONS, self.atoms)
        q, v = self.Q(logits).view(len(x), -1, self.atoms), self.V(logits).view(len(x), -1, self.atoms)
        return q - q.mean(dim=1, keepdim=True) + v


class Atari(nn.Module):
    """``tianshou.env.atari.atari_network.DQNet``, with one output per action and atom."""

    def __init__(self, atoms: int = 1) -> None:
        super().__init__()
        self.atoms = atoms
        torso = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.net = nn.Sequential(torso, nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, ACTIONS * atoms))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).view(len(x), ACTIONS, self.atoms)


class Scaled(nn.Module):
    """``ScaledObsInputActionReprNet``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x / 255.0)


class Policy(nn.Module):
    """A policy: means of quantiles, or expectations over a support."""

    def __init__(self, model: nn.Module, support: torch.Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        if support is not None:
            self.support = nn.Parameter(support, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = self.model(x)
        if hasattr(self, "support"):
            return (values.softmax(dim=2) * self.support).sum(2)
        return values.mean(2)


BINS = torch.linspace(-10, 10, 51)
CASES: dict[str, Any] = {
    "dqn": lambda: Policy(Net()),
    "dqn with LayerNorm": lambda: Policy(Net(norm=True)),
    "dueling": lambda: Policy(Net(duels=True)),
    "c51": lambda: Policy(Net(51), BINS),
    "dueling c51": lambda: Policy(Net(51, duels=True), BINS),
    "qrdqn": lambda: Policy(Net(20)),
    "atari": lambda: Policy(Atari()),
    "atari scaled": lambda: Policy(Scaled(Atari())),
    "atari c51": lambda: Policy(Scaled(Atari(51)), BINS),
    "atari qrdqn": lambda: Policy(Scaled(Atari(20))),
}


def check(path: Path, state: Any, module: nn.Module, spec: ObsSpec, obs: Array, divide: float | None = None) -> Any:
    torch.save(state, path)
    imported = import_tianshou(path, spec, ACTIONS, divide)
    with torch.no_grad():
        want = torch.cat([module(part) for part in torch.from_numpy(obs).float().split(10_000)]).numpy()
    got = interpret(imported.graph, obs)
    np.testing.assert_allclose(got[Q], want, rtol=1e-4, atol=1e-5 * max(1, np.abs(want).max()))
    np.testing.assert_array_equal(got[ACTION], want.argmax(axis=1))
    return imported


@pytest.mark.parametrize("name", CASES)
def test_it_acts_as_the_policy_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, rng = CASES[name](), np.random.default_rng(0)
    with torch.no_grad():
        for parameter in module.model.parameters():
            if parameter.ndim > 1:
                parameter *= 2
    frames = name.startswith("atari")
    spec, obs = (FRAMES, pictures(rng, 40)) if frames else (ObsSpec((4,)), vectors(rng, 20_000))
    imported = check(tmp_path / "policy.pth", module.state_dict(), module, spec, obs)
    assert any("--divide" in note for note in imported.info["notes"]) == (name == "atari")
    # An algorithm's state has the policy in it, its target network, and the state of its optimizer.
    whole = {f"policy.{key}": value for key, value in module.state_dict().items()}
    whole |= {f"model_old.{key}": value * 0 for key, value in module.state_dict().items()}
    check(tmp_path / "algorithm.pth", {**whole, "_optimizers": [{"lr": 0.1}]}, module, spec, obs[:100])


def test_pixels_are_divided_as_asked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Policy(Atari())
    obs = pictures(np.random.default_rng(0), 20)
    check(tmp_path / "policy.pth", module.state_dict(), Policy(Scaled(module.model)), FRAMES, obs, 255.0)


def test_policies_of_tianshou_itself(tmp_path: Path) -> None:
    pytest.importorskip("tianshou")
    from gymnasium import spaces
    from tianshou.algorithm.modelfree.c51 import C51Policy
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.algorithm.modelfree.qrdqn import QRDQNPolicy
    from tianshou.data import Batch
    from tianshou.env.atari.atari_network import DQNet, RainbowNet, ScaledObsInputActionReprNet
    from tianshou.utils.net.common import Net as TianshouNet

    torch.manual_seed(0)
    given = {"action_space": spaces.Discrete(ACTIONS)}
    net = {"state_shape": (4,), "action_shape": ACTIONS, "hidden_sizes": [32, 24]}
    duel = {"dueling_param": ({"hidden_sizes": [16]}, {"hidden_sizes": [12]})}
    frame = {"c": 4, "h": 84, "w": 84, "action_shape": [ACTIONS]}
    cases = [
        (DiscreteQLearningPolicy(model=TianshouNet(**net, **duel), **given), ObsSpec((4,))),
        (C51Policy(model=TianshouNet(**net, softmax=True, num_atoms=51), **given), ObsSpec((4,))),
        (QRDQNPolicy(model=TianshouNet(**net, num_atoms=20), **given), ObsSpec((4,))),
        (DiscreteQLearningPolicy(model=ScaledObsInputActionReprNet(DQNet(**frame)), **given), FRAMES),
        (C51Policy(model=ScaledObsInputActionReprNet(RainbowNet(**frame)), **given), FRAMES),
    ]
    for policy, spec in cases:
        policy.eval()
        torch.save(policy.state_dict(), tmp_path / "policy.pth")
        imported = import_tianshou(tmp_path / "policy.pth", spec, ACTIONS)
        rng = np.random.default_rng(0)
        obs = vectors(rng, 100_000) if spec.shape == (4,) else pictures(rng, 60)
        with torch.no_grad():
            want = np.concatenate([policy(Batch(obs=part, info={})).act for part in np.array_split(obs, 10)])
        np.testing.assert_array_equal(interpret(imported.graph, obs)[ACTION], want)


def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "policy.pth", Policy(Net()).state_dict()
    for content, message in (
        ({"actor.0.weight": torch.zeros(2, 2)}, "no tensor is called model"),
        ({**state, "model.model.model.1.weight": torch.zeros(32, 32)}, "has no tensor"),
        ({**state, "model.more": torch.zeros(3)}, "use is not in the file"),
        (CASES["atari"]().state_dict(), "does not read"),
    ):
        torch.save(content, path)
        with pytest.raises(FileError, match=message):
            import_tianshou(path, ObsSpec((4,)), ACTIONS)
    torch.save(Policy(Net(2)).state_dict(), path)
    with pytest.raises(FileError, match="6 outputs for 4 actions"):
        import_tianshou(path, ObsSpec((4,)), 4)
