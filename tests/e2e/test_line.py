"""The whole line on CartPole, as a newcomer runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

KEYS = {
    "train": {"run", "env", "steps", "train_seconds", "return_mean", "return_ci95", "episodes"},
    "compress": {"artefact", "size_bytes", "teacher_size_bytes", "macs", "teacher_macs", "return_mean",
                 "teacher_return_mean", "keep", "certified"},
    "certify": {"artefact", "certified", "keep", "episodes", "difference_mean", "difference_lower95", "margin",
                "teacher_return_mean", "random_return_mean", "wealth", "return_range"},
    "verify": {"checked", "mismatches", "targets"},
    "bench": {"artefact", "rows"},
}  # fmt: skip


def test_run_gives_a_certified_small_verified_policy(line: tuple[Path, Any]) -> None:
    run, result = line
    for verb, keys in KEYS.items():
        assert keys <= result[verb].keys(), verb
    assert result["train"]["return_mean"] >= 475
    assert result["train"]["return_ci95"][0] <= result["train"]["return_mean"] <= result["train"]["return_ci95"][1]
    small = result["compress"]
    assert small["certified"]
    assert small["teacher_size_bytes"] >= 20 * small["size_bytes"]
    assert small["teacher_macs"] >= 10 * small["macs"]
    certificate = result["certify"]
    assert certificate["certified"]
    assert certificate["difference_lower95"] > -certificate["margin"]
    assert certificate["wealth"] >= certificate["wealth_needed"] == pytest.approx(25)
    assert certificate["return_range"] == [0, 500]
    assert result["verify"]["mismatches"] == 0
    assert result["verify"]["checked"] >= 100_000
    engines = {row["engine"] for row in result["bench"]["rows"]}
    assert {"nimbleq-c", "nimbleq-python", "onnxruntime", "torch"} <= engines
    for row in result["bench"]["rows"]:
        assert 0 < row["p50_us"] <= row["p99_us"] <= row["p999_us"]
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    assert (run / "build").is_dir()


def test_the_size_is_what_the_weights_take(line: tuple[Path, Any]) -> None:
    from nimbleq.graph.artefact import load_artefact

    run, result = line
    graph = load_artefact(run / "artefacts" / "small").graph
    used = {name for node in graph.nodes for name in node.op.weight_names()}
    packed = {name: graph.stored(name) for name in used}
    size = sum(len(one.encoding.pack(one.codes, one.format)) for one in packed.values())
    assert result["compress"]["size_bytes"] == size
    header = int.from_bytes((run / "artefacts" / "small" / "weights.safetensors").read_bytes()[:8], "little")
    assert (run / "artefacts" / "small" / "weights.safetensors").stat().st_size == 8 + header + size


def test_the_same_command_again_does_nothing_anew(inline: Any, line: tuple[Path, Any]) -> None:
    run, before = line
    done = inline("run", "--env", "CartPole-v1", "--seed", "11", "--out", run, "--json")
    assert done.code == 0
    assert done.json["train"] == before["train"]
    assert done.json["certify"] == before["certify"]
    assert done.err.count("already done") == 6


def test_certify_again_plays_nothing_anew_and_a_fresh_test_stands_beside(
    inline: Any, line: tuple[Path, Any], tmp_path: Path
) -> None:
    original, before = line
    run = Path(shutil.copytree(original, tmp_path / "cp"))
    small = run / "artefacts" / "small"
    known = json.loads((small / "certificate.json").read_text())
    done = inline("certify", small, "--json")
    assert done.code == 0, done.err
    assert {**done.json, "artefact": ""} == {**before["certify"], "artefact": ""}
    assert json.loads((small / "certificate.json").read_text()) == known
    fresh = inline("certify", small, "--fresh", "--json")
    assert fresh.code == 0, fresh.err
    assert fresh.json["attempt"] == 2
    told = json.loads((small / "certificate.json").read_text())
    assert told["returns"] == known["returns"]
    assert [one["seeds"] for one in told["beside"]] == [fresh.json["seeds"]]


def test_verify_sees_a_changed_export(inline: Any, line: tuple[Path, Any], tmp_path: Path) -> None:
    run, _ = line
    out = tmp_path / "build"
    assert inline("export", run, "--out", out).code == 0
    assert inline("verify", out, "--observations", "2000", "--json").json["mismatches"] == 0
    source = next(path for path in out.rglob("*.c") if "main" not in path.name)
    source.write_text(source.read_text().replace("{", "{ ", 1) + "\n/* changed */\n")
    assert source.name in inline("verify", out, "--observations", "2000").err


def test_resuming_a_finished_training_with_other_settings_is_refused(inline: Any, line: tuple[Path, Any]) -> None:
    run, _ = line
    done = inline("run", "--env", "CartPole-v1", "--seed", "11", "--out", run, "--learner.lr", "0.5")
    assert done.code == 2
    assert "learner.lr" in done.err


def test_settings_from_a_file_are_those_settings(inline: Any, line: tuple[Path, Any]) -> None:
    run, before = line
    words = ("run", "--config", run / "config.json", "--out", run)
    done = inline(*words, "--json")
    assert done.code == 0, done.err
    assert done.err.count("already done") == 6
    assert done.json["train"] == before["train"]
    changed = inline(*words, "--seed", "12")
    assert changed.code == 2
    assert "was started with seed = 11, not 12" in changed.err, "what is given on the command line wins"
