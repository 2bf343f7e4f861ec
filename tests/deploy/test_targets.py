"""The table of targets: a new row is one file and one line, and every verb knows it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from nimbleq import cli
from nimbleq.deploy import targets
from nimbleq.deploy.export import export
from nimbleq.deploy.target import Files, Run, Source, Target
from nimbleq.deploy.targets import STANDARD, TARGETS
from nimbleq.deploy.verify import verify_build
from nimbleq.errors import ConfigError, FileError, UnsupportedOpError
from nimbleq.graph import codec, ops
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.graph import ACTION, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.types import Array
from nimbleq.verbs import doctor
from nimbleq.verbs import export as export_verb
from tests.deploy.nets import int_mlp, mlp

SRC = Path(__file__).parents[2] / "src" / "nimbleq"
OBS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)

# ---- all that a stranger writes for a new target: this file and a line in the table ----


@dataclass(frozen=True)
class JsonOptions:
    """How the JSON is written.

    Attributes:
        indent: of its lines.
    """

    indent: int = 2


def emit_json(source: Source, name: str, options: JsonOptions) -> Files:
    """The graph as JSON beside its weights."""
    for node in source.graph.nodes:
        if isinstance(node.op, ops.LayerNorm):
            raise UnsupportedOpError(node.op.kind, "json", "use another target")
    model = json.dumps(codec.encode(source.graph), indent=options.indent)
    return {f"{name}.json": model.encode(), f"{name}.safetensors": save(codec.weight_arrays(source.graph))}


def open_json(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    """The interpreter."""
    model = json.loads(files[f"{name}.json"])
    weights = codec.decode_weights(load(files[f"{name}.safetensors"]), codec.decode_packed(model))
    graph = codec.decode(model, weights)

    def run(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        answers = interpret(graph, obs, mask)
        return answers[ACTION], answers[Q]

    return {"json (interpreter)": run}


JSON = Target(
    name="json",
    purpose="the model in JSON",
    options=JsonOptions,
    emit=emit_json,
    open=open_json,
    exact=True,
)

# ---- the end of it ----


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Target:
    """The row in the table; the command line is made when its module is loaded, after the table."""
    monkeypatch.setitem(TARGETS, "json", JSON)
    monkeypatch.setattr(export_verb, "Args", export_verb.with_target_options())
    return JSON


def verb(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    code = cli.main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(mlp(4, 8, 3), id="float", marks=pytest.mark.long),
        pytest.param(with_mask(int_mlp(4, 8, 3)), id="int"),
    ],
)
def test_a_new_row_is_exported_verified_timed_and_examined(
    toy: Target, graph: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_artefact(tmp_path / "small", graph, OBS, {})
    build = tmp_path / "build"
    words = ("export", tmp_path / "small", "--to", "json", "--json.indent", "7", "--out", build)
    exported = verb(capsys, *words)
    assert exported["targets"] == ["json"]
    assert "\n       " in (build / "policy.json").read_text()
    verified = verb(capsys, "verify", build, "--observations", "300")
    assert (verified["checked"], verified["mismatches"]) == (330, 0)
    assert [row["target"] for row in verified["targets"]] == ["json (interpreter)"]
    timed = verb(capsys, "bench", tmp_path / "small", "--rounds", "1", "--flash", "cortex-m4")
    assert "json (interpreter)" in {row["engine"] for row in timed["rows"]}
    monkeypatch.setattr(doctor, "TARGETS", {"json": TARGETS["json"]})  # tries nothing else
    assert verb(capsys, "doctor")["targets"] == {"json": True}


def test_a_wrong_row_is_found_out(toy: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_artefact(tmp_path / "a", int_mlp(4, 8, 3), OBS, {})
    export(tmp_path / "a", ("json",), tmp_path / "build")

    def off_by_a_bit(*given: Any) -> Mapping[str, Run]:
        (run,) = open_json(*given).values()

        def wrong(obs: Array, mask: Array | None) -> tuple[Array | None, Array | None]:
            action, q = run(obs, mask)
            assert q is not None
            return action, np.nextafter(q, np.float32(np.inf))

        return {"json": wrong}

    for exact, mismatches in ((True, 130), (False, 0)):
        row = Target(name="json", purpose="", emit=emit_json, open=off_by_a_bit, exact=exact)
        monkeypatch.setitem(TARGETS, "json", row)
        assert verify_build(tmp_path / "build", observations=100).mismatches == mismatches


def test_what_a_row_lacks_here_is_said(toy: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_artefact(tmp_path / "a", mlp(4, 8, 3), OBS, {})
    export(tmp_path / "a", ("json",), tmp_path / "build")

    def lacking() -> str:
        return "the target json needs a pen: pip install pen"

    poor = Target(
        name="json", purpose="", emit=emit_json, open=open_json, exact=True, cannot_emit=lacking, cannot_open=lacking
    )
    monkeypatch.setitem(TARGETS, "json", poor)
    with pytest.raises(ConfigError, match="pip install pen, or give --to c"):
        export(tmp_path / "a", ("c", "json"), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert verify_build(tmp_path / "build", observations=0).skipped == {"json": lacking()}
    monkeypatch.delitem(TARGETS, "json")
    with pytest.raises(FileError, match="target 'json', which this nimbleq does not know"):
        verify_build(tmp_path / "build")


def test_two_targets_do_not_overwrite_one_another(toy: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_artefact(tmp_path / "a", mlp(4, 8, 3), OBS, {})
    monkeypatch.setitem(
        TARGETS,
        "twin",
        Target(name="twin", purpose="", emit=emit_json, open=open_json, exact=True, options=JsonOptions),
    )
    with pytest.raises(ConfigError, match=r"write policy\.json"):
        export(tmp_path / "a", ("json", "twin"), tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_the_help_lists_the_table(toy: Target, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    shown = capsys.readouterr().out
    for name, row in TARGETS.items():
        for option in vars(row.options()):
            assert f"--{name}.{option.replace('_', '-')}" in shown


def test_the_table() -> None:
    for name, row in TARGETS.items():
        assert name == row.name
        assert row.purpose
        row.options()
    assert set(STANDARD) <= set(TARGETS)
    assert set(targets.__all__) == {"STANDARD", "TARGETS"}


def test_targets_are_named_in_their_rows_only() -> None:
    """No condition on a target's name outside of its folder: what differs is a field of the row."""
    names = set(TARGETS) | {row.engine.name for row in TARGETS.values() if row.engine is not None}
    for path in sorted(SRC.rglob("*.py")):
        if path.is_relative_to(SRC / "deploy" / "targets"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                named = {side.value for side in sides if isinstance(side, ast.Constant)} & names
                assert not named, f"{path.relative_to(SRC)}:{node.lineno} asks for the target {named}"
