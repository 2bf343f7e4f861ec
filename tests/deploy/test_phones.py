"""LiteRT and ExecuTorch: the interpreter's answers but for their own rounding, and certificates of their runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq import cli
from nimbleq.deploy.export import export
from nimbleq.deploy.on_target import on_target
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.verify import verify, verify_build
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact, read_certificate
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrites.mask import with_mask
from tests.balancing import balancing_run
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs

OBS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
ROWS = ["litert", pytest.param("executorch", marks=pytest.mark.targets)]


def skip_without(name: str) -> None:
    if why := TARGETS[name].cannot_open():
        pytest.skip(why)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    "graph", [mlp(4, 24, 3), with_mask(int_mlp(4, 24, 3)), int_conv(6, (1, 1))], ids=["float", "int", "image"]
)
def test_a_phone_answers_as_the_interpreter(name: str, graph: Graph, tmp_path: Path) -> None:
    skip_without(name)
    row = TARGETS[name]
    runs = row.open(Source(graph), row.emit(Source(graph), "net", row.options()), "net", tmp_path)
    golden = make_golden(graph, random_obs(np.random.default_rng(2), graph, 50))
    result = verify(graph, golden, runs, 500, rounding=runs.keys())
    assert (result.checked, result.mismatches) == (550, 0), result
    assert result.targets[0].rounds


@pytest.fixture
def small(tmp_path: Path) -> Path:
    run = balancing_run(tmp_path / "run", OBS)
    return run.artefact("small")


def verb(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any], str]:
    code = cli.main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_a_certificate_of_a_runtime_stands_beside_that_of_the_integers(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without("litert")
    words = ("certify", small, "--target", "litert", "--keep", "0.9")
    code, said, _ = verb(capsys, *words, "--max-episodes", "20")
    assert (code, said["target"]) == (1, "litert")
    code, said, err = verb(capsys, *words)
    assert code == 0
    assert said["certified"]
    assert "litert (XNNPACK): certified after" in err
    stored = read_certificate(small, "litert")
    assert stored is not None
    assert stored["target"]["run"] == "litert (XNNPACK)"
    assert len(stored["returns"]["seeds"]) > 20, "it played on"
    assert load_artefact(small).certificate is None, "nothing was said of other targets"


def test_other_actions_are_mismatches_until_the_runtime_is_certified(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without("litert")
    with on_target(load_artefact(small), "litert") as policy:
        files = policy.files
        assert set(policy(OBS).tolist()) <= {0, 1}
    export(small, ("litert",), tmp_path / "build")
    honest = TARGETS["litert"].open

    def otherwise(*given: Any) -> Any:
        def run(obs: Any, mask: Any) -> Any:
            action, q = honest(*given)["litert (XNNPACK)"](obs, mask)
            return 1 - action, q

        return {"litert (XNNPACK)": run}

    monkeypatch.setitem(TARGETS, "litert", type(TARGETS["litert"])(**vars(TARGETS["litert"]) | {"open": otherwise}))
    code, said, err = verb(capsys, "verify", tmp_path / "build", "--observations", "50")
    assert code == 1
    assert said["mismatches"] > 60
    assert "rounds by itself" in err
    assert "nimbleq certify --target" in err
    monkeypatch.setattr(
        "nimbleq.deploy.verify.read_certificate", lambda *_: {"certified": True, "target": {"files": list(files)}}
    )
    result = verify_build(tmp_path / "build", 50)
    assert result.mismatches == 0
    assert result.targets[0].differences == said["mismatches"]
    monkeypatch.setattr(
        "nimbleq.deploy.verify.read_certificate", lambda *_: {"certified": True, "target": {"files": ["other"]}}
    )
    assert verify_build(tmp_path / "build", 50).mismatches == said["mismatches"]


def test_a_target_that_is_not_there_is_said(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown target tflite: use c or"), on_target(load_artefact(small), "tflite"):
        pass
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, extra in (("litert", r"nimbleq\[litert\]"), ("executorch", r"nimbleq\[executorch,train\]")):
        with pytest.raises(ConfigError, match=extra), on_target(load_artefact(small), name):
            pass
