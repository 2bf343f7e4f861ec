"""What people who do this job run into, from one end to the other: the right value comes out, or one line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from nimbleq import Runtime, interpret, to_graph
from nimbleq.cli import main
from nimbleq.config import EnvConfig
from nimbleq.errors import ObservationError
from nimbleq.graph.interface import mask_of
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.rl.envs import spec_of
from nimbleq.rl.envs.gymnasium import make_env
from nimbleq.types import ObsSpec
from tests.rl.border_envs import Shop

HERE = "tests.cases.test_field"
SHOP = "tests.rl.border_envs:Shop"


class Lamp(gymnasium.Env[Any, Any]):
    """A float picture in 0 … 1 with a bright half, which is the right action; 20 steps."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0.0, 1.0, (1, 36, 36), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._picture(), {}

    def _picture(self) -> Any:
        picture = self.np_random.uniform(0, 0.2, (1, 36, 36)).astype(np.float32)
        self.right = int(self.np_random.integers(2))
        picture[:, 8:28, 18 * self.right : 18 * self.right + 18] = 0.9
        return picture

    def step(self, action: Any) -> Any:
        reward, self.t = float(action == self.right), self.t + 1
        return self._picture(), reward, False, self.t >= 20, {}


@pytest.mark.parametrize(
    "how", ["info", "int8", "list", "masks", "avail", "admissible", "legal", "action_masks", "dict"]
)
def test_a_deployed_policy_plays_legal_actions_whatever_the_mask_is_called(how: str) -> None:
    config = EnvConfig(SHOP, kwargs=(f"how={how}",))
    spec = spec_of(config)
    assert spec.interface is not None
    torch.manual_seed(0)
    policy = Runtime(with_mask(to_graph(nn.Linear(4, 4), spec.obs)), interface=spec.interface)
    shop = make_env(config).unwrapped
    Shop.illegal = steps = 0
    for seed in range(5):
        (obs, info), over = shop.reset(seed=seed), False
        while not over:
            if how == "dict":
                action = policy.act(obs)  # the mask is in it
            else:
                with pytest.raises(ObservationError, match="mask"):
                    policy.act(obs)
                action = policy.act(obs, mask_of(spec.interface, obs, info, shop))
                if spec.interface.mask is not None and spec.interface.mask.startswith("info:"):
                    given = info[spec.interface.mask.removeprefix("info:")]
                    assert policy.act(obs, given) == action
            obs, _, over, _, info = shop.step(action)
            steps += 1
    assert (Shop.illegal, steps) == (0, 20)  # each of four things once


def test_layers_that_take_floats_see_a_raw_image_on_every_engine() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    graph = to_graph(net, ObsSpec((3, 20, 20), "uint8"))
    obs = np.random.default_rng(0).integers(0, 256, (32, 3, 20, 20)).astype(np.uint8)
    with torch.no_grad():
        expected = net(torch.from_numpy(obs).float()).numpy()
    np.testing.assert_allclose(interpret(graph, obs)["q"], expected, rtol=1e-4, atol=1e-3)
    for engine in ("c", "numpy"):
        policy = Runtime(graph, engine=engine)
        np.testing.assert_allclose([policy.q_values(one) for one in obs], expected, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of Stable-Baselines3 on `Lamp`: of pictures, and of the same numbers flattened."""
    sb3 = pytest.importorskip("stable_baselines3")
    folder = tmp_path_factory.mktemp("lamp")
    small = {"buffer_size": 100, "learning_starts": 50, "device": "cpu", "seed": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sb3.DQN("CnnPolicy", Lamp(), policy_kwargs={"normalize_images": False}, **small).save(folder / "cnn.zip")
        flat = sb3.DQN("MlpPolicy", Lamp(), policy_kwargs={"net_arch": []}, **small)
        with torch.no_grad():  # the brighter half
            side = torch.zeros(36, 36)
            side[:, 18:] = 1.0
            flat.q_net.q_net[0].weight.copy_(torch.stack([1 - side, side]).reshape(2, -1))
            flat.q_net.q_net[0].bias.zero_()
        flat.save(folder / "mlp.zip")
    return folder


def test_float_pictures_are_imported(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--from", "sb3", "--env", f"{HERE}:Lamp", "--episodes", "4", "--json", "--out"]
    assert main(["import", str(models / "cnn.zip"), *words, str(models / "cnn")]) == 0
    capsys.readouterr()
    assert main(["import", str(models / "mlp.zip"), *words, str(models / "mlp")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) or json.loads(out)
    assert "--channels flat gives its pictures as numbers" in out + err
    assert main(["import", str(models / "mlp.zip"), *words, str(models / "mlp"), "--channels", "flat"]) == 0
    assert json.loads(capsys.readouterr().out)["return_mean"] == 20.0


def test_an_imported_policy_takes_the_pictures_of_its_environment(models: Path) -> None:
    import stable_baselines3 as sb3

    model = sb3.DQN.load(models / "cnn.zip", device="cpu")
    policy = Runtime(models / "cnn/artefacts/teacher")
    obs = np.random.default_rng(0).uniform(0, 1, (20, 1, 36, 36)).astype(np.float32)
    with torch.no_grad():
        expected = model.q_net(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose([policy.q_values(one) for one in obs], expected, rtol=1e-4, atol=1e-5)
    assert [policy.act(one.astype(np.float64)) for one in obs] == expected.argmax(axis=1).tolist()
    assert [policy.act(one.tolist()) for one in obs] == expected.argmax(axis=1).tolist()
