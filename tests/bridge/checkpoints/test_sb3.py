"""Imported Stable-Baselines3 models against SB3's own ``predict``, and files that are no such models."""

import base64
import contextlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from nimbleq.bridge.checkpoints import archive as sb3_archive
from nimbleq.bridge.checkpoints.imported import Imported
from nimbleq.bridge.checkpoints.sb3 import import_sb3
from nimbleq.errors import FileError, UnsupportedOpError
from nimbleq.graph.graph import ACTION, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import UINT8
from nimbleq.types import Array
from tests.bomb import Bomb

stable_baselines3 = pytest.importorskip("stable_baselines3")

OBSERVATIONS = 10_000


class Images(gymnasium.Env[Array, int]):
    """Noise with channels last; rewards nothing."""

    def __init__(self, height: int = 84, width: int = 84, channels: int = 3) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (height, width, channels), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), False, False, {}


class Observed(gymnasium.Env[Any, int]):
    """Any observation space, three actions."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.observation_space = space
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # SB3 and what it imports warn about their own matters.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def dqn(policy: str, env: Any, **settings: Any) -> Any:
    small = {"buffer_size": 500, "learning_starts": 50, "device": "cpu", "seed": 1}
    return stable_baselines3.DQN(policy, env, **{**small, **settings})


def saved(model: Any, folder: Path) -> Path:
    path = folder / "model.zip"
    model.save(path)
    return path


def sb3_q(model: Any, obs: Array) -> Array:
    """SB3's own action values, its preprocessing included."""
    tensor, _ = model.policy.obs_to_tensor(obs)
    with torch.no_grad():
        return model.q_net(tensor).numpy()


def assert_agrees(model: Any, imported: Imported, sb3_obs: Array, obs: Array) -> None:
    """The same action on every observation, and values within float32 rounding."""
    answer = interpret(imported.graph, obs)
    predicted, _ = model.predict(sb3_obs, deterministic=True)
    np.testing.assert_allclose(answer[Q], sb3_q(model, sb3_obs), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(answer[ACTION], predicted)


def test_a_trained_mlp_acts_as_sb3_does(tmp_path: Path) -> None:
    model = dqn("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [32, 48, 16]}, learning_rate=1e-3)
    model.learn(600)
    imported = import_sb3(saved(model, tmp_path))
    rng = np.random.default_rng(0)
    obs = (rng.normal(size=(OBSERVATIONS, 4)) * [1.0, 1.5, 0.1, 1.5]).astype(np.float32)
    assert_agrees(model, imported, obs, obs)
    assert len(set(interpret(imported.graph, obs)[ACTION].tolist())) == 2, "a test in which one action always wins"
    assert (imported.obs.shape, imported.obs.dtype, imported.actions) == ((4,), "float32", 2)
    assert imported.info["hidden"] == [32, 48, 16]
    assert imported.info["training"]["gamma"] == 0.99
    assert imported.info["training"]["num_timesteps"] == 600
    assert imported.info["sb3_version"] == stable_baselines3.__version__
    assert any("--vecnormalize" in line for line in imported.info["warnings"])
    assert json.loads(json.dumps(imported.info)) == imported.info


def images(rng: np.random.Generator, count: int) -> Array:
    """uint8 ``[count, 36, 36, 3]``: smooth, of many brightnesses (to a network all white noise looks alike)."""
    coarse = rng.integers(0, 256, (count, 4, 4, 3)) * rng.random((count, 1, 1, 3))
    return coarse.repeat(9, axis=1).repeat(9, axis=2).astype(np.uint8)


def test_a_trained_cnn_acts_as_sb3_does_on_images_with_channels_last(tmp_path: Path) -> None:
    kwargs = {"features_extractor_kwargs": {"features_dim": 64}}
    model = dqn("CnnPolicy", Images(36, 36), train_freq=8, batch_size=16, policy_kwargs=kwargs)
    model.learn(200)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        # So little training makes one action win everywhere: centre the values, so that all of them are chosen.
        model.q_net.q_net[-1].bias -= torch.from_numpy(sb3_q(model, images(rng, 200)).mean(axis=0))
    imported = import_sb3(saved(model, tmp_path))
    assert imported.graph.obs_type.qtype == UINT8
    assert (imported.obs.shape, imported.obs.dtype, imported.actions) == ((3, 36, 36), "uint8", 5)
    seen = set()
    for _ in range(OBSERVATIONS // 1000):
        obs = images(rng, 1000)
        assert_agrees(model, imported, obs, obs.transpose(0, 3, 1, 2))
        seen |= set(model.predict(obs, deterministic=True)[0].tolist())
    assert len(seen) > 2, "a test in which one action always wins"


@pytest.mark.parametrize("normalize", [True, False])
def test_other_image_sizes_layers_after_the_torso_and_raw_pixels(tmp_path: Path, normalize: bool) -> None:
    kwargs = {"net_arch": [24], "features_extractor_kwargs": {"features_dim": 33}, "normalize_images": normalize}
    model = dqn("CnnPolicy", Images(40, 52, 4), policy_kwargs=kwargs)
    imported = import_sb3(saved(model, tmp_path))
    obs = np.random.default_rng(0).integers(0, 256, (200, 40, 52, 4)).astype(np.uint8)
    assert_agrees(model, imported, obs, obs.transpose(0, 3, 1, 2))
    assert imported.info["observation"]["divided_by_255"] is normalize
    assert imported.info["hidden"] == [33, 24]


@pytest.mark.parametrize("activation", ["ReLU", "LeakyReLU", "ReLU6", "Hardtanh", "Identity"])
def test_activations_that_the_graph_has(tmp_path: Path, activation: str) -> None:
    model = dqn("MlpPolicy", "CartPole-v1", policy_kwargs={"activation_fn": getattr(torch.nn, activation)})
    obs = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32) * 20
    assert_agrees(model, import_sb3(saved(model, tmp_path)), obs, obs)


def _cases() -> dict[str, tuple[Any, Callable[[Array], Array]]]:
    spaces = gymnasium.spaces
    return {
        "one value": (spaces.Box(-1, 1, (1,), np.float32), lambda obs: obs),
        "table of doubles": (spaces.Box(-9, 9, (3, 2), np.float64), lambda obs: obs.reshape(len(obs), -1)),
        "bytes": (spaces.Box(0, 255, (6,), np.uint8), lambda obs: obs),
        "image for an MLP": (spaces.Box(0, 255, (8, 9, 3), np.uint8), lambda obs: obs.transpose(0, 3, 1, 2)),
        "bytes that are no image": (spaces.Box(0, 9, (3, 8, 8), np.uint8), lambda obs: obs.reshape(len(obs), -1)),
        "bits": (spaces.MultiBinary(7), lambda obs: obs),
        "index": (spaces.Discrete(11), lambda obs: np.eye(11, dtype=np.float32)[obs]),
    }


@pytest.mark.parametrize("name", _cases())
def test_observation_spaces(tmp_path: Path, name: str) -> None:
    space, as_graph_takes = _cases()[name]
    space.seed(3)
    model = dqn("MlpPolicy", Observed(space), policy_kwargs={"net_arch": [16]})
    imported = import_sb3(saved(model, tmp_path))
    sb3_obs = np.stack([space.sample() for _ in range(100)])
    obs = as_graph_takes(sb3_obs)
    assert obs.shape[1:] == imported.obs.shape
    assert_agrees(model, imported, sb3_obs, obs)


# What is refused


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(dqn("MlpPolicy", "CartPole-v1"), tmp_path_factory.mktemp("good"))


def rewritten(source: Path, target: Path, **members: bytes | None) -> Path:
    """A copy of a zip with members replaced, or left out (None); ``__`` in a name stands for a dot."""
    changes = {name.replace("__", "."): data for name, data in members.items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = changes.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def with_settings(source: Path, target: Path, **changes: Any) -> Path:
    with zipfile.ZipFile(source) as archive:
        settings = json.loads(archive.read("data"))
    return rewritten(source, target, data=json.dumps({**settings, **changes}).encode())


def with_tensors(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    with zipfile.ZipFile(source) as archive:
        state = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    stream = io.BytesIO()
    torch.save(change(dict(state)), stream)
    return rewritten(source, target, policy__pth=stream.getvalue())


def refusal(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        import_sb3(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_pickles_in_the_settings_are_never_loaded(good: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "it ran"
    payload = base64.b64encode(pickle.dumps(Bomb(Path.touch, evidence))).decode()
    with zipfile.ZipFile(good) as archive:
        settings = json.loads(archive.read("data"))
    poisoned = {
        key: {**value, ":serialized:": payload} if isinstance(value, dict) and ":serialized:" in value else value
        for key, value in settings.items()
    }
    poisoned["extra"] = {":type:": "<class 'dict'>", ":serialized:": payload}
    path = rewritten(good, tmp_path / "model.zip", data=json.dumps(poisoned).encode())
    assert import_sb3(path).actions == 2, "the pickles are not even looked at"
    assert not evidence.exists()
    pickle.loads(pickle.dumps(Bomb(Path.touch, evidence)))
    assert evidence.exists(), "the pickle does run when somebody loads it"


def test_a_pickle_among_the_tensors_is_refused_and_does_not_run(good: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "it ran"
    path = with_tensors(good, tmp_path / "model.zip", lambda state: {**state, "x": Bomb(Path.touch, evidence)})
    assert "more than tensors" in refusal(path)
    plain = rewritten(good, tmp_path / "plain.zip", policy__pth=pickle.dumps(Bomb(Path.touch, evidence)))
    refusal(plain)
    assert not evidence.exists()


def test_files_that_are_no_sb3_zip(good: Path, tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "missing.zip")
    assert "cannot read" in refusal(tmp_path)
    text = tmp_path / "text.zip"
    text.write_text("hello")
    assert "not a zip" in refusal(text)
    text.write_bytes(b"")
    assert "not a zip" in refusal(text)
    assert "no 'data'" in refusal(rewritten(good, tmp_path / "a.zip", data=None))
    assert "no 'policy.pth'" in refusal(rewritten(good, tmp_path / "b.zip", policy__pth=None))
    assert "not JSON" in refusal(rewritten(good, tmp_path / "c.zip", data=b"{"))
    assert "not JSON" in refusal(rewritten(good, tmp_path / "d.zip", data=b"[" * 200_000))
    assert "not a JSON object" in refusal(rewritten(good, tmp_path / "e.zip", data=b"[]"))
    assert "policy.pth" in refusal(rewritten(good, tmp_path / "f.zip", policy__pth=b"PK nothing"))


def test_truncated_at_any_length(good: Path, tmp_path: Path) -> None:
    whole, path = good.read_bytes(), tmp_path / "cut.zip"
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        refusal(path)


def test_damaged_bytes_never_give_a_traceback(good: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(good) as archive:
        tensors = archive.read("policy.pth")
    for outside in (True, False) * 40:
        data = bytearray(good.read_bytes() if outside else tensors)
        # Inside, near the pickle and the directory, where the zip's own check sums do not help.
        focus = len(data) if outside else 1500
        for position in rng.integers(0, focus, 6):
            data[position if rng.random() < 0.5 else -position - 1] = rng.integers(0, 256)
        if outside:
            path.write_bytes(data)
        else:
            rewritten(good, path, policy__pth=bytes(data))
        with contextlib.suppress(FileError):
            import_sb3(path)


def test_names_that_are_no_text_are_refused(good: Path, tmp_path: Path) -> None:
    # Marked as UTF-8 in the zip's directory, and not UTF-8.
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é", b"")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    assert "not a zip" in refusal(path)
    refusal(rewritten(good, tmp_path / "inner.zip", policy__pth=path.read_bytes()))


def test_zip_bombs_are_not_unpacked(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(3 << 20)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", zeros)
    nested = rewritten(good, tmp_path / "nested.zip", policy__pth=inner.getvalue())
    outer = rewritten(good, tmp_path / "outer.zip", data=b" " + zeros)
    assert nested.stat().st_size < 100_000
    monkeypatch.setattr(sb3_archive, "_MAX_BYTES", dict.fromkeys(sb3_archive._MAX_BYTES, 1 << 20))
    assert import_sb3(good).actions == 2
    assert "'data' unpacks to 3,145,729 bytes" in refusal(outer)
    assert "'policy.pth' unpacks to 3,145,728 bytes" in refusal(nested)


def test_a_tensor_larger_than_its_storage_is_not_unpacked(good: Path, tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 40)
    path = with_tensors(good, tmp_path / "model.zip", lambda state: {**state, "q_net.q_net.9.weight": huge})
    assert "unpack" in refusal(path)


def test_quantiles_of_qrdqn_are_averaged(tmp_path: Path) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    kwargs = {"net_arch": [32, 16], "n_quantiles": 25}
    model = contrib.QRDQN("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, device="cpu", seed=1)
    imported = import_sb3(saved(model, tmp_path))
    obs = np.random.default_rng(0).normal(size=(10 * OBSERVATIONS, 4)).astype(np.float32)
    answer = interpret(imported.graph, obs)
    np.testing.assert_array_equal(answer[ACTION], model.predict(obs, deterministic=True)[0])
    assert len(set(answer[ACTION].tolist())) == 2
    assert imported.info["algorithm"] == "QRDQN"


@pytest.mark.parametrize(("algorithm", "activation"), [("PPO", "Tanh"), ("A2C", "ReLU"), ("MaskablePPO", "Tanh")])
def test_the_actor_of_a_policy_gradient_method(tmp_path: Path, algorithm: str, activation: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    make = getattr(stable_baselines3, algorithm, None) or getattr(contrib, algorithm)
    kwargs = {} if activation == "Tanh" else {"activation_fn": torch.nn.ReLU}  # (Tanh is their default)
    model = make("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, device="cpu", seed=1)
    with torch.no_grad():
        model.policy.action_net.weight *= 100  # untrained logits are so small that their probabilities are equal
    imported = import_sb3(saved(model, tmp_path))
    obs = np.random.default_rng(0).normal(size=(10 * OBSERVATIONS, 4)).astype(np.float32)
    answer = interpret(imported.graph, obs)
    np.testing.assert_array_equal(answer[ACTION], model.predict(obs, deterministic=True)[0])
    assert len(set(answer[ACTION].tolist())) == 2
    assert "log-probabilities, in nats" in imported.info["notes"][0]
    assert "log-probabilities" in imported.info["q_meaning"]
    gaps = torch.diff(model.policy.get_distribution(torch.from_numpy(obs[:99])).distribution.logits, dim=1)
    np.testing.assert_allclose(np.diff(answer[Q][:99]), gaps.detach().numpy(), rtol=1e-4, atol=1e-4)
    assert imported.info["activation"] == activation.lower()
    if algorithm == "MaskablePPO":
        legal = np.eye(2, dtype=bool)[np.arange(99) % 2]
        masked = interpret(with_mask(imported.graph), obs[:99], legal)[ACTION]
        np.testing.assert_array_equal(masked, model.predict(obs[:99], deterministic=True, action_masks=legal)[0])


def test_another_algorithm_is_named_as_such(tmp_path: Path) -> None:
    model = stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=10)
    assert "comes from stable_baselines3.sac.policies; DQN, QRDQN" in refusal(saved(model, tmp_path))


def test_dictionary_observations_are_refused(tmp_path: Path) -> None:
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    model = dqn("MultiInputPolicy", Observed(gymnasium.spaces.Dict({"a": box, "b": box})))
    assert "Dict observations are not supported" in refusal(saved(model, tmp_path))


def test_an_activation_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    model = dqn("MlpPolicy", "CartPole-v1", policy_kwargs={"activation_fn": torch.nn.GELU})
    with pytest.raises(UnsupportedOpError, match="GELU"):
        import_sb3(saved(model, tmp_path))


def test_settings_that_do_not_say_what_is_computed(good: Path, tmp_path: Path) -> None:
    own = {":type:": "<class 'dict'>", "activation_fn": "<class '__main__.Mine'>"}
    assert "activation function" in refusal(with_settings(good, tmp_path / "a.zip", policy_kwargs=own))
    own = {":type:": "<class 'dict'>", "features_extractor_class": "<class '__main__.Mine'>"}
    assert "features extractor" in refusal(with_settings(good, tmp_path / "b.zip", policy_kwargs=own))
    assert "policy class" in refusal(with_settings(good, tmp_path / "c.zip", policy_class={"__module__": "mine"}))
    assert "no 'observation_space'" in refusal(with_settings(good, tmp_path / "d.zip", observation_space=None))
    discrete = {":type:": "<class 'gymnasium.spaces.discrete.Discrete'>"}
    assert "5 actions" in refusal(with_settings(good, tmp_path / "e.zip", action_space={**discrete, "n": "5"}))
    assert "start" in refusal(
        with_settings(good, tmp_path / "f.zip", action_space={**discrete, "n": "2", "start": "1"})
    )
    assert "positive" in refusal(with_settings(good, tmp_path / "g.zip", action_space={**discrete, "n": "-2"}))
    box = {":type:": "<class 'gymnasium.spaces.box.Box'>", "dtype": "float32"}
    assert "shape" in refusal(with_settings(good, tmp_path / "h.zip", observation_space=box))
    assert "do not fit" in refusal(with_settings(good, tmp_path / "i.zip", observation_space={**box, "_shape": [5]}))


def test_tensors_that_are_no_dqn(good: Path, tmp_path: Path) -> None:
    weight = "q_net.q_net.2.weight"
    cases: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], Any]]] = {
        "a": ("do not fit", lambda state: {**state, weight: torch.zeros(64, 7)}),
        "b": ("numbered", lambda state: {key: value for key, value in state.items() if ".2." not in key}),
        "c": ("NaN", lambda state: {**state, weight: state[weight] * float("nan")}),
        "d": ("weight and bias", lambda state: {**state, "q_net.q_net.2.bias": torch.zeros(3)}),
        "e": ("real numbers", lambda state: {**state, weight: torch.zeros(64, 64, dtype=torch.int64)}),
        "f": ("features extractor", lambda state: {**state, "q_net.features_extractor.mine": torch.zeros(3)}),
        "g": ("table of tensors", lambda state: list(state.values())),
        "h": ("no tensors", lambda _: {}),
    }
    for name, (message, change) in cases.items():
        assert message in refusal(with_tensors(good, tmp_path / f"{name}.zip", change)), name
