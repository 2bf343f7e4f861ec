"""Checkpoints: whole or not at all."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from nimbleq.errors import FileError
from nimbleq.rl.training import sealed
from nimbleq.rl.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from nimbleq.rl.training.sealed import write_sealed

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4), np.int64),
    "slice": np.arange(20, dtype=np.uint8)[::2],
}
VALUES = {"state": 2**127 + 1, "mean": 0.1, "names": ["x"], "none": None}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "deep" / "er", ARRAYS, VALUES)
    arrays, values = load_checkpoint(tmp_path / "deep" / "er")
    assert values == VALUES
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype
        assert np.array_equal(arrays[name], value)


def test_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, ARRAYS, VALUES)

    def full(*args: object) -> None:
        Path(str(args[1])).write_bytes(b"half a che")
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(sealed, "save_file", full)
    with pytest.raises(FileError, match=r"No space left.*the one before it is unchanged"):
        save_checkpoint(tmp_path, ARRAYS, {"other": 1})
    assert load_checkpoint(tmp_path)[1] == VALUES
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, ARRAYS, VALUES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(FileError, match=r"cannot write the checkpoint .*File too large"):
            save_checkpoint(tmp_path, ARRAYS | {"big": np.zeros(1_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(tmp_path)[1] == VALUES
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_damage_and_the_future_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, ARRAYS, VALUES)
    path = tmp_path / "state.safetensors"
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"cannot read the checkpoint .*state\.safetensors"):
            load_checkpoint(tmp_path)
    write_sealed(path, ARRAYS, {"format": "9"}, "the checkpoint")
    with pytest.raises(FileError, match="format 9 and this nimbleq reads"):
        load_checkpoint(tmp_path)
    safetensors.numpy.save_file(ARRAYS | {"slice": np.zeros(1)}, path, {"format": "3", "values": "{}"})
    with pytest.raises(FileError, match="damaged or of an older nimbleq"):
        load_checkpoint(tmp_path)


WRITER = """
import sys, itertools
from pathlib import Path
import numpy as np
from nimbleq.rl.training.checkpoint import save_checkpoint
for count in itertools.count():
    save_checkpoint(Path(sys.argv[1]), {"a": np.full(300_000, count)}, {"count": count})
    print(count, flush=True)
"""


def test_killed_at_any_moment_a_whole_one_is_there(tmp_path: Path) -> None:
    for delay in (0.0, 0.003, 0.011):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with writer, writer.stdout:
            for _ in range(3):
                writer.stdout.readline()
            time.sleep(delay)
            os.kill(writer.pid, signal.SIGKILL)
        arrays, values = load_checkpoint(tmp_path)
        assert values["count"] >= 2
        assert (arrays["a"] == values["count"]).all()
    save_checkpoint(tmp_path, ARRAYS, VALUES)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
