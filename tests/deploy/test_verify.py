"""Export and verify: a build folder proves itself, and damage is found."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.bench import bench
from nimbleq.deploy.export import export, load_build
from nimbleq.deploy.samples import sample_observations
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.deploy.verify import verify, verify_build
from nimbleq.errors import ConfigError, FileError, NimbleqError
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.golden import Golden, make_golden
from nimbleq.graph.interpret import interpret
from tests.deploy.nets import int_mlp, mlp

OBS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(scope="module", params=["float", "int"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    graph = mlp(4, 24, 3) if request.param == "float" else int_mlp(4, 24, 3)
    save_artefact(folder / "artefact", graph, OBS, {"command": "test"})
    export(folder / "artefact", ("c",), folder / "build")
    return folder / "build"


@needs_compiler
def test_a_build_verifies(build: Path) -> None:
    result = verify_build(build, observations=2000)
    assert result.mismatches == 0
    assert {target.observations for target in result.targets} == {2060}
    assert result.checked == 2060 * len(result.targets)
    assert any("NQ_SCALAR" in target.target for target in result.targets)
    json.dumps(result.to_dict(), allow_nan=False)


@needs_compiler
def test_the_example_runs(build: Path, tmp_path: Path) -> None:
    command = [str(find_compiler()), "-std=c99", "-Wall", "-Wextra", "-Werror", "example.c", "policy.c", "-o"]
    subprocess.run([*command, str(tmp_path / "example")], cwd=build, check=True)
    done = subprocess.run([str(tmp_path / "example")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("action ")


def test_changed_files_are_found(build: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(build, copy)
    (copy / "policy.c").write_text((copy / "policy.c").read_text() + "\n")
    with pytest.raises(FileError, match=r"policy\.c was changed"):
        verify_build(copy)
    manifest = json.loads((copy / "build.json").read_text())
    (copy / "build.json").write_text(json.dumps(manifest | {"files": {"../build.json": "0"}}))
    with pytest.raises(FileError, match="outside the build"):
        load_build(copy)
    (copy / "build.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(FileError, match="upgrade"):
        load_build(copy)
    with pytest.raises(FileError, match="not a build"):
        load_build(tmp_path)


def test_export_refuses_what_it_would_destroy_or_does_not_know(build: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not a build"):
        export(build / "oracle", ("c",), tmp_path)
    with pytest.raises(ConfigError, match="unknown target fpga"):
        export(build / "oracle", ("fpga",), tmp_path / "new")
    assert (tmp_path / "thesis.tex").exists()


def test_mismatches_are_counted() -> None:
    for graph in (mlp(4, 24, 3), int_mlp(4, 24, 3)):
        golden = make_golden(graph, OBS)

        def wrong_at_first(obs: np.ndarray, mask: None, graph: object = graph) -> tuple[np.ndarray, np.ndarray]:
            answers = interpret(graph, obs)  # type: ignore[arg-type]
            q = answers["q"].copy()
            q[0, 0] += 0.5
            return answers["action"], q

        def nothing(obs: np.ndarray, mask: None) -> tuple[np.ndarray, np.ndarray]:
            return np.full(len(obs), -1), np.full((len(obs), 3), np.nan)

        result = verify(graph, golden, {"wrong": wrong_at_first, "refuses": nothing}, observations=100)
        assert [target.mismatches for target in result.targets] == [2, 160]
        assert result.targets[0].max_q_error == pytest.approx(0.5, rel=1e-2)


def test_golden_answers_that_the_interpreter_does_not_give_stop_everything() -> None:
    graph = mlp(4, 24, 3)
    golden = make_golden(graph, OBS)
    stale = Golden(golden.obs, golden.q + 1, golden.action)
    with pytest.raises(NimbleqError, match="golden answers"):
        verify(graph, stale, {}, observations=0)


def test_samples_are_finite_and_in_range() -> None:
    rng = np.random.default_rng(1)
    obs = sample_observations(rng, mlp(4, 5, 2), OBS, 500)
    assert obs.shape == (500, 4)
    assert obs.dtype == np.float32
    assert np.isfinite(obs).all()
    assert np.abs(obs).max() > np.abs(OBS).max()


@needs_compiler
def test_bench_times_every_engine() -> None:
    result = bench(
        {"artefact": mlp(4, 8, 2)},
        OBS,
        {("mine", "artefact"): lambda obs: obs.sum()},
        targets=("c",),
        rounds=2,
        calls=50,
    )
    engines = {row.engine for row in result.rows}
    assert {"nimbleq-python", "empty-python", "mine"} <= engines
    for row in result.rows:
        assert 0 <= row.p50_us <= row.p99_us <= row.p999_us
        assert sum(row.histogram["counts"]) == row.calls
    json.dumps(result.to_dict(), allow_nan=False)


def test_only_what_answers_in_this_process_is_timed() -> None:
    assert [name for name, row in TARGETS.items() if row.timed] == ["c", "onnx", "onnx-qdq", "litert"]
