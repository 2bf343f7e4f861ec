"""Names of artefacts and of exports: nothing leaves its folder, and nothing that is no artefact counts as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nimbleq.errors import ConfigError
from nimbleq.rundir import RunDir, check_name
from tests.e2e.support import files_of, one_line

WRONG = (
    "",
    ".",
    "..",
    "a/b",
    "../x",
    "/tmp/x",
    ".hidden",
    "teacher",
    "Teacher",
    "a\nb",
    "a b",
    "-x",
    "x" * 101,
    "a\\b",
)


@pytest.mark.parametrize("name", WRONG)
def test_names_that_no_artefact_may_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be named"):
        check_name(name)
    with pytest.raises(ConfigError, match="cannot be named"):
        RunDir(tmp_path).artefact(name)


@pytest.mark.parametrize("name", ["small", "int8-2", "v1.2", "klein_ö", "x" * 100])
def test_names_that_are_fine(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "teacher", "a/b"])
def test_compress_refuses_them_and_touches_nothing(inline: Any, run: Path, name: str) -> None:
    before = files_of(run)
    assert "cannot be named" in one_line(inline("compress", run, f"--name={name}"))
    assert files_of(run) == before


def test_what_is_no_artefact_does_not_count_as_one(inline: Any, run: Path, tmp_path: Path) -> None:
    (run / "artefacts" / "notes.txt").write_text("mine")
    (run / "artefacts" / "empty").mkdir()
    (run / "artefacts" / ".small.1.tmp").mkdir()
    assert RunDir(run).artefacts() == ["small"]
    done = inline("export", run, "--to", "c", "--out", tmp_path / "build", "--json")
    assert done.code == 0, done.err
    assert done.json["artefact"].endswith("small")


def test_an_export_has_the_name_it_was_given(inline: Any, run: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    done = inline("export", run, "--to", "c", "--out", build, "--name", "brake", "--json")
    assert done.code == 0, done.err
    assert {"brake.c", "brake.h"} <= done.json["files"].keys()
    assert "brake_act" in (build / "brake.h").read_text()
    assert inline("verify", build, "--observations", "100", "--json").json["mismatches"] == 0
    for name in ("9x", "a-b", "", "int x;", "../x"):
        assert "identifier" in one_line(inline("export", run, "--to", "c", "--out", tmp_path / "b", "--name", name))
    assert not (tmp_path / "b").exists()


def test_an_artefact_outside_of_a_run(inline: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is exported, verified and timed; what needs its teacher or environment says so."""
    alone = (run / "artefacts" / "small").rename(tmp_path / "policy")
    build = tmp_path / "build"
    assert inline("export", alone, "--to", "c", "--out", build).code == 0
    assert inline("verify", build, "--observations", "100", "--json").json["mismatches"] == 0
    timed = inline("bench", alone, "--rounds", "1", "--flash", "cortex-m4", "--json")
    assert timed.code == 0, timed.err
    assert {row["what"] for row in timed.json["rows"]} == {"artefact"}
    assert "no teacher and no environment" in one_line(inline("certify", alone))
    assert "in which environment" in one_line(inline("watch", alone))
    assert "nimbleq export" in one_line(inline("verify", alone))
    monkeypatch.chdir(alone)
    assert inline("export", ".", "--to", "c", "--out", tmp_path / "other").code == 0


def test_an_artefact_is_found_from_inside_its_folder(inline: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "artefacts" / "small")
    done = inline("bench", ".", "--rounds", "1", "--flash", "cortex-m4", "--json")
    assert done.code == 0, done.err
    assert {row["what"] for row in done.json["rows"]} == {"artefact", "teacher"}
    assert (run / "results" / "small" / "bench.json").exists()


def test_an_export_replaces_only_what_its_manifest_lists(
    inline: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = tmp_path / "build"
    assert inline("export", run, "--to", "c", "--out", build).code == 0
    (build / "mine.c").write_text("/* mine */")
    (build / "sub").mkdir()
    (build / "sub" / "notes").write_text("mine")
    assert inline("export", run, "--to", "c", "--out", build, "--name", "brake").code == 0
    assert not (build / "policy.c").exists(), "the manifest listed it, and it is of no use any more"
    assert (build / "mine.c").read_text() == "/* mine */"
    assert (build / "sub" / "notes").read_text() == "mine"
    assert inline("verify", build, "--observations", "100", "--json").json["mismatches"] == 0
    (build / "policy.h").write_text("mine")
    before = files_of(build)
    assert "policy.h is in the way" in one_line(inline("export", run, "--to", "c", "--out", build))
    assert files_of(build) == before
    monkeypatch.chdir(build)
    assert inline("export", run, "--to", "c", "--out", ".", "--name", "brake").code == 0
    monkeypatch.chdir(tmp_path)
    assert "is not a build" in one_line(inline("export", run, "--to", "c", "--out", "."))
    (build / "build.json").write_text('{"files": {"../run/config.json": ""}}')
    assert "does not describe a build" in one_line(inline("export", run, "--out", build))
    assert (run / "config.json").exists()
