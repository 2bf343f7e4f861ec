"""``nimbleq zoo``: what it lists is certified, what it copies is a run directory, what is damaged is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nimbleq.verbs.zoo import ZOO
from tests.e2e.support import one_line

NAMES = sorted(path.parent.name for path in ZOO.glob("*/config.json"))


def test_the_list(inline: Any) -> None:
    done = inline("zoo", "--json")
    assert done.code == 0, done.err
    policies = {row["name"]: row for row in done.json["policies"]}
    assert sorted(policies) == NAMES
    assert "cartpole" in policies
    for name, row in policies.items():
        assert row["certified"], name
        assert row["size_bytes"] <= 1_024, f"{name}: a policy on vectors takes at most 1 kB"
        assert sum(path.stat().st_size for path in (ZOO / name).rglob("*")) < 400_000, name
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


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_holds_data_only(name: str) -> None:
    kinds = {path.suffix for path in (ZOO / name).rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".npz"}
