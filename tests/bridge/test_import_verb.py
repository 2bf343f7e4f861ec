"""``nimbleq import``: what is not known of a model is said, on the terminal and in the JSON."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nimbleq.cli import main
from nimbleq.deploy.decider import open_library
from nimbleq.deploy.toolchain import compile_library, find_compiler
from nimbleq.graph.artefact import load_artefact, network_interface
from nimbleq.types import Array
from tests.bridge.checkpoints.test_cleanrl import Dqn, answers
from tests.bridge.checkpoints.test_sb3 import dqn, saved
from tests.bridge.checkpoints.test_sb3_vecnormalize import Pressure

stable_baselines3 = pytest.importorskip("stable_baselines3")
ENV = "tests.bridge.checkpoints.test_sb3_vecnormalize:Pressure"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that presses when the normalised pressure is above 0, and its statistics."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    folder = tmp_path_factory.mktemp("pressure")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = VecNormalize(DummyVecEnv([Pressure]), norm_reward=False)
        wrapped.seed(0)
        model = dqn("MlpPolicy", wrapped, policy_kwargs={"net_arch": []})
        model.learn(400)
        with torch.no_grad():
            model.q_net.q_net[0].weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
            model.q_net.q_net[0].bias.zero_()
        wrapped.save(folder / "vecnormalize.pkl")
        return saved(model, folder), folder / "vecnormalize.pkl"


class Advised(Pressure):
    """Says which actions are legal where nobody asks."""

    def legal_actions(self) -> list[int]:
        return [0, 1]


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["import", *map(str, words)]))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_with_its_statistics_the_model_plays_as_it_was_trained(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, statistics = files
    words = (model, "--env", ENV, "--out", tmp_path / "run", "--episodes", 20, "--vecnormalize", statistics, "--json")
    code, out, _ = run(capsys, *words)
    result = json.loads(out)
    assert code == 0
    assert result["return_mean"] > 36, "of 40; at random 20"
    assert (result["warnings"], result["notes"]) == ([], [])
    parents = json.loads((tmp_path / "run/artefacts/teacher/provenance.json").read_text())["parents"]
    assert set(parents) == {"model.zip", "vecnormalize.pkl"}


def test_without_them_the_terminal_and_the_json_warn(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (files[0], "--env", ENV, "--episodes", 3, "--out")
    code, out, _ = run(capsys, *words, tmp_path / "a")
    assert code == 0
    assert "warning: " in out
    assert "--vecnormalize FILE" in out
    code, out, err = run(capsys, *words, tmp_path / "b", "--json")
    assert "--vecnormalize FILE" in json.loads(out)["warnings"][0]
    assert "warning: " in err


def test_a_mask_that_is_not_read_is_a_warning(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--env",
        f"{__name__}:Advised",
        "--episodes",
        2,
        "--vecnormalize",
        files[1],
        "--out",
        tmp_path / "a",
        "--json",
    )
    code, out, err = run(capsys, files[0], *words)
    assert code == 0
    (warning,) = json.loads(out)["warnings"]
    assert "has a method legal_actions() that is not called" in warning
    assert f"warning: {warning}" in err


def test_bad_numbers_and_other_environments_are_one_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ((files[0], "--env", ENV, "--episodes", 0), "--episodes"),
        ((files[0], "--env", ENV, "--episodes", -3), "--episodes"),
        ((files[0], "--env", "CartPole-v1"), "float32 (2,), but CartPole-v1 gives float32 (4,)"),
        ((files[0], "--env", ENV, "--vecnormalize", files[0]), "not a pickle"),
        ((files[0], "--env", ENV, "--vecnormalize", tmp_path / "none.pkl"), "none.pkl"),
    ):
        code, out, err = run(capsys, *words, "--out", tmp_path / "run")
        assert code == 2
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "run").exists()


def decisions(build: Path, obs: Array, folder: Path) -> Array:
    """The actions of the C in ``build`` for ``obs[N, *O]``."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("needs a C compiler")
    texts = {name: (build / name).read_text() for name in ("policy.c", "policy.h")}
    graph = load_artefact(build / "oracle").graph
    library = compile_library(texts, folder / "policy.so", compiler)
    return open_library(library, "policy", graph, network_interface(graph)).run(obs)[0]


def test_a_model_of_sb3_becomes_c_in_one_command(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    words = (files[0], "--env", ENV, "--episodes", 2, "--vecnormalize", files[1], "--to", "c", "--out")
    code, out, _ = run(capsys, *words, tmp_path / "run", "--json")
    assert code == 0
    build = Path(json.loads(out)["build"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, wrapped = stable_baselines3.DQN.load(files[0]), VecNormalize.load(files[1], DummyVecEnv([Pressure]))
    rng = np.random.default_rng(0)
    mean, deviation = wrapped.obs_rms.mean, np.sqrt(wrapped.obs_rms.var)
    obs = rng.normal(mean, 2 * deviation, (100_000, 2)).astype(np.float32)
    want, _ = model.predict(wrapped.normalize_obs(obs), deterministic=True)
    np.testing.assert_array_equal(decisions(build, obs, tmp_path), want)
    assert 0 < want.mean() < 1


def test_a_model_of_cleanrl_becomes_c_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    module, rng = Dqn(4, 2), np.random.default_rng(0)
    torch.save(module.state_dict(), tmp_path / "dqn.cleanrl_model")
    words = (tmp_path / "dqn.cleanrl_model", "--from", "cleanrl", "--env", "CartPole-v1", "--episodes", 2)
    code, out, _ = run(capsys, *words, "--to", "c", "--out", tmp_path / "run", "--json")
    assert code == 0
    obs = rng.normal(size=(100_000, 4)).astype(np.float32)
    want = answers(module, obs).argmax(axis=1)
    np.testing.assert_array_equal(decisions(Path(json.loads(out)["build"]), obs, tmp_path), want)
    assert 0 < want.mean() < 1
    code, _, err = run(capsys, *words, "--vecnormalize", "x.pkl")
    assert (code, err.count("\n")) == (2, 1)
    assert "--vecnormalize is for --from sb3" in err
    code, _, err = run(capsys, *words, "--to", "cc")
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown target cc" in err
