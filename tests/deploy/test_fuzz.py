"""Random graphs on every target that runs in seconds, all against the interpreter, shrunk where one disagrees.

``NIMBLEQ_FUZZ=500 python -m pytest -m targets tests/deploy/test_fuzz.py`` is a campaign; without it, it is short.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimbleq.deploy.agreement import tolerance
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify, verify_raw
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph.encodings import DENSE, ENCODINGS
from nimbleq.graph.formats import FORMATS
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interface import Interface
from nimbleq.graph.interpret import interpret
from nimbleq.graph.weight import Storage
from nimbleq.rl.envs.observe import space_of
from nimbleq.types import Array
from tests.deploy.c.test_freestanding import WARNINGS, answers
from tests.deploy.c.test_raw import SPACES, linear
from tests.deploy.c.test_sparse import thinned
from tests.graph.test_formats import held
from tests.strategies import Numbers, Observation, graphs, random_obs

EXAMPLES = int(os.environ.get("NIMBLEQ_FUZZ", "3"))
SECONDS = 120
"""An example may take at most: it is compiled for every target and run on it."""
pytestmark = [pytest.mark.targets, pytest.mark.timeout(900 + SECONDS * EXAMPLES)]
OTHERS = {"arduino", "verilog", "executorch", "onnx-qdq"}
"""Arduino's files are those of two others; Verilog has its own; torch takes ten seconds to lower a graph; QDQ is off
by a level."""
HERE = [name for name, row in TARGETS.items() if name not in OTHERS and not (row.cannot_emit() or row.cannot_open())]


def disagreements(graph: Graph) -> dict[str, int]:
    """Way to run → answers that are not the interpreter's."""
    golden = make_golden(graph, random_obs(np.random.default_rng(1), graph, 30))
    wrong: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in HERE:
            row, folder = TARGETS[name], Path(scratch, name)
            folder.mkdir()
            try:
                runs = row.open(Source(graph), row.emit(Source(graph), "net", row.options()), "net", folder)
            except UnsupportedOpError:
                continue
            result = verify(graph, golden, runs, 30, rounding=() if row.exact else runs.keys())
            wrong |= {one.target: one.mismatches for one in result.targets if one.mismatches}
    return wrong


def held_anyhow(graph: Graph, rng: np.random.Generator) -> Graph:
    """Some of its weights in other formats and encodings, with the values that those have."""
    for name in list(graph.weights):
        if rng.random() < 0.4:
            continue
        number = list(FORMATS.values())[rng.integers(len(FORMATS))]
        encoding = list(ENCODINGS.values())[rng.integers(len(ENCODINGS))]
        values = graph.weights[name]
        if encoding != DENSE:
            if values.ndim < 2:
                continue
            values = thinned(values)
        try:
            weights = {**graph.weights, name: held(values, number)}
            made = replace(graph, weights=weights, storage={**graph.storage, name: Storage(number, encoding)})
        except GraphError:  # not for this place
            continue
        graph = made if made.types == graph.types else graph
    return graph


@pytest.mark.parametrize("stored", [False, True], ids=["", "held anyhow"])
@pytest.mark.parametrize(("numbers", "obs"), [("int", "vector"), ("int", "image"), ("float", "any")])
def test_random_graphs_on_every_fast_target(numbers: Numbers, obs: Observation, stored: bool) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graphs(numbers, obs), st.integers(0, 2**32 - 1))
    def campaign(graph: Graph, seed: int) -> None:
        rng = np.random.default_rng(seed)
        assert not disagreements(held_anyhow(graph, rng) if stored else graph)

    campaign()


SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MEMCHECK = ("valgrind", "--quiet", "--error-exitcode=9")


@pytest.mark.parametrize(
    ("compiler", "flags", "under"),
    [
        ("gcc", (*SANITIZED, "-march=native"), ()),
        ("gcc", (*SANITIZED, "-DNQ_SCALAR"), ()),
        ("clang", ("-O2", "-march=native", "-Wcomma", "-Wunreachable-code"), ()),
        ("clang", (*SANITIZED, "-DNQ_SCALAR"), ()),
        ("gcc", ("-O2", "-g", "-mavx2", "-mfma", "-mbmi2"), MEMCHECK),
        ("gcc", ("-O2", "-g", "-DNQ_SCALAR"), MEMCHECK),
    ],
    ids=["gcc vectors", "gcc plain", "clang vectors", "clang plain", "valgrind vectors", "valgrind plain"],
)
@pytest.mark.parametrize("numbers", ["int", "float"])
def test_random_graphs_without_warnings_and_sanitized(
    numbers: Numbers, compiler: str, flags: tuple[str, ...], under: tuple[str, ...], tmp_path: Path
) -> None:
    """Every warning is an error, and so is what AddressSanitizer, UBSan and valgrind find in a program of its own."""
    for program in (compiler, *under[:1]):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graphs(numbers), st.integers(0, 2**32 - 1))
    def campaign(graph: Graph, seed: int) -> None:
        graph = held_anyhow(graph, np.random.default_rng(seed))
        obs = random_obs(np.random.default_rng(seed), graph, 20)
        action, q = answers(graph, obs, tmp_path, (*WARNINGS, *flags), compiler, under)
        wanted = interpret(graph, obs)
        if numbers == "int":
            np.testing.assert_array_equal(action, wanted[ACTION])
            np.testing.assert_array_equal(q, wanted[Q])
        else:
            assert (np.abs(q - wanted[Q]) <= tolerance(wanted[Q])).all()

    campaign()


NAMES = st.text("abz_ .9", min_size=1, max_size=4)
PARTS = st.sampled_from([space for name, space in SPACES.items() if name not in ("dict", "tuple")])
COMMANDS = (None, np.array([[-1.5, 0.25], [0.0, 1.0], [2.0, -3.0]]), np.array([[1], [3], [-2]], np.int16))


def test_random_interfaces_on_every_target() -> None:
    """What environments give and take, through each target that has the environment's side."""

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.dictionaries(NAMES, PARTS, min_size=1, max_size=3),
        st.sampled_from([0, -3, 7]),
        st.sampled_from(COMMANDS),
        st.sampled_from([None, "obs:legal", "info:legal"]),
    )
    def campaign(parts: dict[str, spaces.Space[Any]], start: int, commands: Array | None, mask: str | None) -> None:
        start = start if commands is None else 0
        parts = parts | ({"legal": spaces.MultiBinary(3)} if mask == "obs:legal" else {})
        interface = Interface(space_of(spaces.Dict(parts)), 3, action_start=start, commands=commands, mask=mask)
        source, wrong = Source(linear(interface), interface=interface), dict[str, int]()
        with tempfile.TemporaryDirectory() as scratch:
            for name in HERE:
                row, folder = TARGETS[name], Path(scratch, name)
                folder.mkdir()
                if row.raw is None:
                    continue
                try:
                    files = row.emit(source, "net", row.options())
                except UnsupportedOpError:
                    continue
                results = verify_raw(source, row.raw(source, files, "net", folder), 40)
                wrong |= {one.target: one.mismatches for one in results if one.mismatches}
        assert not wrong

    campaign()
