"""nimbleq run does a step again when anything that was asked, or what lies in the folder, is not as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nimbleq.compress.search.config import CompressConfig
from nimbleq.deploy.targets.c import target
from nimbleq.graph.artefact import attach_certificate, load_artefact
from nimbleq.verbs import bench, certify, compress, verify
from nimbleq.verbs import run as line
from tests.e2e.conftest import BRIEF, add_artefact

STEPS = ("train", "compress", "certify", "export", "verify", "bench")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line without search and episodes: the same artefact whatever is asked, certified for it, verified briefly:
    few observations by one build."""

    def compressed(run: Any, name: str, config: CompressConfig, *_: Any, **__: Any) -> dict[str, Any]:
        place = add_artefact(run.path, name)
        found = {"size_bytes": 80, "teacher_size_bytes": 160, "macs": 8, "teacher_macs": 16, "return_mean": 9.0}
        more = {"teacher_return_mean": 9.0, "certified": True, "candidates": [], "baselines": {}}
        return {"artefact": str(place), "keep": config.keep, "recipe": config.recipe, **found, **more}

    def certified(artefact: Path, run: Any, console: Any, keep: float, *_: Any, **__: Any) -> dict[str, Any]:
        found = {"certified": True, "keep": keep, "episodes": 9, "teacher_return_mean": 9.0, "student_return_mean": 9.0}
        attach_certificate(artefact, found)
        return {"artefact": str(artefact), "reason": f"certified at {keep}", **found}

    def timed(artefact: Path, *_: Any, **__: Any) -> dict[str, Any]:
        return {"artefact": str(artefact), "rows": []}

    monkeypatch.setattr(compress, "compress_run", compressed)
    monkeypatch.setattr(certify, "certify_run", certified)

    def verified(build: Path, console: Any) -> dict[str, Any]:
        return verify_folder(build, console, 300)

    verify_folder = verify.verify_folder
    monkeypatch.setattr(verify, "verify_folder", verified)
    scalar, *_ = target._builds()
    monkeypatch.setattr(target, "_builds", lambda: [scalar])
    monkeypatch.setattr(bench, "bench_run", timed)
    monkeypatch.setattr(line, "require_better_than_random", lambda *_: None)


def done_before(done: Any) -> tuple[str, ...]:
    assert done.code == 0, done.err
    return tuple(step for step in STEPS if f"{step}: already done" in done.err)


@pytest.fixture
def words(brief_run: Path, tmp_path: Path, fast: None, inline: Any) -> tuple[Any, ...]:
    """A command that was run once."""
    run = tmp_path / "run"
    shutil.copytree(brief_run, run)
    shutil.rmtree(run / "artefacts" / "small")
    command = ("run", *BRIEF, "--out", run, "--to", "c", "--json")
    assert done_before(inline(*command, "--keep", "0.5")) == ()
    return command


def test_the_same_again_does_nothing(inline: Any, words: tuple[Any, ...]) -> None:
    assert done_before(inline(*words, "--keep", "0.5")) == STEPS


def test_a_run_that_was_moved_names_its_own_place(inline: Any, words: tuple[Any, ...], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (tmp_path / "run").rename(moved)
    again = inline(*(moved if word == tmp_path / "run" else word for word in words), "--keep", "0.5")
    assert set(STEPS) - set(done_before(again)) <= {"export", "verify"}
    assert again.json["train"]["run"] == str(moved)
    places = {again.json[step]["artefact"] for step in ("compress", "certify", "bench")}
    assert places == {str(moved / "artefacts" / "small")}


def test_a_stronger_promise_is_made_anew(inline: Any, words: tuple[Any, ...]) -> None:
    again = inline(*words, "--keep", "0.99")
    assert done_before(again) == ("train",)
    assert again.json["certify"]["keep"] == 0.99
    assert again.json["certify"]["reason"] == "certified at 0.99"
    assert "compress: repeated, because keep changed" in again.err
    assert done_before(inline(*words, "--keep", "0.99", "--recipe", "int8")) == ("train",)


def test_an_export_of_another_kind(inline: Any, words: tuple[Any, ...], tmp_path: Path) -> None:
    named = inline(*words, "--keep", "0.5", "--name", "brake")
    assert done_before(named) == ("train", "compress", "certify", "bench")
    assert (tmp_path / "run" / "build" / "brake.c").exists()
    both = inline(*words, "--keep", "0.5", "--to", "c", "onnx")
    assert done_before(both) == ("train", "compress", "certify", "bench")
    assert both.json["export"]["targets"] == ["c", "onnx"]


def changed_model(run: Path) -> None:
    add_artefact(run, "other").rename(run / "artefacts" / "kept")
    shutil.rmtree(run / "artefacts" / "small")
    shutil.copytree(run / "artefacts" / "teacher", run / "artefacts" / "small")


def changed_certificate(run: Path) -> None:
    attach_certificate(run / "artefacts" / "small", {"certified": False, "keep": 0.1})


def changed_build(run: Path) -> None:
    (run / "build" / "policy.c").write_text("int x;")


def changed_verdict(run: Path) -> None:
    path = run / "results" / "small" / "verify.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checked": 1}))


def missing_artefact(run: Path) -> None:
    shutil.rmtree(run / "artefacts" / "small")


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        (changed_model, ("train", "export", "verify", "bench")),  # compress makes what was there; no certificate was
        (changed_certificate, ("train", "compress", "export", "verify", "bench")),
        (changed_build, ("train", "compress", "certify", "verify", "bench")),
        (changed_verdict, ("train", "compress", "certify", "export", "bench")),
        (missing_artefact, ("train", "export", "verify", "bench")),
    ],
)
def test_what_lies_in_the_folder_is_compared_with_the_ledger(
    inline: Any, words: tuple[Any, ...], tmp_path: Path, change: Any, stands: tuple[str, ...]
) -> None:
    change(tmp_path / "run")
    again = inline(*words, "--keep", "0.5")
    assert done_before(again) == stands
    assert again.json["certify"]["certified"]
    assert load_artefact(tmp_path / "run" / "artefacts" / "small").certificate is not None
    assert done_before(inline(*words, "--keep", "0.5")) == STEPS


def test_a_changed_teacher_is_made_again(inline: Any, words: tuple[Any, ...], tmp_path: Path) -> None:
    teacher = tmp_path / "run" / "artefacts" / "teacher"
    before = load_artefact(teacher).digest
    shutil.rmtree(teacher)
    shutil.copytree(tmp_path / "run" / "artefacts" / "small", teacher)
    assert done_before(inline(*words, "--keep", "0.5")) == STEPS[1:]
    assert load_artefact(teacher).digest == before


def test_a_ledger_of_before_does_not_count(inline: Any, words: tuple[Any, ...], tmp_path: Path) -> None:
    ledger = tmp_path / "run" / "results" / "inputs.json"
    content = json.loads(ledger.read_text())
    ledger.write_text(json.dumps({verb: entry["asked"] for verb, entry in content.items()}))
    assert done_before(inline(*words, "--keep", "0.5")) == ()


def test_another_artefact_beside_it_changes_nothing(inline: Any, words: tuple[Any, ...], tmp_path: Path) -> None:
    run = tmp_path / "run"
    add_artefact(run, "tiny")
    (run / "artefacts" / "notes.txt").write_text("mine")
    assert inline("bench", run / "artefacts" / "tiny", "--json").code == 0
    assert done_before(inline(*words, "--keep", "0.5")) == STEPS
