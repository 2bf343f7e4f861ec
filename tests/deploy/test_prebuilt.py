"""The prebuilt engine: the interpreter's answers with every kernel here, and no program that leaves its memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimbleq.deploy.decider import TimedDecider, open_program
from nimbleq.deploy.prebuilt.lower import lower
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.toolchain import find_compiler, words
from nimbleq.deploy.verify import verify
from nimbleq.errors import ObservationError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import interpret
from tests.deploy.nets import int_conv, int_mlp, mlp, pictures_and_numbers
from tests.deploy.test_coverage import policy_around
from tests.graph.test_formats import CASES
from tests.strategies import graphs, random_obs

runtime = pytest.importorskip("nimbleq.native._runtime")
ISAS = runtime.isas()


def opened(graph: Graph, isa: str = ISAS[0]) -> TimedDecider:
    return open_program(lower(graph, isa), isa, graph, network_interface(graph))


def agrees(graph: Graph, observations: int = 60) -> None:
    """Every kernel that this processor can run gives the interpreter's answers."""
    golden = make_golden(graph, random_obs(np.random.default_rng(0), graph, observations))
    runs = {isa: opened(graph, isa).run for isa in ISAS}
    result = verify(graph, golden, runs, observations)
    assert result.checked == 2 * observations * len(ISAS)
    assert result.mismatches == 0, result


def test_kernels_for_every_processor_are_among_them() -> None:
    assert ISAS[-1] == "portable"


@pytest.mark.parametrize(
    "graph",
    [
        mlp(4, 64, 64, 2), mlp(3, 17, 40, 5), mlp(70, 130, 9), int_mlp(4, 64, 64, 2), int_mlp(5, 33, 70, 11),
        int_mlp(6, 200, 40, 3, shift=30), int_mlp(4, 100, 90, 3, high=127), int_mlp(4, 120, 80, 3, shift=32),
        int_conv(), int_conv(5, (0, 2), high=255), pictures_and_numbers(),
    ],
    ids=range(11),
)  # fmt: skip
def test_widths_that_fill_no_vector(graph: Graph) -> None:
    agrees(graph, 100)


@pytest.mark.parametrize(("numbers", "obs"), [("int", "vector"), ("int", "image"), ("float", "any")])
def test_random_graphs(numbers: str, obs: str) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graphs(numbers, obs))  # type: ignore[arg-type]
    def campaign(graph: Graph) -> None:
        agrees(graph, 20)

    campaign()


def test_portable_kernels_give_the_integers_of_the_fast_ones() -> None:
    graph = int_mlp(8, 256, 256, 4)
    obs = random_obs(np.random.default_rng(0), graph, 2000)
    answers = [opened(graph, isa).run(obs) for isa in ISAS]
    for actions, q in answers:
        assert np.array_equal(actions, answers[0][0])
        assert np.array_equal(q, answers[0][1])


def test_an_op_that_it_does_not_know_is_refused_with_a_reason() -> None:
    class Unknown(ops.Flatten):
        pass

    ((_, sources, weights),) = CASES["Flatten"]
    graph = policy_around(Unknown(), sources, weights)
    with pytest.raises(UnsupportedOpError, match=r"prebuilt cannot express the op Unknown: \w+"):
        lower(graph, "portable")
    policy = Runtime(graph)
    assert policy.status.engine not in ("c", "prebuilt")
    assert "prebuilt cannot express the op Unknown" in policy.status.reason


GRAPHS = [mlp(4, 40, 2), int_mlp(4, 40, 2), int_conv(), pictures_and_numbers(), int_conv(), mlp(40, 9, 2)]
PROGRAMS = [lower(graph, "portable", binary=index > 3) for index, graph in enumerate(GRAPHS)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 5), st.integers(0, 10**6), st.sampled_from([-1, 1, 4, 64, 2**20, 2**31 - 1, -(2**31)]), st.booleans()
)
def test_a_damaged_program_is_refused_or_stays_in_its_memory(which: int, at: int, by: int, adds: bool) -> None:
    """The words before the constants; an arena that is overrun would end the process (and does, under a sanitizer)."""
    graph, words = GRAPHS[which], np.frombuffer(PROGRAMS[which], np.int32).copy()
    steps = int(words[7:10].sum())
    place = at % (11 + 32 * steps)
    with np.errstate(over="ignore"):
        words[place] = words[place] + np.int32(by) if adds else by
    try:
        decider = runtime.Decider(
            (words.tobytes(), "portable"), graph.obs_type.shape, graph.obs_type.qtype.is_integer, graph.actions, False,
            ObservationError, -1, np.asarray, np.asarray,
        )  # fmt: skip
    except ValueError:
        return
    decider.run(random_obs(np.random.default_rng(0), graph, 2))


def test_a_program_that_is_cut_off_is_refused() -> None:
    for size in (0, 10, 43, 44, 100, len(PROGRAMS[0]) - 1):
        with pytest.raises(ValueError, match=r"cut off|not sound"):
            runtime.Decider(
                (PROGRAMS[0][:size], "portable"), (4,), False, 2, False, ObservationError, -1, np.asarray, np.asarray
            )
    with pytest.raises(ValueError, match="other observations"):
        runtime.Decider((PROGRAMS[0], "portable"), (5,), False, 2, False, ObservationError, -1, np.asarray, np.asarray)
    with pytest.raises(ValueError, match="no sparc kernels"):
        runtime.Decider((PROGRAMS[0], "sparc"), (4,), False, 2, False, ObservationError, -1, np.asarray, np.asarray)


@pytest.mark.parametrize(
    "graph", [int_mlp(4, 64, 64, 2), int_conv(64), mlp(64, 1200, 1000, 4)], ids=["small", "image", "slow"]
)
def test_many_threads_share_one_policy(graph: Graph) -> None:
    """The last one lets go of the interpreter's lock, and no two decisions share an arena."""
    policy = Runtime(graph, "prebuilt")
    obs = random_obs(np.random.default_rng(0), graph, 40)
    want, wrong = [policy.act(one) for one in obs], []
    batch = policy.decider.run(obs)[0].tolist()

    def decide(first: int) -> None:
        for index in range(first, first + 200):
            if policy.act(obs[index % 40]) != want[index % 40]:
                wrong.append(index)
        if policy.decider.run(obs)[0].tolist() != batch:
            wrong.append(-1)

    threads = [threading.Thread(target=decide, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert batch == want
    assert not wrong


def test_it_pickles_and_a_copy_decides_the_same() -> None:
    graph = int_mlp(4, 20, 3)
    obs = random_obs(np.random.default_rng(0), graph, 30)
    policy = Runtime(graph, "prebuilt", fallback_action=1)
    other = pickle.loads(pickle.dumps(policy))
    assert other.status.engine == "prebuilt"
    assert (
        [other.act(one) for one in obs] == [policy.act(one) for one in obs] == interpret(graph, obs)["action"].tolist()
    )
    assert other.act(np.full(4, np.nan, np.float32)) == 1


def test_a_contiguous_observation_is_not_copied() -> None:
    """Nothing but the number of the action is made: references to the observation stay as they were."""
    policy, obs = Runtime(mlp(4, 64, 64, 2), "prebuilt"), np.ones(4, np.float32)
    before, blocks = sys.getrefcount(obs), sys.getallocatedblocks()
    for _ in range(1000):
        policy.act(obs)
    assert sys.getrefcount(obs) == before
    assert abs(sys.getallocatedblocks() - blocks) < 10


COUNTER = """
#include <stddef.h>
void *__libc_malloc(size_t); void *__libc_calloc(size_t, size_t); void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
static long count;
long allocations(void) { return count; }
void *malloc(size_t n) { ++count; return __libc_malloc(n); }
void *calloc(size_t k, size_t n) { ++count; return __libc_calloc(k, n); }
void *realloc(void *p, size_t n) { ++count; return __libc_realloc(p, n); }
int posix_memalign(void **p, size_t a, size_t n) { ++count; return (*p = __libc_memalign(a, n)) ? 0 : 12; }
"""
DECISIONS = """
import ctypes, sys
import numpy as np
from nimbleq.deploy.runtime import Runtime
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs
count = ctypes.PyDLL(None).allocations
for graph, thousands in ((mlp(4, 64, 64, 2), 1000), (int_mlp(4, 64, 64, 2), 1000), (int_conv(64), 20)):
    policy, obs = Runtime(graph, "prebuilt"), random_obs(np.random.default_rng(0), graph, 1000)
    singles, act = [np.ascontiguousarray(one) for one in obs], policy.act
    for one in singles:
        act(one)
    before = count()
    assert before > 0
    for _ in range(thousands):
        for one in singles:
            act(one)
    print(count() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or find_compiler() is None, reason="needs a C compiler, and glibc")
def test_a_million_decisions_allocate_nothing(tmp_path: Path) -> None:
    """Calls of the allocator are counted from outside, Python's own included."""
    library = tmp_path / "counter.so"
    (tmp_path / "counter.c").write_text(COUNTER)
    subprocess.run(
        [*words(str(find_compiler())), "-O1", "-fno-builtin", "-shared", "-fPIC", "counter.c", "-o", str(library)],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DECISIONS], env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["0", "0", "0"], done.stderr[-500:]
