"""Atomic writing: the old content survives whatever goes wrong."""

import os
from pathlib import Path

import pytest

from nimbleq.errors import FileError
from nimbleq.files import read_json, write_bytes, write_folder, write_json


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(FileError, match=r"cannot write .*a\.json: No space left on device"):
        write_bytes(target, b"new")
    assert read_json(target) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_fails_half_way_keeps_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    write_folder(target, lambda folder: (folder / "x").write_text("old") and None)

    def fill(folder: Path) -> None:
        (folder / "x").write_text("new")
        full_disk()

    with pytest.raises(FileError, match="what was there before is unchanged"):
        write_folder(target, fill)
    assert (target / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_bad_json_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"a": ')
    with pytest.raises(FileError, match=r"c\.json is not valid JSON"):
        read_json(tmp_path / "c.json")
    with pytest.raises(FileError, match=r"cannot read .*missing\.json: No such file"):
        read_json(tmp_path / "missing.json")
