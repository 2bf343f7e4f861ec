"""Models as CleanRL's scripts define and save them, against the torch modules themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nimbleq.bridge.checkpoints.cleanrl import import_cleanrl
from nimbleq.errors import FileError
from nimbleq.graph.graph import ACTION, Q
from nimbleq.graph.interpret import interpret
from nimbleq.types import Array, ObsSpec
from tests.bomb import Bomb

VECTORS, PICTURES = 100_000, 120
FRAMES = ObsSpec((4, 84, 84), "uint8")


def conv(*more: nn.Module) -> list[nn.Module]:
    return [
        nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(), nn.Flatten(), *more,
    ]  # fmt: skip


class Dqn(nn.Module):
    def __init__(self, obs: int, actions: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, actions)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


class Pqn(Dqn):
    def __init__(self, obs: int, actions: int) -> None:
        super().__init__(obs, actions)
        self.network = nn.Sequential(
            nn.Linear(obs, 120), nn.LayerNorm(120), nn.ReLU(), nn.Linear(120, 84), nn.LayerNorm(84), nn.ReLU(),
            nn.Linear(84, actions),
        )  # fmt: skip


class DqnAtari(nn.Module):
    def __init__(self, actions: int) -> None:
        super().__init__()
        self.network = nn.Sequential(*conv(nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x / 255.0)


class PqnAtari(DqnAtari):
    def __init__(self, actions: int) -> None:
        super().__init__(actions)
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.LayerNorm([32, 20, 20]), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.LayerNorm([64, 9, 9]), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.LayerNorm([64, 7, 7]), nn.ReLU(), nn.Flatten(),
            nn.Linear(3136, 512), nn.LayerNorm(512), nn.ReLU(), nn.Linear(512, actions),
        )  # fmt: skip


class C51(nn.Module):
    def __init__(self, obs: int, actions: int) -> None:
        super().__init__()
        self.actions, self.n_atoms = actions, 101
        self.register_buffer("atoms", torch.linspace(-100, 100, steps=101))
        self.network = nn.Sequential(
            nn.Linear(obs, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, actions * 101)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pmfs = torch.softmax(self.network(x).view(len(x), self.actions, self.n_atoms), dim=2)
        return (pmfs * self.atoms).sum(2)


class C51Atari(C51):
    def __init__(self, actions: int) -> None:
        super().__init__(1, actions)
        self.n_atoms = 51
        self.register_buffer("atoms", torch.linspace(-10, 10, steps=51))
        self.network = nn.Sequential(*conv(nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, actions * 51)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x / 255.0)


class Noisy(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        for kind in ("mu", "sigma"):
            setattr(self, f"weight_{kind}", nn.Parameter(torch.randn(n_out, n_in) * 3 / n_in**0.5))
            setattr(self, f"bias_{kind}", nn.Parameter(torch.randn(n_out) / 100))
        self.register_buffer("weight_epsilon", torch.randn(n_out, n_in))
        self.register_buffer("bias_epsilon", torch.randn(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight_mu, self.bias_mu)


class Rainbow(nn.Module):
    def __init__(self, actions: int) -> None:
        super().__init__()
        self.actions, self.n_atoms = actions, 51
        self.register_buffer("support", torch.linspace(-10, 10, 51))
        self.network = nn.Sequential(*conv())
        self.value_head = nn.Sequential(Noisy(3136, 64), nn.ReLU(), Noisy(64, 51))
        self.advantage_head = nn.Sequential(Noisy(3136, 64), nn.ReLU(), Noisy(64, 51 * actions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.network(x / 255.0)
        value = self.value_head(h).view(-1, 1, self.n_atoms)
        advantage = self.advantage_head(h).view(-1, self.actions, self.n_atoms)
        atoms = value + advantage - advantage.mean(dim=1, keepdim=True)
        return (torch.softmax(atoms, dim=2) * self.support).sum(2)


class PpoAtari(nn.Module):
    def __init__(self, actions: int) -> None:
        super().__init__()
        self.network = nn.Sequential(*conv(nn.Linear(3136, 512), nn.ReLU()))
        self.actor, self.critic = nn.Linear(512, actions), nn.Linear(512, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(self.network(x / 255.0))


def vectors(rng: np.random.Generator, count: int) -> Array:
    return rng.normal(size=(count, 4)).astype(np.float32) * 3


def pictures(rng: np.random.Generator, count: int) -> Array:
    """Blocks of many brightnesses: to a network all white noise looks alike."""
    coarse = rng.integers(0, 256, (count, 4, 7, 7)) * rng.random((count, 4, 1, 1))
    return coarse.repeat(12, axis=2).repeat(12, axis=3).astype(np.uint8)


Case = tuple[Callable[[], nn.Module], Callable[[np.random.Generator, int], Array], ObsSpec, int]
CASES: dict[str, Case] = {
    "dqn": (lambda: Dqn(4, 3), vectors, ObsSpec((4,)), VECTORS),
    "pqn": (lambda: Pqn(4, 3), vectors, ObsSpec((4,)), VECTORS),
    "c51": (lambda: C51(4, 3), vectors, ObsSpec((4,)), VECTORS),
    "dqn_atari": (lambda: DqnAtari(6), pictures, FRAMES, PICTURES),
    "pqn_atari": (lambda: PqnAtari(6), pictures, FRAMES, PICTURES),
    "c51_atari": (lambda: C51Atari(6), pictures, FRAMES, PICTURES),
    "rainbow_atari": (lambda: Rainbow(6), pictures, FRAMES, PICTURES),
    "ppo_atari": (lambda: PpoAtari(6), pictures, FRAMES, PICTURES),
}


def answers(module: nn.Module, obs: Array) -> Array:
    with torch.no_grad():
        return torch.cat([module(part) for part in torch.from_numpy(obs).float().split(10_000)]).numpy()


def spread(module: nn.Module, obs: Array) -> None:
    """Larger last layers, centred where that is one bias: then each action wins somewhere."""
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 3
        for layer in last[-2:]:
            layer.weight *= 3
        values = answers(module, obs)
        if last and values.shape[1] == len(last[-1].bias):
            last[-1].bias -= torch.from_numpy(values.mean(axis=0))


@pytest.mark.parametrize("name", CASES)
def test_it_acts_as_the_script_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, sample, spec, count = CASES[name]
    module, rng = make(), np.random.default_rng(0)
    spread(module, sample(rng, 200))
    path = tmp_path / f"{name}.cleanrl_model"
    if name.startswith("c51"):
        torch.save({"model_weights": module.state_dict(), "args": {"gamma": 0.99, "seed": 1, "capture": None}}, path)
    else:
        torch.save(module.state_dict(), path)
    imported = import_cleanrl(path, spec)
    obs = sample(rng, count)
    want, got = answers(module, obs), interpret(imported.graph, obs)
    np.testing.assert_allclose(got[Q], want, rtol=1e-4, atol=1e-5 * max(1, np.abs(want).max()))
    np.testing.assert_array_equal(got[ACTION], want.argmax(axis=1))
    assert len(set(got[ACTION].tolist())) > 1, "a test in which one action always wins"
    assert imported.obs == spec
    if name.startswith("c51"):
        assert imported.info["arguments"] == {"gamma": 0.99, "seed": 1}


def refusal(path: Path, content: Any, spec: ObsSpec = FRAMES) -> str:
    torch.save(content, path)
    with pytest.raises(FileError) as caught:
        import_cleanrl(path, spec)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_no_model_of_a_script_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "m.cleanrl_model", dict(Dqn(4, 2).state_dict())
    assert "of no script" in refusal(path, {"body.0.weight": torch.zeros(2, 2)})
    assert "more than tensors" in refusal(path, {**state, "x": Bomb(Path.touch, tmp_path / "ran")})
    assert not (tmp_path / "ran").exists()
    assert "not a table" in refusal(path, [1, 2])
    assert "between 4 and 9" in refusal(path, {**state, "network.9.weight": torch.zeros(3, 2)})
    assert "use is not in the file" in refusal(path, {**state, "extra": torch.zeros(3)})
    assert "do not fit" in refusal(path, {**state, "network.2.weight": torch.zeros(84, 7)})
    assert "does not read" in refusal(path, DqnAtari(2).state_dict(), ObsSpec((4,)))
    own = nn.Sequential(nn.Conv2d(4, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 80 * 80, 2))
    assert "stride" in refusal(path, {f"network.{name}": value for name, value in own.state_dict().items()})
    ppo = {
        **{f"actor.{name}": value for name, value in Dqn(4, 2).network.state_dict().items()},
        "critic.0.weight": torch.zeros(2, 2),
    }
    assert "of no script" in refusal(path, ppo)
