"""Real-time properties in short: what a decision does besides deciding, and that what is forbidden would be noticed."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cases.realtime import NETWORKS, observations
from benchmarks.networks import mlp
from benchmarks.realtime.measure import (
    CannotMeasureError,
    Program,
    allocations_and_locks,
    instructions,
    portable,
    stack,
    times,
)
from nimbleq.deploy.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(scope="module", params=["4-64-64-2", "4-64-64-2 int8"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    graph = NETWORKS[request.param]()
    return Program.build(graph, observations(graph, 64), tmp_path_factory.mktemp("program"))


def test_no_allocations_no_locks_no_system_calls(program: Program) -> None:
    assert allocations_and_locks(program, 100_000) == (0, 0)


def test_the_stack_is_bounded_by_what_the_header_claims(program: Program) -> None:
    found = stack(program)
    assert found.bounded
    assert found.static == 0
    assert found.claimed <= found.act <= found.claimed + 160, "the workspace, saved registers and alignment"


def test_a_large_workspace_is_static(tmp_path: Path) -> None:
    graph = mlp(4, 2048, 2)
    found = stack(portable(graph, observations(graph, 2), tmp_path))
    assert found.bounded
    assert found.act <= 256
    assert found.claimed <= found.static <= found.claimed + 64


def test_times_come_in_pairs(program: Program) -> None:
    act, empty = times(program, 2000)
    assert len(act) == len(empty) == 2000
    assert (act >= 0).all()
    assert 0.2 < np.median(act) / np.median(empty) < 5, "the empty loop is as long as the decision"


def test_the_portable_float_code_does_not_depend_on_the_input(tmp_path: Path) -> None:
    graph = mlp(4, 16, 2)
    try:
        counts = instructions(portable(graph, observations(graph, 400), tmp_path))
    except CannotMeasureError as error:
        pytest.skip(str(error))
    assert len(counts) == 400
    assert counts.min() > 4 * 16 + 16 * 2, "at least one instruction a weight"
    assert np.ptp(counts) <= 4, "but for the comparisons of the largest of two"


FORBIDDEN = {
    "allocation": ("#include <stdlib.h>", "free(malloc(obs[0] > 9 ? 8 : 16));"),
    "lock": (
        "#include <pthread.h>\nstatic pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;",
        "pthread_mutex_lock(&m); pthread_mutex_unlock(&m);",
    ),
    "system call": ("#include <unistd.h>", "(void)!getppid();"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_is_forbidden_is_noticed(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, body = FORBIDDEN[what]
    head = "#include <stdint.h>\n#define POLICY_OBS_SIZE 4\nint policy_act(const float *obs);\n"
    code = f'{top}\n#include "policy.h"\nint policy_act(const float *obs) {{ {body} return obs[0] > 0; }}\n'
    texts = {"policy.h": head, "policy.c": code}
    monkeypatch.setattr("benchmarks.realtime.measure.emit_c", lambda *words, **more: texts)
    program = Program.build(mlp(4, 2), np.ones((3, 4), np.float32), tmp_path, flags=("-O0",))
    if what == "system call":
        with pytest.raises(AssertionError, match="it made a system call"):
            allocations_and_locks(program, 10)
    else:
        allocations, locks = allocations_and_locks(program, 10)
        assert (allocations >= 10, locks >= 10) == (what == "allocation", what == "lock")
