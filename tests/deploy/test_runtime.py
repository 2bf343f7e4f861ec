"""Runtime: engines, the cache, bad observations, and life without a compiler or the extension."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy import runtime as runtime_module
from nimbleq.deploy.decider import OneByOneDecider
from nimbleq.deploy.engines import ENGINES
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.toolchain import CompileError, cached_library, find_compiler, zig
from nimbleq.errors import ConfigError, FileError, ObservationError
from nimbleq.graph import ops
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import TensorType
from tests.deploy.nets import int_mlp, mlp

GRAPH = mlp(4, 16, 3)
OBS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "prebuilt": "nimbleq.native._runtime"}
"""Engine → what it needs."""


@pytest.fixture(params=[pytest.param("c", marks=needs_compiler), *(name for name in ENGINES if name != "c")])
def engine(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    return name


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_engine_gives_the_interpreters_answers(engine: str) -> None:
    policy, want = Runtime(GRAPH, engine), interpret(GRAPH, OBS)
    assert [policy.act(obs) for obs in OBS] == want["action"].tolist()
    np.testing.assert_allclose([policy.q_values(obs) for obs in OBS], want["q"], atol=1e-5)
    assert policy.status.engine == engine
    assert policy.status.ok
    assert policy.status.latency_us > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_observations_that_are_not_finite_are_refused(engine: str, bad: float) -> None:
    policy, obs = Runtime(GRAPH, engine), OBS[0].copy()
    obs[3] = bad
    with pytest.raises(ObservationError, match="NaN or infinity"):
        policy.act(obs)
    with pytest.raises(ObservationError, match="NaN or infinity"):
        policy.q_values(obs)
    assert policy.status.refused == 2
    assert not policy.status.ok
    careful = Runtime(GRAPH, engine, fallback_action=2)
    assert careful.act(obs) == 2
    assert careful.status.refused == 1


def test_masks_are_obeyed_by_every_engine(engine: str) -> None:
    graph = with_mask(GRAPH)
    policy, masks = Runtime(graph, engine), np.random.default_rng(1).random((50, 3)) < 0.5
    masks[:, 1] |= ~masks.any(axis=1)
    want = interpret(graph, OBS, masks)["action"].tolist()
    assert [policy.act(obs, mask) for obs, mask in zip(OBS, masks, strict=True)] == want
    with pytest.raises(ObservationError, match="needs the mask"):
        policy.act(OBS[0])
    with pytest.raises(ObservationError, match="allows no action"):
        policy.act(OBS[0], np.zeros(3, bool))


def test_observations_are_converted_or_refused_with_a_reason(engine: str) -> None:
    policy, want = Runtime(GRAPH, engine), int(interpret(GRAPH, OBS[:1])["action"][0])
    strided = np.repeat(OBS[0], 2)[::2]
    for same in (OBS[0].astype(np.float64), OBS[0].tolist(), strided, OBS[0].astype(">f4")):
        assert policy.act(same) == want
    assert policy.act(np.array([1, 0, 2, 3])) == policy.act(np.array([1, 0, 2, 3], np.float32))
    for wrong in (OBS[:1], OBS[0, :3]):
        with pytest.raises(ObservationError, match="shape"):
            policy.act(wrong)
    with pytest.raises(ObservationError, match="not numbers"):
        policy.act("a string")  # type: ignore[arg-type]


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("nimbleq.deploy.toolchain.zig", lambda: None)


@pytest.mark.usefixtures("_no_compiler")
def test_without_a_compiler_it_says_so_and_is_as_fast() -> None:
    pytest.importorskip("nimbleq.native._runtime")
    policy = Runtime(GRAPH)
    assert policy.status.engine == "prebuilt"
    assert policy.status.ok
    assert "no C compiler" in policy.status.reason
    assert policy.act(OBS[0]) == interpret(GRAPH, OBS[:1])["action"][0]
    with pytest.raises(CompileError, match="no C compiler"):
        Runtime(GRAPH, "c")


@needs_compiler
def test_the_compiler_that_pip_installs_is_found_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang")
    assert find_compiler() != zig()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert find_compiler(("gcc",)) is None
    assert find_compiler() == zig() is not None


@pytest.mark.targets
def test_the_compiler_that_pip_installs_makes_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first compilation takes long: it builds its own library."""
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    policy = Runtime(GRAPH)
    assert policy.status.engine == "c"
    assert str(zig()) in policy.status.reason
    assert [policy.act(obs) for obs in OBS] == interpret(GRAPH, OBS)["action"].tolist()


@pytest.mark.usefixtures("_no_compiler")
def test_without_compiler_and_extension_it_still_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nimbleq.native._runtime", None)
    monkeypatch.delattr("nimbleq.native._runtime", raising=False)
    policy = Runtime(GRAPH)
    assert policy.status.engine in ("onnxruntime", "openvino", "numpy")
    assert "no C compiler" in policy.status.reason
    assert "the prebuilt engine was not built" in policy.status.reason
    assert not policy.status.ok
    assert policy.act(OBS[0]) == interpret(GRAPH, OBS[:1])["action"][0]


@needs_compiler
def test_without_the_extension_ctypes_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nimbleq.native._runtime", None)
    monkeypatch.delattr("nimbleq.native._runtime", raising=False)
    policy = Runtime(GRAPH, "c")
    assert isinstance(policy.decider, OneByOneDecider)
    assert [policy.act(obs) for obs in OBS] == interpret(GRAPH, OBS)["action"].tolist()
    actions, q = policy.decider.run(OBS)
    np.testing.assert_allclose(q, interpret(GRAPH, OBS)["q"], atol=1e-5)
    with pytest.raises(ObservationError, match="NaN"):
        policy.act(OBS[0] * np.nan)
    assert len(actions) == len(OBS)


@needs_compiler
def test_the_cache_is_private_and_used_again(tmp_path: Path) -> None:
    compiler = str(find_compiler())
    first = cached_library(emit_c(GRAPH), compiler)
    stamp = first.stat().st_mtime_ns
    assert cached_library(emit_c(GRAPH), compiler) == first
    assert first.stat().st_mtime_ns == stamp
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert cached_library(emit_c(mlp(4, 16, 3, seed=1)), compiler) != first
    first.parent.chmod(0o777)
    with pytest.raises(CompileError, match="not private"):
        cached_library(emit_c(GRAPH), compiler)
    first.parent.chmod(0o700)
    moved = first.with_suffix(".moved")
    first.rename(moved)
    first.symlink_to(moved)
    with pytest.raises(CompileError, match="not private"):
        cached_library(emit_c(GRAPH), compiler)


def _act_once(cache: str) -> int:
    os.environ["XDG_CACHE_HOME"] = cache
    return int(Runtime(GRAPH, "c").act(OBS[0]))


@needs_compiler
def test_processes_may_compile_the_same_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        actions = pool.map(_act_once, [str(tmp_path / "shared")] * 3)
    assert len(set(actions)) == 1
    assert len(list((tmp_path / "shared" / "nimbleq" / "libraries").iterdir())) == 1


@needs_compiler
def test_integer_policies_and_artefacts(tmp_path: Path) -> None:
    graph = int_mlp(4, 20, 3)
    save_artefact(tmp_path / "small", graph, OBS, {"command": "test"})
    policy = Runtime(tmp_path / "small")
    assert [policy.act(obs) for obs in OBS] == interpret(graph, OBS)["action"].tolist()
    with pytest.raises(FileError, match="no such folder"):
        Runtime(tmp_path / "missing")


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown engine"):
        Runtime(GRAPH, "cuda")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="fallback action 3"):
        Runtime(GRAPH, "numpy", fallback_action=3)


def test_deciding_does_not_import_torch() -> None:
    assert "torch" not in vars(runtime_module)


@pytest.mark.parametrize("engine", [pytest.param("c", marks=needs_compiler), "prebuilt", "numpy"])
@pytest.mark.parametrize("level", [1.3734, -0.7071, 3e4])
def test_a_layer_norm_of_values_that_are_all_alike(engine: str, level: float) -> None:
    """Their variance is zero: what rounding leaves of the mean is divided by √eps, and was up to 3e-3 of a value."""
    count = 180
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(3, count)).astype(np.float32), "b": np.array([0.3, 0.1, 0.2], np.float32)}
    nodes = (
        Node(ops.LayerNorm(None, None, 1e-5), ("obs",), "x"),
        Node(ops.Linear("w", "b"), ("x",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )
    graph = Graph({"obs": TensorType((count,))}, nodes, (Q, ACTION), weights)
    values = Runtime(graph, engine).q_values(np.full(count, level, np.float32))
    assert values == pytest.approx(weights["b"], abs=1e-6)
