"""``nimbleq zoo``: what it lists is certified, what it copies is a run directory, what is damaged is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nimbleq.graph.artefact import load_artefact
from nimbleq.verbs.zoo import LIMIT_BYTES, ZOO
from tests.e2e.support import files_of, one_line

NAMES = sorted(path.parent.name for path in ZOO.glob("*/config.json"))


def test_the_list(inline: Any) -> None:
    done = inline("zoo", "--json")
    assert done.code == 0, done.err
    policies = {row["name"]: row for row in done.json["policies"]}
    assert sorted(policies) == NAMES
    assert "cartpole" in policies
    for name, row in policies.items():
        assert row["certified"], name
        reads = load_artefact(ZOO / name / "artefacts" / "small").graph.obs_type.qtype
        assert row["size_bytes"] <= LIMIT_BYTES["uint8" if reads.is_integer else "float32"], name
        assert sum(path.stat().st_size for path in (ZOO / name).rglob("*")) < 1_200_000, name
    assert "cartpole" in inline("zoo").out


def test_a_copy_is_a_run_directory(inline: Any, tmp_path: Path) -> None:
    run = tmp_path / "cp"
    done = inline("zoo", "cartpole", "--out", run, "--json")
    assert done.code == 0, done.err
    assert done.json["run"] == str(run)
    watched = inline("certify", run / "artefacts" / "small", "--json")
    assert watched.code == 0, watched.err
    assert watched.json["certified"], "certified already: nothing is played"
    exported = inline("export", run, "--to", "c", "--out", tmp_path / "build", "--json")
    assert exported.code == 0, exported.err
    assert "something at" in one_line(inline("zoo", "cartpole", "--out", run))


def test_what_is_refused(inline: Any, tmp_path: Path) -> None:
    assert "has no 'pong'" in one_line(inline("zoo", "pong", "--out", tmp_path / "x"))
    assert "needs the name" in one_line(inline("zoo", "--out", tmp_path / "x"))
    assert "there is no folder" in one_line(inline("zoo", "--folder", tmp_path / "nowhere"))
    folder = tmp_path / "zoo"
    shutil.copytree(ZOO / "cartpole", folder / "cartpole")
    weights = folder / "cartpole" / "artefacts" / "teacher" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    out = tmp_path / "copy"
    assert "weights.safetensors" in one_line(inline("zoo", "cartpole", "--folder", folder, "--out", out))
    assert not out.exists()


def test_a_run_becomes_an_entry_without_what_does_not_belong(inline: Any, tmp_path: Path) -> None:
    run, zoo = tmp_path / "cartpole", tmp_path / "zoo"
    shutil.copytree(ZOO / "cartpole", run)
    (run / "checkpoint").mkdir()
    (run / "checkpoint" / "state.safetensors").write_bytes(bytes(100))
    shutil.copytree(run / "artefacts" / "small", run / "artefacts" / "other")
    (run / "metrics.jsonl").write_text("{}")
    said = run / "results" / "small" / "compress.json"
    said.write_text(said.read_text().replace("runs/cartpole", str(run)))  # as where it was made
    (run / "artefacts" / "small" / "notes.txt").write_text("mine")
    done = inline("zoo", "mine", "--add", run, "--folder", zoo, "--json")
    assert done.code == 0, done.err
    assert done.json["size_bytes"] == 7
    assert files_of(zoo / "mine") == files_of(ZOO / "cartpole")
    assert "something at" in one_line(inline("zoo", "mine", "--add", run, "--folder", zoo))
    assert str(tmp_path) not in "".join(path.read_text() for path in (zoo / "mine").rglob("*.json"))
    assert "--add needs the name" in one_line(inline("zoo", "--add", run, "--folder", zoo))


def test_what_is_not_certified_stays_out(inline: Any, tmp_path: Path) -> None:
    run, zoo = tmp_path / "run", tmp_path / "zoo"
    shutil.copytree(ZOO / "cartpole", run)
    certificate = run / "artefacts" / "small" / "certificate.json"
    certificate.unlink()
    assert "is not certified: nimbleq certify" in one_line(inline("zoo", "mine", "--add", run, "--folder", zoo))
    small, teacher = (load_artefact(run / "artefacts" / name).digest for name in ("small", "teacher"))
    exact = {"artefact": small, "teacher": teacher, "kept": 0.99, "returns": {"small": 0.8671, "teacher": 0.868}}
    (run / "exact.json").write_text(json.dumps(exact | {"artefact": teacher}))
    assert "is not about these two" in one_line(inline("zoo", "mine", "--add", run, "--folder", zoo))
    (run / "exact.json").write_text(json.dumps(exact | {"returns": {}}))
    assert "is damaged: KeyError" in one_line(inline("zoo", "mine", "--add", run, "--folder", zoo))
    assert not zoo.exists()
    (run / "exact.json").write_text(json.dumps(exact))
    done = inline("zoo", "mine", "--add", run, "--folder", zoo, "--json")
    assert done.json["exact"]
    shown = inline("zoo", "--folder", zoo).out
    assert "0.8671" in shown
    assert "0.8680" in shown
    assert "exactly" in shown


def test_a_large_policy_stays_out(inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMIT_BYTES, "float32", 6)
    assert "takes 7 bytes, more than 6" in one_line(
        inline("zoo", "mine", "--add", ZOO / "cartpole", "--folder", tmp_path / "zoo")
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_holds_data_only(name: str) -> None:
    kinds = {path.suffix for path in (ZOO / name).rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".npz"}
