"""Planes by number: the code, references, and the native store against the one in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.rl.replay.frame_store import FrameStore, NumpyFrameStore, decode, encode, make_frame_store
from nimbleq.rl.replay.priority import replay_extension
from nimbleq.types import Array

Make = Callable[[int, bool], FrameStore]
MAKERS: list[Make] = [NumpyFrameStore, make_frame_store]  # numpy; C where it was compiled
NOBODY = np.array([-1], np.int32)


def scene(rng: np.random.Generator, count: int, pixels: int) -> Array:
    """``uint8[count, pixels]`` that change a little from one to the next, and now and then altogether."""
    planes = np.empty((count, pixels), np.uint8)
    plane = rng.integers(0, 256, pixels, np.uint8)
    for row in planes:
        changed = rng.random(pixels) < rng.choice([0.0, 0.03, 0.3, 1.0], p=[0.1, 0.7, 0.15, 0.05])
        plane = np.where(changed, rng.integers(0, 256, pixels, np.uint8), plane)
        row[:] = plane
    return planes


def put_in_a_row(store: FrameStore, images: Array) -> list[int]:
    ids = [-1]
    for image in images:
        ids.append(int(store.put(image[None], np.array(ids[-1:], np.int32))[0]))
    return ids[1:]


def whole(store: FrameStore) -> list[Array]:
    """All that a store knows: references and free numbers; then numbers, codes, lengths and keys of what is there."""
    references, spare = store.tables()
    ids = np.flatnonzero(references).astype(np.int32)
    codes, length, key = store.dump(ids)
    return [references, spare, ids, np.frombuffer(codes, np.uint8), length, key]


def load(store: FrameStore, parts: list[Array]) -> None:
    store.restore(*parts[:2])
    store.place(*parts[2:])
    store.settle()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), pixels=st.integers(1, 200))
def test_decoding_gives_back_what_was_encoded(seed: int, pixels: int) -> None:
    key, plane = scene(np.random.default_rng(seed), 2, pixels)
    code = encode(plane, key)
    assert np.array_equal(decode(np.frombuffer(code, np.uint8), key), plane)


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9_999), pixels=st.integers(1, 150), compress=st.booleans())
def test_the_native_store_is_the_numpy_one(seed: int, pixels: int, compress: bool) -> None:
    """The same calls give the same numbers, planes and bytes, also after both were saved and loaded."""
    rng = np.random.default_rng(seed)
    stores = [make(pixels, compress) for make in MAKERS]
    held: list[int] = []
    for image in scene(rng, 25, pixels):
        near = np.array([rng.choice(held) if held and rng.random() < 0.9 else -1], np.int32)
        first, second = (int(store.put(image[None], near)[0]) for store in stores)
        assert first == second
        held.append(first)
        if rng.random() < 0.3:
            again = np.array([rng.choice(held)] * 2, np.int32)
            held.extend(again.tolist())
            for store in stores:
                store.hold(again)
        while held and rng.random() < 0.45:
            gone = np.array([held.pop(rng.integers(len(held)))], np.int32)
            for store in stores:
                store.release(gone)
        if rng.random() < 0.1:
            dumps = [whole(store) for store in stores]
            assert all(np.array_equal(a, b) for a, b in zip(*dumps, strict=True))
            stores = [make(pixels, compress) for make in MAKERS]
            for store, parts in zip(stores, dumps, strict=True):
                load(store, parts)
        ids = np.array([held], np.int32)
        if held:
            assert np.array_equal(*(store.get(ids) for store in stores))
            assert np.array_equal(stores[1].get_pairs(ids, ids[:, ::-1])[1], stores[0].get(ids[:, ::-1]))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("compress", [False, True])
def test_planes_are_read_as_they_were_put(make: Make, compress: bool) -> None:
    images = scene(np.random.default_rng(0), 200, 77)
    store = make(77, compress)
    ids = put_in_a_row(store, images)
    assert np.array_equal(store.get(np.array([ids], np.int32))[0], images)


@pytest.mark.parametrize("make", MAKERS)
def test_a_key_lives_as_long_as_planes_that_need_it(make: Make) -> None:
    images = np.zeros((3, 400), np.uint8)
    images[1:, 7] = 9
    store = make(400, True)
    ids = np.array(put_in_a_row(store, images), np.int32)
    store.release(ids[:1])
    assert np.array_equal(store.get(ids[None, 1:])[0], images[1:])
    store.release(ids[1:])
    references, spare = store.tables()
    assert not references.any()
    assert sorted(spare) == [0, 1, 2]


@pytest.mark.parametrize("make", MAKERS)
def test_a_still_picture_costs_little_and_a_new_scene_gets_a_key(make: Make) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 1_000), np.uint8)
    images = np.repeat(np.stack([first, second]), 20, axis=0)
    images[np.arange(40), np.arange(40)] ^= 1
    images[20:, :700] = images[0, :700]  # close enough for the old key, much closer to one another
    store = make(1_000, True)
    put_in_a_row(store, images)
    *_, length, key = whole(store)
    assert (length == 1_000).sum() == 2
    assert (key == -1).sum() == 2
    assert np.sort(length)[-4:].tolist()[0] < 40  # but for the keys and the first of the new scene
    assert np.median(length) < 25


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damaged_dumps_are_refused_or_read_within_bounds(data: st.DataObject) -> None:
    store = make_frame_store(77, True)
    ids = put_in_a_row(store, scene(np.random.default_rng(1), 12, 77))
    store.release(np.array(ids[3:5], np.int32))
    parts = [np.array(part) for part in whole(store)]
    part = parts[data.draw(st.integers(0, 5))]
    where = data.draw(st.integers(0, len(part) - 1))
    part[where] = data.draw(st.integers(0, 255))
    other = make_frame_store(77, data.draw(st.booleans()))
    try:
        load(other, parts)
    except ValueError:
        return
    alive = np.flatnonzero(other.tables()[0]).astype(np.int32)
    assert other.get(alive[None]).shape == (1, len(alive), 77)
    for number in alive:
        other.release(np.array([number]))
    other.put(np.zeros((1, 77), np.uint8), NOBODY)


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
def test_a_key_with_fewer_references_than_planes_that_need_it_is_refused() -> None:
    store = make_frame_store(77, True)
    put_in_a_row(store, scene(np.random.default_rng(1), 12, 77))
    parts = [np.array(part) for part in whole(store)]
    references, keys = parts[0], parts[5]
    key = np.bincount(keys[keys >= 0]).argmax()
    needed = int((keys == key).sum())
    assert references[key] == needed + 1, "its own, and one of each plane that is coded as its difference from it"
    references[key] = needed - 1
    with pytest.raises(ValueError, match="contradict"):
        load(make_frame_store(77, True), parts)


@pytest.mark.skipif(replay_extension() is None, reason="not compiled")
def test_numbers_that_nobody_has_are_errors() -> None:
    store = make_frame_store(8, True)
    one = store.put(np.zeros((1, 8), np.uint8), NOBODY)
    for call in (store.hold, store.release, lambda ids: store.get(ids[None])):
        with pytest.raises(IndexError, match="no plane 5"):
            call(np.array([5], np.int32))
    with pytest.raises(IndexError, match="more often"):
        store.release(np.repeat(one, 2))
