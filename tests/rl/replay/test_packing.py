"""Observations of two values in replay: a bit each, and what is drawn is what was added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.config import ReplayConfig
from nimbleq.errors import EnvError
from nimbleq.rl.replay import packing
from nimbleq.rl.replay.packing import Packing, packs
from nimbleq.rl.replay.ring import Replay
from nimbleq.types import Array, ObsSpec, Step

PLANES = ObsSpec((4, 10, 10), "uint8", bits=((0, 400),))
ONE_HOT = ObsSpec((37,), bits=((0, 37),))
MIXED = ObsSpec((30,), pictures=(ObsSpec((1, 3, 4), "uint8"), ObsSpec((1, 2, 3), "uint8")), bits=((0, 12), (20, 27)))


def draw(spec: ObsSpec, count: int, rng: np.random.Generator) -> Array:
    obs = rng.normal(size=(count, spec.size)).astype(np.float32)
    obs[:, : spec.pixels] = rng.integers(0, 256, (count, spec.pixels))
    for start, stop in spec.bits:
        obs[:, start:stop] = (rng.random((count, stop - start)) < 0.3) * spec.top(start)
    return obs.astype(spec.dtype).reshape(count, *spec.shape)


@pytest.mark.parametrize(("spec", "size"), [(PLANES, 50), (ONE_HOT, 5), (MIXED, 3 + 6 + 4 * 5)])
@pytest.mark.parametrize("native", [True, False])
def test_nothing_is_lost(spec: ObsSpec, size: int, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(packing, "_NATIVE", None)
    obs = draw(spec, 9, np.random.default_rng(0))
    packed = Packing(spec).pack(obs)
    assert (packed.shape, packed.dtype) == ((9, size), np.uint8)
    back = Packing(spec).unpack(packed)
    assert back.dtype == obs.dtype
    np.testing.assert_array_equal(back, obs)


@given(st.integers(0, 40), st.integers(1, 70), st.booleans(), st.integers(0, 99))
def test_c_and_numpy_pack_alike(rows: int, count: int, whole: bool, seed: int) -> None:
    there = np.random.default_rng(seed).random((rows, count)) < 0.4
    values = there * np.uint8(255) if whole else there.astype(np.float32)
    packed = packing.pack(values, 255.0 if whole else 1.0)
    np.testing.assert_array_equal(packed, np.packbits(there, axis=1, bitorder="little"))
    np.testing.assert_array_equal(packing.unpack(packed, count, whole), values)


@pytest.mark.parametrize("native", [True, False])
def test_a_third_value_is_refused(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(packing, "_NATIVE", None)
    for spec, value in ((PLANES, 254), (ONE_HOT, 0.5), (ONE_HOT, np.nan), (MIXED, 1)):
        obs = draw(spec, 3, np.random.default_rng(0))
        obs[(1, *[0] * len(spec.shape))] = value
        with pytest.raises(EnvError, match="two values"):
            Packing(spec).pack(obs)


def test_what_is_packed() -> None:
    assert packs(PLANES)
    assert not packs(ObsSpec((4, 84, 84), "uint8", bits=((0, 28224),))), "shared frames take less"
    assert not packs(ObsSpec((30,), bits=((0, 3),))), "it would cost more time than it saves bytes"
    assert not packs(ObsSpec((4, 10, 10), "uint8"))


@pytest.mark.parametrize("spec", [PLANES, ONE_HOT])
def test_a_replay_gives_back_what_it_got(spec: ObsSpec) -> None:
    """Every transition beside those of a replay that knows of no bits."""
    config, rng = ReplayConfig(capacity=50, n_step=3, compress=False), np.random.default_rng(0)
    plain = ObsSpec(spec.shape, spec.dtype)
    replays = [Replay(config, 0.9, 3, one) for one in (spec, plain)]
    obs = draw(spec, 3, rng)
    for _ in range(40):
        following = draw(spec, 3, rng)
        ended, cut = rng.random(3) < 0.1, rng.random(3) < 0.1
        step = Step(obs, rng.integers(0, 4, 3), rng.random(3).astype(np.float32), ended, cut & ~ended, following)
        for replay in replays:
            replay.add(step)
        obs = following
    batches = [replay.sample(np.random.default_rng(1), 64) for replay in replays]
    for got, want in zip(*(batch._replace(reward=np.round(batch.reward, 5)) for batch in batches), strict=True):
        np.testing.assert_array_equal(got, want)  # (one sums rewards in C, the other in numpy)
    stored = replays[0].store.obs
    assert stored.nbytes == 50 * -(-spec.size // 8)
    again = Replay(config, 0.9, 3, spec)
    again.load_arrays(replays[0].arrays())
    again.load_rows(again.added - again.size, replays[0].rows(again.added - again.size, again.size))
    for got, want in zip(again.sample(np.random.default_rng(2), 9), replays[0].sample(np.random.default_rng(2), 9),
                         strict=True):  # fmt: skip
        np.testing.assert_array_equal(got, want)
