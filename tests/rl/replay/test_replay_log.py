"""The replay on disk: whole after any number of checkpoints and at any moment, and only what is new is written."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.config import ReplayConfig
from nimbleq.errors import FileError
from nimbleq.rl.replay import disk_log as replay_log
from nimbleq.rl.replay.disk_log import ReplayLog, load_replay
from nimbleq.rl.replay.ring import Replay
from nimbleq.types import ObsSpec
from tests.rl.replay.test_frames import GAMMA, SIZE, Pictures, without_extension
from tests.rl.saved import assert_same_arrays, through_disk, whole

ENVS, CHANNELS = 2, 3
ALIVE = [(False, False)] * ENVS


def make(config: ReplayConfig) -> Replay:
    return Replay(config, GAMMA, ENVS, ObsSpec((CHANNELS, *SIZE), "uint8"))


def loaded(config: ReplayConfig, replay: Replay, log: ReplayLog, listed: object) -> Replay:
    other = make(config)
    load_replay(other, replay.arrays(), listed, log.folder)
    return other


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@settings(max_examples=15)
@given(data=st.data(), compress=st.booleans(), native=st.booleans(), seed=st.integers(0, 99))
def test_any_checkpoint_of_many_is_whole(data: st.DataObject, compress: bool, native: bool, seed: int) -> None:
    """The state is not always written after the replay was (a kill), and training goes on from either."""
    config = ReplayConfig(capacity=data.draw(st.integers(6, 60)), n_step=2, prioritized=True, compress=compress)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        if not native:
            without_extension(patch)
        patch.setattr(replay_log, "_CHUNK", data.draw(st.integers(1, 20)))
        patch.setattr(replay_log.os, "fsync", lambda _: None)  # no power fails here
        folder, pictures = Path(name), Pictures(ENVS, CHANNELS, seed, colour=False)
        replay = make(config)
        log = ReplayLog(folder)
        arrays, listed, expected = replay.arrays(), log.append(replay), whole(replay)
        for _ in range(data.draw(st.integers(1, 12))):
            for _ in range(data.draw(st.integers(0, 25))):
                replay.add(pictures.step([(pictures.rng.random() < 0.1, False)] * ENVS))
            what = data.draw(st.sampled_from(["saved", "saved", "killed before the state", "killed before pruning"]))
            fresh = replay.arrays(), log.append(replay), whole(replay)
            if what == "saved":
                log.prune()
            if what != "killed before the state":
                arrays, listed, expected = fresh
            if what != "saved":  # another process goes on from the last state
                replay = make(config)
                log = load_replay(replay, arrays, listed, folder)
            assert_same_arrays(whole(replay), expected)
            assert_same_arrays(whole(loaded(config, *(Replayed(arrays), log, listed))), expected)


class Replayed(Replay):
    """The arrays of a replay that is gone."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def arrays(self) -> dict[str, np.ndarray]:
        return self._arrays


@pytest.mark.parametrize("compress", [True, False])
def test_only_what_is_new_is_written_and_what_is_old_is_deleted(tmp_path: Path, compress: bool) -> None:
    config = ReplayConfig(capacity=400, n_step=2, compress=compress)
    replay, pictures, log = make(config), Pictures(ENVS, CHANNELS, 0, colour=False), ReplayLog(tmp_path)
    written, sizes = [], []
    for _ in range(60):
        before = {path: path.stat().st_size for path in tmp_path.iterdir()}
        for _ in range(10):
            replay.add(pictures.step(ALIVE))
        listed = log.append(replay)
        written.append(sum(path.stat().st_size - before.get(path, 0) for path in tmp_path.iterdir()))
        log.prune()
        sizes.append(size(tmp_path))
        assert size(tmp_path) == sum(entry["size_bytes"] for entry in listed)
    full = sizes[-1]
    assert max(written[30:]) < full / 5, "a twentieth of the ring was new, each time"
    assert max(sizes[30:]) < 1.2 * min(sizes[30:]), "the folder stops growing when the ring is full"
    complete = tmp_path / "complete"
    ReplayLog(complete).append(make_whole(replay, tmp_path, listed, config))
    assert full < 1.35 * size(complete)


def make_whole(replay: Replay, folder: Path, listed: object, config: ReplayConfig) -> Replay:
    """A copy of which nothing is on disk."""
    other = make(config)
    load_replay(other, replay.arrays(), listed, folder)
    assert other.frames is not None
    other.frames.segment[:] = -1
    return other


def saved(folder: Path, config: ReplayConfig) -> tuple[Replay, object]:
    replay, pictures = make(config), Pictures(ENVS, CHANNELS, 0, colour=False)
    for _ in range(30):
        replay.add(pictures.step(ALIVE))
    return replay, ReplayLog(folder).append(replay)


def test_a_full_disk_leaves_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ReplayConfig(capacity=400, n_step=2)
    replay, pictures, log = make(config), Pictures(ENVS, CHANNELS, 0, colour=False), ReplayLog(tmp_path)
    for _ in range(20):
        replay.add(pictures.step(ALIVE))
    arrays, listed, expected = replay.arrays(), log.append(replay), whole(replay)
    for _ in range(20):
        replay.add(pictures.step(ALIVE))
    records = iter(range(2))

    def full(handle: int) -> None:
        if next(records, None) is None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(replay_log, "_CHUNK", 5)
        patch.setattr(replay_log.os, "fsync", full)
        with pytest.raises(FileError, match=r"No space left.*the checkpoint before it is unchanged"):
            log.append(replay)
    assert_same_arrays(whole(loaded(config, Replayed(arrays), log, listed)), expected)
    again = log.append(replay)  # space was made
    assert_same_arrays(whole(loaded(config, replay, log, again)), whole(replay))


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    config = ReplayConfig(capacity=400, n_step=2)
    replay, listed = saved(tmp_path, config)
    [path] = [path for path in tmp_path.iterdir() if path.name.endswith("0.log")]
    good, log = path.read_bytes(), ReplayLog(tmp_path)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (bytes(flipped), good[:-3], good[:4], b"", b"\xff" * len(good)):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=r"replay.* is damaged|cannot read .*replay-000000\.log"):
            loaded(config, replay, log, listed)
    path.unlink()
    with pytest.raises(FileError, match=r"cannot read .*replay-000000\.log"):
        loaded(config, replay, log, listed)
    path.write_bytes(good)
    for nonsense in ([{"serial": "x"}], [{"size": 3}], listed[1:] if isinstance(listed, list) else None, 3):
        with pytest.raises(FileError, match="is damaged"):
            loaded(config, replay, log, nonsense)


def test_a_new_run_in_an_old_folder_spares_the_old_files_until_its_own_state_is_there(tmp_path: Path) -> None:
    config = ReplayConfig(capacity=400, n_step=2)
    replay, listed = saved(tmp_path, config)
    expected = whole(replay)
    other, its = saved(tmp_path, config)
    assert_same_arrays(whole(loaded(config, replay, ReplayLog(tmp_path), listed)), expected)
    assert_same_arrays(whole(loaded(config, other, ReplayLog(tmp_path), its)), whole(other))


def test_vectors_and_masks_too(tmp_path: Path) -> None:
    config = ReplayConfig(capacity=50, n_step=2)
    rng = np.random.default_rng(0)
    replay, empty = (Replay(config, GAMMA, ENVS, ObsSpec((4,)), masks=3) for _ in range(2))
    for name, kept in replay.store._asdict().items():
        kept[:] = rng.random(kept.shape) * 9 if name != "next_mask" else rng.random(kept.shape) < 0.5
    replay.added = 1_030
    assert_same_arrays(whole(through_disk(replay, empty, tmp_path)), whole(replay))
    assert np.array_equal(empty.store.obs, replay.store.obs)
    with pytest.raises(FileError, match="another shape"):
        through_disk(replay, Replay(config, GAMMA, ENVS, ObsSpec((4,)), masks=2), tmp_path / "other")
