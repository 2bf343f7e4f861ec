"""The table of engines: a new row trains, and a row refuses in one line what it cannot train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq import cli
from nimbleq.config import TrainConfig, with_changes
from nimbleq.errors import ConfigError
from nimbleq.rl.envs.engines import spec_of
from nimbleq.rl.learners.engine import Engine
from nimbleq.rl.learners.engines import ENGINES, choices, engine_for, make_learner
from nimbleq.rl.learners.torch import TorchLearner
from nimbleq.rl.replay.ring import Replay
from nimbleq.rl.rules import check_settings
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.checkpoint import load_checkpoint
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Batch, ObsSpec


class Counting(TorchLearner):
    """A stranger's engine: the mathematics of PyTorch, and a count of what it was asked for."""

    batches = 0

    def update(self, batch: Batch) -> Array:
        Counting.batches += 1
        return super().update(batch)


def refuses_double(config: TrainConfig, spec: EnvSpec | None) -> str | None:
    return "the toy learns no double targets; use --no-learner.double" if config.learner.double else None


TOY: Engine[Counting, Replay] = Engine("toy", "a test", refuses_double, Counting, settings=("learner.target_every",))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "toy", TOY)  # type: ignore[arg-type]  # (one line of the table)
    monkeypatch.setattr(Counting, "batches", 0)


@pytest.mark.usefixtures("toy")
def test_an_engine_that_is_one_row_trains_checks_saves_and_resumes(small: TrainConfig, tmp_path: Path) -> None:
    changes = {"learner.engine": "toy", "learner.double": False, "evaluation.beside": False}
    run, twin = RunDir(tmp_path / "toy"), RunDir(tmp_path / "torch")
    trained = train(with_changes(small, changes), run)
    assert trained.learner == "toy"
    assert Counting.batches == trained.updates > 150
    as_torch = train(with_changes(small, changes | {"learner.engine": "torch"}), twin)
    for name, value in as_torch.weights.items():
        np.testing.assert_array_equal(trained.weights[name], value)
    resumed = train(with_changes(small, changes), run, resume=True)
    assert resumed.updates == trained.updates
    assert Counting.batches == trained.updates, "nothing was left to do"
    arrays, _ = load_checkpoint(run.checkpoint)
    assert arrays["learner.updates"] == trained.updates


@pytest.mark.usefixtures("toy")
def test_the_command_line_has_a_choice_for_each_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    out = str(tmp_path / "run")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert f"{{{','.join(choices())}}}" in capsys.readouterr().out
    assert cli.main(["train", "--learner.engine", "toy", "--learner.double", "--out", out]) == 2
    assert capsys.readouterr().err == "nimbleq: the toy learns no double targets; use --no-learner.double\n"
    assert cli.main(["train", "--learner.engine", "fpga", "--out", out]) == 2
    assert "'fpga'" in capsys.readouterr().err
    assert not Path(out).exists()


@pytest.mark.usefixtures("toy")
def test_settings_of_an_engine_are_refused_with_another(small: TrainConfig) -> None:
    changed = with_changes(small, {"learner.target_every": 7, "learner.double": False})
    with pytest.raises(ConfigError, match=r"learner\.target_every must be .* without learner\.engine toy, not 7"):
        check_settings(changed)
    check_settings(with_changes(changed, {"learner.engine": "toy"}))


VECTOR, PICTURE = EnvSpec(ObsSpec((4,)), 2), EnvSpec(ObsSpec((4, 84, 84), "uint8"), 2)
MIXED = EnvSpec(ObsSpec((103,), pictures=(ObsSpec((1, 10, 10), "uint8"),)), 2)


@pytest.mark.parametrize(
    ("engine", "changes", "spec", "reason"),
    [
        ("native", {"network.head": "iqn"}, VECTOR, "no iqn head, only q, c51, qr, hl-gauss"),
        ("native", {}, PICTURE, "uint8"),
        ("device", {"algorithm": "pqn"}, None, "replay"),
        ("device", {}, MIXED, "not both"),
        ("xla", {"network.head": "c51"}, None, "no c51 head"),
        ("xla", {"network.torso": "impala"}, None, "no impala torso, only mlp, small, nature"),
        ("xla", {"network.noisy": True}, None, "no noisy layers"),
        ("xla", {"network.sparsity": 0.5}, None, "no sparse weights"),
        ("xla", {"network.spectral_norm": True}, None, "no spectral norms"),
        ("xla", {}, MIXED, "not both"),
        ("nothing", {}, None, "no learner.engine 'nothing'; choose from auto, native, torch, device"),
    ],
)
def test_what_an_engine_cannot_train_is_said(
    small: TrainConfig, engine: str, changes: dict[str, Any], spec: EnvSpec | None, reason: str
) -> None:
    config = with_changes(small, {"learner.engine": engine, **changes})
    with pytest.raises(ConfigError, match=reason) as refused:
        engine_for(config, spec)
    assert "\n" not in str(refused.value)


OF_ONE_PROCESS = [
    name for name, row in ENGINES.items() if "dqn" in row.learns and not row.remembers and name != "parallel"
]


@pytest.mark.parametrize("engine", OF_ONE_PROCESS)
def test_every_engine_starts_from_the_same_weights_and_hands_out_its_graph(small: TrainConfig, engine: str) -> None:
    spec = spec_of(small.env)
    config = with_changes(small, {"learner.engine": engine})
    row = ENGINES[engine]
    if (why := row.why_not(config, spec)) is not None:
        pytest.skip(why)
    learner, torch = (
        make_learner(each, spec, 3) for each in (config, with_changes(config, {"learner.engine": "torch"}))
    )
    for name, value in torch.weights().items():
        np.testing.assert_array_equal(learner.weights()[name], value)
    own, given = learner.graph(), learner.graph(torch.weights())
    assert own.nodes == given.nodes
    for name, array in given.weights.items():
        np.testing.assert_array_equal(np.asarray(own.weights[name]), np.asarray(array))
