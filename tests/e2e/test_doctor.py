"""nimbleq doctor tries what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nimbleq.verbs import doctor


def findings(inline: Any) -> dict[tuple[str, str], dict[str, Any]]:
    done = inline("doctor", "--json")
    assert done.code == 0, done.err
    return {(found["kind"], found["name"]): found for found in done.json["findings"]}


def test_a_compiler_and_a_package_that_are_there_but_broken(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\necho 'error: this is no compiler' >&2\nexit 1\n")
    compiler.chmod(0o755)
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('its library\\nis missing')\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", {"numpy": ("numpy", "the core"), "broken": ("broken_package", "nothing")})
    found = findings(inline)
    assert not found["compiler", "gcc"]["works"]
    assert "this is no compiler" in found["compiler", "gcc"]["state"]
    assert not found["compiler", "clang"]["works"]
    assert found["package", "numpy"]["works"]
    assert found["package", "broken"]["state"] == "its library is missing"
    assert found["engine", "numpy"]["state"].endswith("µs a decision")
    assert not found["engine", "c"]["works"]
    assert "compiler gcc" in inline("doctor").out
