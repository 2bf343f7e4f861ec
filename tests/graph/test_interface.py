"""Observations as the environment gives them: the network's input equals Gymnasium's own flat form, or is refused."""

import json
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.errors import FileError, ObservationError
from nimbleq.graph.interface import (
    MASKS,
    Interface,
    as_mask,
    describe,
    environment_action,
    mask_of,
    network_input,
)
from nimbleq.graph.interface_codec import from_dict, to_dict
from nimbleq.graph.space import Box, Dict, Discrete, MultiBinary, leaves
from nimbleq.rl.envs.observe import guesses, readings, space_of
from nimbleq.types import ObsSpec

VECTORS = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 6), st.integers(-3, 3)),
    st.builds(spaces.MultiBinary, st.lists(st.integers(1, 3), min_size=1, max_size=2)),
    st.builds(lambda n: spaces.MultiDiscrete(n), st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(
        lambda shape, dtype: spaces.Box(0, 9, shape, dtype),
        st.lists(st.integers(1, 4), max_size=3).map(tuple),
        st.sampled_from([np.float32, np.float64, np.uint8, np.int16, np.int64]),
    ),
)
SPACES = st.recursive(
    VECTORS,
    lambda inner: st.one_of(
        st.builds(lambda parts: spaces.Tuple(tuple(parts)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            spaces.Dict, st.dictionaries(st.text("abcxyz", min_size=1, max_size=2), inner, min_size=1, max_size=3)
        ),
    ),
    max_leaves=6,
)


def through_json(interface: Interface) -> Interface:
    return from_dict(json.loads(json.dumps(to_dict(interface), allow_nan=False)))


@given(space=SPACES, seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=200)
def test_vectors_equal_gymnasiums_flat_form(space: spaces.Space[Any], seed: int) -> None:
    interface = Interface(space_of(space), 3)
    space.seed(seed)
    again = pickle.loads(pickle.dumps(through_json(interface)))
    assert again == interface
    for _ in range(3):
        raw = space.sample()
        expected = spaces.flatten(space, raw).astype(np.float32)
        for one in (interface, again):
            ready = network_input(one, raw)
            assert ready.dtype == np.float32
            assert ready.shape == one.obs.shape == expected.shape
            assert np.array_equal(ready, expected)


PICTURES = [  # shape, dtype, high → what the network reads (the picture as it is seen: planes, height, width)
    ((64, 64, 3), np.uint8, 255, (3, 64, 64), "HWC"),
    ((3, 64, 64), np.uint8, 255, (3, 64, 64), "CHW"),
    ((4, 64, 64, 3), np.uint8, 255, (12, 64, 64), "SHWC"),
    ((4, 64, 64, 1), np.uint8, 255, (4, 64, 64), "SHWC"),
    ((2, 3, 64, 48), np.uint8, 255, (6, 64, 48), "SCHW"),
    ((4, 84, 84), np.uint8, 255, (4, 84, 84), "CHW"),
    ((84, 84), np.uint8, 255, (1, 84, 84), "HW"),
    ((8, 8, 111), bool, 1, (111, 8, 8), "HWC"),
    ((8, 8, 20), bool, 1, (20, 8, 8), "HWC"),
    ((19, 19, 17), bool, 1, (17, 19, 19), "HWC"),
    ((9, 9, 17), bool, 1, (17, 9, 9), "HWC"),
    ((119, 8, 8), bool, 1, (119, 8, 8), "CHW"),
    ((17, 9, 9), bool, 1, (17, 9, 9), "CHW"),
    ((10, 8, 16), np.uint8, 1, (16, 10, 8), "HWC"),
    ((10, 10, 10), bool, 1, (10, 10, 10), "HWC"),
    ((210, 160, 3), np.uint8, 255, (3, 210, 160), "HWC"),
    ((12, 64, 96), np.uint8, 255, (12, 64, 96), "CHW"),
    ((1, 40, 40), np.float32, 1, (1, 40, 40), "CHW"),
    ((40, 40, 1), np.float64, 1, (1, 40, 40), "HWC"),
    ((12, 12, 5), np.int64, 255, (5, 12, 12), "HWC"),
]


@pytest.mark.parametrize(("shape", "dtype", "high", "seen", "axes"), PICTURES, ids=lambda value: str(value))
def test_pictures_are_planes_of_pixels(shape: Any, dtype: Any, high: int, seen: Any, axes: str) -> None:
    space = spaces.Box(0, high, shape, dtype)
    interface = through_json(Interface(space_of(space), 2))
    whole = np.dtype(dtype).kind != "f"
    assert interface.obs == ObsSpec(seen, "uint8" if whole else "float32")
    raw = space.sample()
    ready = network_input(interface, raw)
    scale = 255 if whole and high == 1 else 1
    assert ready.dtype == interface.obs.dtype
    letters = {"HW": "hw", "CHW": "chw", "HWC": "hwc", "SHWC": "shwc", "SCHW": "schw"}[axes]
    planes = "sc" if "s" in letters else "c" if "c" in letters else ""
    expected = np.einsum(f"{letters}->{planes}hw", raw.astype(np.float64)).reshape(seen) * scale
    assert np.array_equal(ready, expected.astype(ready.dtype))


def test_channels_can_be_said_and_a_guess_is_told() -> None:
    board = spaces.Box(0, 1, (8, 8, 111), bool)
    assert Interface(space_of(board, "first"), 2).obs.shape == (8, 8, 111)
    assert list(guesses(space_of(board))) == [
        "the observation of shape (8, 8, 111) is seen as 111 planes of 8 × 8: "
        "--channels first if its channels come first"
    ]
    assert list(guesses(space_of(spaces.Box(0, 255, (84, 84, 4), np.uint8)))) == []
    camera = spaces.Box(-np.inf, np.inf, (3, 20, 24), np.float32)
    assert Interface(space_of(camera), 2).obs.shape == (3 * 20 * 24,)
    assert Interface(space_of(camera, "first"), 2).obs.shape == (3, 20, 24)
    assert list(guesses(space_of(camera))) == [
        "the observation of shape (3, 20, 24) has no bounds and is read as 1,440 numbers: --channels first if it is a "
        "picture"
    ]
    assert list(guesses(space_of(spaces.Box(-np.inf, np.inf, (3, 4, 5))))) == []
    assert readings((10, 10, 10)) == ["last", "first"]
    with pytest.raises(TypeError, match=r"uint8 of shape \(84, 84, 3, 4\), neither a picture nor a stack"):
        space_of(spaces.Box(0, 255, (84, 84, 3, 4), np.uint8))


def test_pictures_come_before_numbers() -> None:
    parts = {
        "a": spaces.Box(-1, 1, (2,)),
        "camera": spaces.Box(0, 255, (8, 9, 3), np.uint8),
        "gear": spaces.Discrete(3),
    }
    space = spaces.Dict(parts | {"depth": spaces.Box(0, 1, (1, 10, 10), np.float32)})
    interface = Interface(space_of(space), 2)
    assert interface.obs.pictures == (ObsSpec((3, 8, 9), "uint8"), ObsSpec((1, 10, 10), "float32"))
    raw = space.sample()
    expected = [raw["camera"].transpose(2, 0, 1).ravel(), raw["depth"].ravel(), raw["a"], np.eye(3)[raw["gear"]]]
    assert np.array_equal(network_input(interface, raw), np.concatenate(expected).astype(np.float32))
    assert describe(interface)[:4] == [
        "obs[0..215]: camera, picture uint8 8 x 9 x 3 (HWC) as 3 x 8 x 9 (CHW), uint8",
        "obs[216..315]: depth, picture float32 1 x 10 x 10 (CHW) as 1 x 10 x 10 (CHW), float32",
        "obs[316..317]: a, float32 2",
        "obs[318..320]: gear, one-hot of 0..2",
    ]


BYTES, BITS = spaces.Box(0, 255, (9, 9), np.uint8), spaces.Box(0, 1, (9, 9), bool)
ROBOT = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "gear": spaces.Discrete(3)})
PAIR = spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(3, start=-1)))
SPEED = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("space", "raw", "words"),
    [
        (ROBOT, {"speed": SPEED}, "the observation has no entry 'gear'"),
        (ROBOT, {"Speed": SPEED, "gear": 1}, r"no entry 'speed'.*\(it has Speed, gear\)"),
        (ROBOT, {"speed": None, "gear": 1}, "entry 'speed' is None, not numbers"),
        (ROBOT, {"speed": 0.5, "gear": 1}, r"entry 'speed' has the shape \(\), but its space has \(2,\)"),
        (ROBOT, {"speed": SPEED, "gear": "first"}, "entry 'gear' is the text 'first', not numbers"),
        (ROBOT, {"speed": SPEED, "gear": 1.7}, "entry 'gear' has the value 1.7, but its space holds int64"),
        (ROBOT, {"speed": SPEED, "gear": 3}, "entry 'gear' is 3, but its space goes from 0 to 2"),
        (ROBOT, {"speed": SPEED, "gear": [1, 2]}, r"entry 'gear' has the shape \(2,\)"),
        (ROBOT, {"speed": np.array([0, np.nan]), "gear": 1}, "entry 'speed' contains NaN"),
        (ROBOT, {"speed": np.array([0, 1e300]), "gear": 1}, "entry 'speed' contains infinity, or a value too large"),
        (ROBOT, np.zeros(5), "the observation is an array of float64 of shape .5,., but its space is a Dict of"),
        (ROBOT, None, "the observation is None, but"),
        (PAIR, (SPEED,), "the observation has 1 entries, but its space is a Tuple of 2"),
        (PAIR, (SPEED, 0, 1), "has 3 entries"),
        (PAIR, (SPEED, 2), r"entry '\[1\]' is 2, but its space goes from -1 to 1"),
        (BYTES, np.full((9, 9), 0.5), "has the value 0.5, but its space holds uint8"),
        (BYTES, np.full((9, 9), 256), "has the value 256, but its space holds uint8"),
        (BYTES, np.full((9, 9), -1), "has the value -1, but its space holds uint8"),
        (BYTES, np.zeros((9, 8), np.uint8), r"has the shape \(9, 8\), but its space has \(9, 9\)"),
        (BITS, np.full((9, 9), 255, np.uint8), "has the value 255, but its space holds bool"),
        (spaces.Box(0, 7, (9, 9), np.uint8), np.full((9, 9), 8, np.uint8), "the value 8, but .* from 0 to 7"),
        (spaces.Box(0, 1, (1, 9, 9)), np.full((1, 9, 9), 200.0), "has the value 200.0, but its space goes from 0 to 1"),
        (spaces.Box(0, 9, (3,), np.int32), np.array([1, 2.5, 3]), "has the value 2.5, but its space holds int32"),
        (spaces.MultiDiscrete([2, 3]), [1, 3], "is 3, but its space goes from 0 to 2"),
        (spaces.MultiBinary(2), [1, 2], "has the value 2, but its space holds bool"),
        (spaces.Box(-1, 1, (3,)), [[1, 2], [3]], "is a list, not numbers in an array"),
        (spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (3,)), "is a Box, not numbers"),
        (spaces.Box(-1, 1, (3,)), np.zeros((1, 3), np.float32), r"has the shape \(1, 3\)"),
        (spaces.Box(-1, 1, (3,)), np.zeros(3, complex), "not numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_space_is_refused_in_one_line(space: Any, raw: Any, words: str) -> None:
    with pytest.raises(ObservationError, match=words) as caught:
        network_input(Interface(space_of(space), 2), raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "raw", "expected"),
    [
        (ROBOT, {"speed": [0.5, -0.5], "gear": np.int64(1), "fuel": 1.0}, [0, 1, 0, 0.5, -0.5]),  # sorted by name
        (PAIR, [SPEED, np.array([-1])], [0, 0, 1, 0, 0]),
        (spaces.Discrete(3), np.array([2]), [0, 0, 1]),
        (spaces.Discrete(3), np.array(2.0), [0, 0, 1]),
        (spaces.Discrete(3), torch.tensor(1), [0, 1, 0]),
        (spaces.Box(-1, 1, (2,)), torch.ones(2, requires_grad=True), [1, 1]),
        (spaces.Box(-1, 1, (2,)), np.array([True, False]), [1, 0]),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([1.0, 255.0]), [1, 255]),
    ],
)
def test_what_says_the_same_is_taken(space: Any, raw: Any, expected: list[float]) -> None:
    assert network_input(Interface(space_of(space), 2), raw).tolist() == expected


def test_large_numbers_are_moved_before_they_become_float32() -> None:
    box = Box((2,), "float64", offset=(1.7e9, 0.0))
    interface = through_json(Interface(Dict((("time", box), ("n", Discrete(2)))), 2))
    ready = network_input(interface, {"time": [1.7e9 + 0.25, 3.0], "n": 1})
    assert ready.tolist() == [0.25, 3.0, 0.0, 1.0]
    assert not Interface(box, 2).plain


def test_whole_numbers_that_float64_cannot_hold_are_moved_exactly() -> None:
    now = 1_700_000_000_000_000_000  # nanoseconds since 1970: float64 keeps steps of 256
    box = Box((3,), "int64", offset=(float(now), 0.0, 0.5))
    raw = np.array([now + 123, 7, -(1 << 62)])
    assert network_input(Interface(box, 2), raw).tolist() == [123.0, 7.0, float(np.float32(-(2.0**62)))]
    far = Box((2,), "uint64", offset=(2.0**63 + 2048, 2.0**53))
    raw = np.array([(1 << 63) + 2047, (1 << 53) + 1], np.uint64)
    assert network_input(Interface(far, 2), raw).tolist() == [-1.0, 1.0]


def test_masked_values_are_refused_and_arrays_with_none_are_arrays() -> None:
    interface = Interface(space_of(spaces.Box(-9, 9, (3,))), 2)
    with pytest.raises(ObservationError, match="the observation has masked values"):
        network_input(interface, np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]))
    entry = Interface(space_of(spaces.Dict(a=spaces.Box(-9, 9, (2,)), b=spaces.Discrete(2))), 2)
    with pytest.raises(ObservationError, match="the observation's entry 'a' has masked values"):
        network_input(entry, {"a": np.ma.masked_equal([1.0, 2.0], 2.0), "b": 0})
    assert network_input(interface, np.ma.array([1.0, 2.0, 3.0])).tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ObservationError, match="masked values"):
        as_mask(interface, np.ma.array([1, 1], mask=[0, 1]))


def test_a_plain_vector_costs_nothing() -> None:
    interface = Interface(space_of(spaces.Box(-1, 1, (4,))), 2)
    raw = np.ones(4, np.float32)
    assert interface.plain
    assert interface.read(raw) is raw
    assert network_input(interface, raw) is raw
    assert Interface.of_spec(ObsSpec((5, 7)), 3).obs == ObsSpec((5, 7))
    assert Interface.of_spec(ObsSpec((5, 7), "uint8"), 3).obs == ObsSpec((5, 7), "uint8")
    assert Interface.of_spec(ObsSpec((5, 7)), 3).plain
    assert not Interface(space_of(spaces.Discrete(4)), 2).plain


def test_actions_are_the_environments() -> None:
    shifted = through_json(Interface(Discrete(2), 3, action_start=-1))
    assert [environment_action(shifted, index) for index in range(3)] == [-1, 0, 1]
    wrapped = gymnasium.wrappers.DiscretizeAction(gymnasium.make("Pendulum-v1"), 5)
    commands = np.stack([wrapped.action(index) for index in range(5)])
    pendulum = through_json(Interface(Discrete(2), 5, commands=commands))
    for index in range(5):
        command = environment_action(pendulum, index)
        assert isinstance(command, np.ndarray)
        assert command.dtype == np.float32
        assert np.array_equal(command, wrapped.action(index))


def masked(where: str, actions: int = 4, start: int = 0) -> Interface:
    name = where.partition(":")[2]
    space = Dict((("x", Discrete(2)), (name, MultiBinary((actions,))))) if where.startswith("obs:") else Discrete(2)
    return through_json(Interface(space, actions, start, mask=where))


@pytest.mark.parametrize("where", MASKS)
def test_masks_come_from_where_the_environment_gives_them(where: str) -> None:
    interface, (place, _, name) = masked(where), where.partition(":")
    flags: list[Any] = [
        [1, 0, 0, 1],
        np.array([1, 0, 0, 1], np.int8),
        np.array([True, False, False, True]),
        (1.0, 0, 0, 1.0),
    ]
    for value in [[0, 3], np.array([3, 0]), {0, 3}] if MASKS[where] else flags:
        raw: Any = {"x": 1, name: value} if place == "obs" else 1
        env = type("Env", (), {name: lambda self, value=value: value})() if place == "method" else None
        mask = mask_of(interface, raw, {name: value} if place == "info" else {}, env)
        assert mask is not None
        assert mask.tolist() == [True, False, False, True]
        assert network_input(interface, raw).tolist() == [0, 1]
    if place != "method":
        with pytest.raises(ObservationError, match=f"has no '{name}', which says which actions are legal"):
            mask_of(interface, {"x": 1}, {})


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("info:action_mask", [1, 0, 1], r"shape \(3,\): it must have a flag for each of 4 actions"),
        ("info:action_mask", np.flatnonzero([1, 1, 1, 1]), "values other than 0 and 1"),
        ("info:action_mask", np.array([0, -1e9, 0, 0]), "values other than 0 and 1"),
        ("info:action_mask", [1, 0, np.nan, 1], "values other than 0 and 1"),
        ("info:action_mask", None, "is None: it must be numbers"),
        ("info:action_mask", "1001", "is the text '1001'"),
        ("info:admissible_actions", [0, 4], "must list legal actions, each once, from 0 to 3"),
        ("info:admissible_actions", [1, 1], "each once"),
        ("info:admissible_actions", [0.5], "must list legal actions"),
    ],
)
def test_other_masks_are_refused(where: str, value: Any, words: str) -> None:
    with pytest.raises(ObservationError, match=words):
        as_mask(masked(where), value, "it")


def test_lists_of_legal_actions_use_the_environments_numbers() -> None:
    interface = masked("info:legal_actions", 3, start=-1)
    assert as_mask(interface, [-1, 1]).tolist() == [True, False, True]
    assert as_mask(interface, []).tolist() == [False, False, False]
    assert as_mask(interface, np.array([True, False, True])).tolist() == [True, False, True]  # flags say so themselves


def test_names_end_no_comment_of_emitted_code() -> None:
    interface = Interface(Dict((("a*/\nint x;", Discrete(2)), ("b", Discrete(2)))), 2)
    assert all("*/" not in line and "\n" not in line and line.isascii() for line in describe(interface))


def mutations(content: Any) -> list[Any]:
    """``content`` with one part replaced by something hostile, or taken away."""
    found: list[Any] = [None, 1, -1, 1 << 70, 1.5, float("inf"), "x", [], {}, [[]], True]
    if isinstance(content, dict):
        for key, value in content.items():
            found += [content | {key: other} for other in mutations(value)]
            found.append({name: other for name, other in content.items() if name != key})
        found.append(content | {"more": 1})
    if isinstance(content, list):
        for at, value in enumerate(content):
            found += [[*content[:at], other, *content[at + 1 :]] for other in mutations(value)]
            found.append(content[:at] + content[at + 1 :])
    return found


def test_a_hostile_file_is_refused_in_one_line_or_means_an_interface() -> None:
    space = spaces.Dict(
        {
            "a": spaces.Box(0, 255, (9, 9, 3), np.uint8),
            "b": spaces.Tuple((spaces.Discrete(2), spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,), np.float64))),
            "action_mask": spaces.MultiBinary(3),
        }
    )
    interface = Interface(space_of(space), 3, 1, np.eye(3, dtype=np.float32), "obs:action_mask")
    assert from_dict(to_dict(interface)) == interface
    refusals, taken = [], 0
    for content in mutations(to_dict(interface)):
        try:
            other = from_dict(content)
        except FileError as error:
            refusals.append(str(error))
        else:
            taken += 1
            assert from_dict(to_dict(other)) == other
            assert describe(other)
    assert len(refusals) > 500
    assert not any("\n" in line for line in refusals)
    assert taken > 0
    deep: Any = {"kind": "Discrete", "n": 2, "start": 0}
    for _ in range(5_000):
        deep = {"kind": "Tuple", "entries": [deep]}
    with pytest.raises(FileError, match="nested too deep"):
        from_dict({**to_dict(interface), "space": deep})


def test_every_leaf_is_found_in_order() -> None:
    assert [path for path, _ in leaves(space_of(ROBOT))] == [("gear",), ("speed",)]
