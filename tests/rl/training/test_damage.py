"""One bit of a checkpoint that is another, sixteen zeros in it, or an end that is missing: refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from nimbleq.config import TrainConfig, with_changes
from nimbleq.errors import FileError
from nimbleq.rl.training.best import load_best
from nimbleq.rl.training.sealed import read_sealed, write_sealed
from nimbleq.rl.training.state import load_state
from nimbleq.rl.training.train import train
from nimbleq.rundir import RunDir
from tests.rl.training.test_train import Stop

OFFSETS = 8  # per file, and the bytes around its ends and the borders of its header
KINDS = ("flip", "zero", "cut", "longer")


def damaged(data: bytes, kind: str, offset: int, bit: int) -> bytes:
    """``data`` with one damage; the same where sixteen zeros were there already."""
    if kind == "flip":
        return data[:offset] + bytes([data[offset] ^ (1 << bit)]) + data[offset + 1 :]
    if kind == "zero":
        size = min(16, len(data) - offset)
        return data[:offset] + bytes(size) + data[offset + size :]
    return data[:offset] if kind == "cut" else data + data[:1]


def damages(data: bytes, kind: str) -> Iterator[tuple[int, bytes]]:
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(0)
    ends = (0, 1, 7, 8, 9, header - 1, header, header + 1, len(data) - 16, len(data) - 1)
    for offset in sorted({*rng.integers(0, len(data), OFFSETS).tolist(), *ends}):
        if 0 <= offset < len(data):
            yield offset, damaged(data, kind, offset, int(rng.integers(8)))
        if kind == "longer":
            return


@pytest.fixture(scope="module", params=["vectors", "pictures"])
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """A checkpoint in the middle of a run, with a best network and a replay."""
    config = with_changes(TrainConfig(), {
        "network.hidden": (8,), "replay.capacity": 500, "replay.prioritized": True, "learner.batch_size": 16,
        "evaluation.every": 20, "evaluation.episodes": 2, "evaluation.final_episodes": 2, "envs": 4,
        "learn_start": 60, "env.max_episode_steps": 40, "evaluation.beside": False, "checkpoint_seconds": 1e9,
    })  # fmt: skip
    if request.param == "pictures":
        pictures = {
            "env.id": "benchmarks.corridor:small_pictures",
            "env.max_episode_steps": 20,
            "network.torso": "small",
        }
        config = with_changes(
            config, pictures | {"network.torso": "small", "network.normalize_obs": False, "learner.engine": "torch"}
        )
    run = RunDir(tmp_path_factory.mktemp("run"))
    with pytest.raises(KeyboardInterrupt):
        train(config, run, Stop(80))
    assert {path.name for path in run.checkpoint.iterdir()} >= {"state.safetensors", "best.safetensors"}
    assert any(path.suffix == ".log" for path in run.checkpoint.iterdir())
    return config, run.checkpoint


DAMAGED = [
    *(("vectors", kind) for kind in KINDS),
    ("pictures", "flip"),
    *(pytest.param("pictures", kind, marks=pytest.mark.long) for kind in KINDS if kind != "flip"),
]


@pytest.mark.parametrize(("stopped", "kind"), DAMAGED, indirect=["stopped"])
def test_no_damage_to_any_file_of_a_checkpoint_is_resumed_from(
    stopped: tuple[TrainConfig, Path], tmp_path: Path, kind: str
) -> None:
    config, good = stopped
    folder = tmp_path / "checkpoint"
    shutil.copytree(good, folder)
    tried = 0
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for offset, bad in damages(whole, kind):
            if bad == whole or (kind == "longer" and path.suffix == ".log"):  # what a killed process left: not read
                continue
            path.write_bytes(bad)
            with pytest.raises(FileError) as raised:
                load_state(config, folder)
            assert "\n" not in str(raised.value), (path.name, offset)
            assert str(path) in str(raised.value) or str(folder) in str(raised.value), (path.name, offset)
            tried += 1
        path.write_bytes(whole)
    assert tried >= (2 if kind == "longer" else 2 * OFFSETS)
    load_state(config, folder).envs.close()


def test_a_damaged_best_network_is_not_shipped(stopped: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    config, good = stopped
    spec = load_state(config, good).envs.spec
    path = tmp_path / "best.safetensors"
    whole = (good / path.name).read_bytes()
    path.write_bytes(whole)
    load_best(config, spec, path)
    for _, bad in damages(whole, "flip"):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=r"cannot read the best network .*best\.safetensors"):
            load_best(config, spec, path)


def test_every_byte_counts(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 0), np.int64)}
    write_sealed(path, arrays, {"said": 'a "sha256":"' + "0" * 64 + '" of its own'}, "the file")
    loaded, facts = read_sealed(path, "the file")
    assert facts == {"said": 'a "sha256":"' + "0" * 64 + '" of its own'}
    assert loaded.keys() == arrays.keys() == safetensors.numpy.load_file(path).keys()
    assert np.array_equal(loaded["a"], arrays["a"])
    whole = path.read_bytes()
    for offset in range(len(whole)):
        for bad in (*(damaged(whole, "flip", offset, bit) for bit in (0, offset % 7 + 1)), whole[:offset]):
            path.write_bytes(bad)
            with pytest.raises(FileError, match=r"^cannot read the file .*small\.safetensors"):
                read_sealed(path, "the file")


def test_a_file_that_nobody_sealed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(FileError, match="damaged or of an older nimbleq"):
        read_sealed(path, "the file")
