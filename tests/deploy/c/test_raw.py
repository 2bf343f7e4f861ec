"""Raw observations through C and through `Runtime`: the same network input, the same actions, the same refusals."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbleq.deploy.export import export
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.raw import emit_raw
from nimbleq.deploy.targets.c.raw_call import RawPolicy
from nimbleq.deploy.toolchain import compile_library, find_compiler
from nimbleq.errors import ObservationError
from nimbleq.graph import ops
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.frames import Frames, FrameStack
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interface import Interface, network_input
from nimbleq.graph.inverse import raw_of
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.space import Box, leaves
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.rl.envs.observe import space_of

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wundef", "-Wfloat-equal", "-Wshadow", "-Werror")
ACTIONS = 4


def linear(interface: Interface) -> Graph:
    """Random weights, so that every value of the network's input counts."""
    rng = np.random.default_rng(0)
    kind = TensorType(interface.obs.shape, *([UINT8] if interface.obs.dtype == "uint8" else []))
    weight = rng.normal(size=(interface.actions, kind.size)).astype(np.float32)
    nodes = [
        Node(ops.Flatten(), ("obs",), "flat"),
        Node(ops.Linear("w"), ("flat",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    ]
    graph = Graph({"obs": kind}, tuple(nodes), (Q, ACTION), {"w": weight})
    return with_mask(graph) if interface.mask else graph


def built(interface: Interface, folder: Path, flags: tuple[str, ...] = ("-O1",)) -> tuple[Graph, RawPolicy]:
    graph = linear(interface)
    texts = emit_c(graph, "policy", interface=interface) | emit_raw(graph, "policy", interface)
    library = folder / f"policy{len(list(folder.iterdir()))}.so"
    assert COMPILER is not None
    compile_library(texts, library, COMPILER, (*WARNINGS, *flags))
    return graph, RawPolicy(library, "policy", graph, interface)


def same(policy: RawPolicy, runtime: Runtime, interface: Interface, raw: Any, mask: Any = None) -> bool:
    """Whether both answer alike; also whether the network's input is the same, bit for bit."""
    try:
        want: Any = runtime.act(raw, mask) if mask is not None else runtime.act(raw)
    except ObservationError:
        return policy.act(raw, mask) is None
    got = policy.act(raw, mask)
    np.testing.assert_array_equal(
        policy.obs.view(np.uint8), np.ascontiguousarray(network_input(interface, raw)).view(np.uint8)
    )
    np.testing.assert_array_equal(got, want)
    return True


BOX = spaces.Box
SPACES: dict[str, spaces.Space[Any]] = {
    "bool picture, channels last": BOX(0, 1, (10, 9, 5), np.bool_),
    "bool picture, channels first": BOX(0, 1, (3, 8, 11), np.bool_),
    "bytes, channels last": BOX(0, 255, (9, 12, 3), np.uint8),
    "bytes, channels first": BOX(0, 255, (2, 9, 12), np.uint8),
    "grey": BOX(0, 255, (12, 9), np.uint8),
    "stack of colour": BOX(0, 255, (3, 9, 12, 3), np.uint8),
    "stack of planes": BOX(0, 255, (3, 2, 9, 12), np.uint8),
    "few levels": BOX(0, 9, (9, 9, 2), np.int64),
    "bits of integers": BOX(0, 1, (9, 9, 2), np.int32),
    "float picture": BOX(-1.5, 1, (9, 9, 2), np.float32),
    "double picture": BOX(-1.5, 1, (9, 9, 2), np.float64),
    "half picture": BOX(-1.5, 1, (9, 9, 2), np.float16),
    "doubles": BOX(-1e3, 1e3, (3, 2), np.float64),
    "halves": BOX(-np.inf, np.inf, (7,), np.float16),
    "flags": BOX(0, 1, (5,), np.bool_),
    "int8": BOX(-128, 127, (5,), np.int8),
    "int64": BOX(-(2**62), 2**62, (5,), np.int64),
    "uint64": BOX(0, 2**62, (5,), np.uint64),
    "index": spaces.Discrete(7),
    "index from -3": spaces.Discrete(7, start=-3),
    "index from far": spaces.Discrete(3, start=2**40),
    "digits": spaces.MultiDiscrete([[3, 2], [5, 4]], start=[[-1, 0], [7, 2]]),
    "bits": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict({
        "speed": BOX(-9, 9, (2,), np.float64), "gear": spaces.Discrete(3, start=-1), "float": BOX(0, 1, (1,)),
        "camera": BOX(0, 255, (9, 9, 3), np.uint8), "int32_t": spaces.MultiBinary(2),
        "4 + */": spaces.MultiDiscrete([2, 3]),
        "class": spaces.Dict({"bad": BOX(0, 1, (9, 8, 2), np.bool_), "obs": BOX(-5, 5, (2, 2), np.int16)}),
    }),
    "tuple": spaces.Tuple((spaces.Discrete(3), BOX(-1, 1, (2,)), BOX(0, 255, (8, 8), np.uint8))),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_every_kind_of_observation(name: str, tmp_path: Path) -> None:
    space = SPACES[name]
    space.seed(1)
    interface = Interface(space_of(space), ACTIONS)
    graph, policy = built(interface, tmp_path)
    runtime = Runtime(graph, "numpy", interface=interface)
    seen = set()
    for _ in range(60):
        raw = space.sample()
        assert same(policy, runtime, interface, raw)
        seen.add(policy.act(raw))
    assert len(seen) > 1 or name == "index from far"
    for bad in outside(space):
        assert same(policy, runtime, interface, bad), bad


def outside(space: spaces.Space[Any]) -> list[Any]:
    """Observations just inside and outside of a space, at its ends, and not finite."""
    match space:
        case spaces.Discrete():
            return [space.start - 1, space.start + space.n, space.start, space.start + space.n - 1]
        case spaces.MultiDiscrete():
            ends = [space.start, space.start + space.nvec - 1]
            return [*ends, ends[0] - 1, ends[1] + 1]
        case spaces.MultiBinary():
            return [np.ones(space.shape, np.int8), np.full(space.shape, 2, np.int8)]
        case spaces.Box() if space.dtype.kind == "f":
            made = [np.full(space.shape, value, space.dtype) for value in (-1.5, 1, -1.6, 1.1, 0, 60000)]
            for value in (np.nan, np.inf, -np.inf, -1.5 - 2e-5, 1 + 2e-5, 1 + 3e-5, 6e-8):
                made.append(made[4].copy())
                made[-1].flat[1] = value
            return made
        case spaces.Box() if space.dtype.kind in "iu":
            ends = np.iinfo(space.dtype)
            return [np.full(space.shape, value, space.dtype) for value in {ends.min, ends.max, 0, 1, 2, 9, 10, 100}]
    return []


def test_offsets_of_large_numbers(tmp_path: Path) -> None:
    for dtype in ("int64", "uint64", "int32", "float64", "float32", "float16"):
        offset = (1.7e18, 0.5, -3.25, 2.0**53 + 2) if dtype.endswith("64") else (1000.0, 0.5, -3.25, 7.0)
        interface = Interface(Box((4,), dtype, offset=offset), ACTIONS)
        graph, policy = built(interface, tmp_path)
        runtime, rng = Runtime(graph, "numpy", interface=interface), np.random.default_rng(0)
        near = np.array(offset)
        for scale in (1.0, 1e3, 1e9, 1e17)[: None if dtype.endswith("64") else 2]:
            for _ in range(20):
                raw = near + rng.normal(size=4) * scale
                raw = np.abs(raw) if dtype == "uint64" else raw
                assert same(policy, runtime, interface, raw.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_commands_and_starts(dtype: str, tmp_path: Path) -> None:
    commands = np.random.default_rng(0).uniform(1, 9, (ACTIONS, 3)).astype(dtype)
    space = space_of(BOX(-1, 1, (5,)))
    for more in ({"commands": commands}, {"action_start": -2}, {"action_start": 2**40}, {"action_start": 7}):
        interface = Interface(space, ACTIONS, **more)
        graph, policy = built(interface, tmp_path)
        runtime, rng = Runtime(graph, "numpy", interface=interface), np.random.default_rng(0)
        for _ in range(30):
            assert same(policy, runtime, interface, rng.uniform(-1, 1, 5).astype(np.float32))
        assert same(policy, runtime, interface, np.full(5, np.nan, np.float32))


@pytest.mark.parametrize("place", ["obs:action_mask", "info:action_mask", "info:legal_actions"])
def test_masks(place: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inside = {"x": BOX(-1, 1, (3,)), "at": spaces.Discrete(3)}
    held = place.startswith("obs")
    space = spaces.Dict({**inside, **({"action_mask": spaces.MultiBinary(ACTIONS)} if held else {})})
    interface = Interface(space_of(space), ACTIONS, action_start=1, mask=place)
    graph, policy = built(interface, tmp_path)
    runtime = Runtime(graph, "numpy", interface=interface)
    for _ in range(40):
        mask = rng.integers(0, 2, ACTIONS).astype(np.int8)
        raw = {name: part.sample() for name, part in inside.items()}
        if held:
            assert same(policy, runtime, interface, {**raw, "action_mask": mask})
            continue
        flags = mask.astype(bool)
        if not flags.any():
            assert policy.act(raw, flags) is None
            continue
        assert policy.act(raw, flags) == runtime.act(raw, flags)


@pytest.mark.parametrize(
    ("height", "colours"),
    [(210, 3), (250, 1), *(pytest.param(*case, marks=pytest.mark.long) for case in ((210, 1), (250, 3)))],
)
def test_screens_of_a_console(height: int, colours: int, tmp_path: Path) -> None:
    frames = Frames(height, 160, colours)
    interface = Interface(Box((4, 84, 84), "uint8", 0, 255, "CHW"), ACTIONS, frames=frames)
    graph, policy = built(interface, tmp_path, ("-O3", "-march=native", "-ffp-contract=fast"))
    runtime, rng = Runtime(graph, "numpy", interface=interface), np.random.default_rng(0)
    levels = np.array([0, 64, 95, 142, 200, 255], np.uint8)
    for _ in range(2):
        stack = FrameStack(frames, (4, 84, 84))
        policy.reset()
        for step in range(6):
            pair = [rng.choice(levels, (height // 2, 80, *frames.shape[2:])).repeat(2, 0).repeat(2, 1) for _ in "ab"]
            pair = [pair[0], pair[0]] if step == 0 else pair
            want = stack.reset(pair[0]) if step == 0 else stack.push(*pair)
            assert policy.act(pair) == runtime.act(want)
            np.testing.assert_array_equal(policy.obs, want)


def test_plain_interfaces_need_nothing() -> None:
    interface = Interface(space_of(BOX(-1, 1, (5,))), ACTIONS)
    assert emit_raw(linear(interface), "policy", interface) == {}
    assert emit_raw(linear(interface), "policy", None) == {}


@settings(max_examples=12, deadline=None)
@given(st.data())
@pytest.mark.long
def test_random_dicts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    names = st.text("abz_ .9", min_size=1, max_size=4)
    parts = st.sampled_from([space for name, space in SPACES.items() if name not in ("dict", "tuple")])
    inner = st.dictionaries(names, parts, min_size=1, max_size=3)
    space = spaces.Dict(data.draw(inner) | {"more": spaces.Dict(data.draw(inner))})
    space.seed(data.draw(st.integers(0, 99)))
    interface = Interface(space_of(space), ACTIONS)
    assert len(leaves(interface.space)) >= 2
    graph, policy = built(interface, tmp_path_factory.mktemp("raw"), ("-O0",))
    runtime = Runtime(graph, "numpy", interface=interface)
    for _ in range(5):
        assert same(policy, runtime, interface, space.sample())


def test_it_is_freestanding_and_a_header_of_cpp_too(tmp_path: Path) -> None:
    interface = Interface(space_of(SPACES["dict"]), ACTIONS, action_start=-1)
    graph = linear(interface)
    for name, text in (emit_c(graph, "policy", interface=interface) | emit_raw(graph, "policy", interface)).items():
        (tmp_path / name).write_text(text)
    assert COMPILER is not None
    strict = [
        COMPILER,
        "-std=c99",
        *WARNINGS,
        "-ffreestanding",
        "-nostdlib",
        "-c",
        "policy_raw.c",
        "-o",
        "policy_raw.o",
    ]
    subprocess.run(strict, cwd=tmp_path, check=True, capture_output=True, text=True)
    undefined = subprocess.run(
        ["nm", "-u", "policy_raw.o"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert {line.split()[-1] for line in undefined.splitlines()} <= {"policy_act", "memset", "memcpy", "memmove"}
    # A C++ program may include the header, whatever the entries are called.
    (tmp_path / "m.cc").write_text(
        '#include "policy_raw.h"\nint main() { policy_state s; policy_reset(&s); return 0; }\n'
    )
    subprocess.run(["c++", "-fsyntax-only", "-Wall", "-Werror", "m.cc"], cwd=tmp_path, check=True)


SELF_TESTED = [
    ("dict", "obs:action_mask"),
    ("bool picture, channels last", None),
    ("stack of colour", "info:action_mask"),
    ("index from -3", None),
    ("doubles", "obs:action_mask"),
]
"""Every kind of observation and every place of the mask."""
OTHERS = [
    pytest.param(name, mask, marks=pytest.mark.long)
    for name in dict(SELF_TESTED)
    for mask in (None, "obs:action_mask", "info:action_mask")
    if (name, mask) not in SELF_TESTED
]


@pytest.mark.parametrize(("name", "mask"), [*SELF_TESTED, *OTHERS])
def test_the_self_test_takes_observations_as_the_environment_gives_them(
    name: str, mask: str | None, tmp_path: Path
) -> None:
    space = SPACES[name]
    if mask == "obs:action_mask":
        inside = space.spaces if isinstance(space, spaces.Dict) else {"one": space}
        space = spaces.Dict({**inside, "action_mask": spaces.MultiBinary(ACTIONS)})
    space.seed(1)
    interface = Interface(space_of(space), ACTIONS, action_start=3, mask=mask)
    graph = linear(interface)
    obs = np.stack([network_input(interface, space.sample()) for _ in range(12)])
    save_artefact(tmp_path / "a", graph, obs, {}, interface=interface)
    for one in obs:
        raw = raw_of(interface, one)
        given = {**raw, "action_mask": 0} if mask == "obs:action_mask" else raw
        np.testing.assert_array_equal(network_input(interface, given), one)
    export(tmp_path / "a", ("c", "arduino"), tmp_path / "build")
    build = tmp_path / "build"
    (build / "main.c").write_text(
        '#include "policy_selftest.h"\n#include <stdio.h>\n'
        "int main(void) { char line[POLICY_SELFTEST_LINE]; int n = policy_selftest(line);\nputs(line); return n; }\n"
    )
    assert "policy_act_raw(&state, &raw" in (build / "policy_selftest.c").read_text()
    sources = ["main.c", "policy.c", "policy_raw.c", "policy_selftest.c"]
    assert COMPILER is not None
    subprocess.run([COMPILER, "-std=c99", "-O1", *WARNINGS, *sources, "-o", "run"], cwd=build, check=True)
    done = subprocess.run([build / "run"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(" golden vectors, 0 mismatches\n")
    assert " 0 golden" not in done.stdout
    assert (build / "arduino/src/policy_raw.c").exists()
    if name in ("dict", "index from -3"):
        assert example_says(build) == "action"


def example_says(build: Path) -> str:
    """The first word that the example says."""
    sources = ["example.c", "policy.c", "policy_raw.c"]
    assert COMPILER is not None
    subprocess.run([COMPILER, "-std=c99", *WARNINGS, *sources, "-o", "example"], cwd=build, check=True)
    return subprocess.run([build / "example"], capture_output=True, text=True, check=True).stdout.split()[0]


def test_the_example_takes_screens(tmp_path: Path) -> None:
    interface = Interface(Box((2, 21, 16), "uint8", 0, 255, "CHW"), ACTIONS, frames=Frames())
    source = Source(linear(interface), interface=interface)
    for name, data in TARGETS["c"].emit(source, "policy", TARGETS["c"].options()).items():
        (tmp_path / name).write_bytes(data)
    assert example_says(tmp_path) == "action"
