"""``nimbleq robust`` from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.interpret import interpret
from tests.e2e.support import one_line


def write_property(path: Path, low: np.ndarray, high: np.ndarray, unsafe: str, outputs: int) -> Path:
    """A box around inputs, and a formula over the outputs."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(low))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        lines.append(f"(assert (>= X_{i} {a:.17f}))\n(assert (<= X_{i} {b:.17f}))")
    path.write_text("\n".join([*lines, f"(assert {unsafe})"]))
    return path


def test_a_property_of_an_artefact(run: Path, inline: Any, tmp_path: Path) -> None:
    small = load_artefact(run / "artefacts" / "small")
    obs, q = small.golden.obs[:1].astype(float), small.golden.q[0]
    best = int(q.argmax())
    worse = 1 - best
    near = write_property(tmp_path / "near.vnnlib", obs[0], obs[0], f"(<= Y_{best} Y_{worse})", 2)
    done = inline("robust", small.path, "--box", near, "--json")
    assert done.code == 0
    assert (done.json["verdict"], done.json["witness"]) == ("unsat", None)
    wide = np.full(4, 50.0)
    far = write_property(tmp_path / "far.vnnlib", -wide, wide, f"(<= Y_{best} Y_{worse})", 2)
    done = inline("robust", small.path, "--box", far, "--json")
    assert (done.code, done.json["verdict"]) == (0, "sat")
    assert done.json["seconds"] > 0
    witness = np.array([done.json["witness"]], np.float32)
    found = interpret(small.graph, witness)["q"][0]
    assert found[best] <= found[worse]
    assert inline("robust", small.path, "--box", far).out.startswith("sat after")


def test_one_line_for_what_is_wrong(run: Path, inline: Any, tmp_path: Path) -> None:
    small = run / "artefacts" / "small"
    box = write_property(tmp_path / "p.vnnlib", np.zeros(3), np.ones(3), "(<= Y_0 Y_1)", 2)
    assert "3 inputs and 2 outputs" in one_line(inline("robust", small, "--box", box))
    assert "nowhere.vnnlib" in one_line(inline("robust", small, "--box", tmp_path / "nowhere.vnnlib"))
    assert "--seconds must be positive" in one_line(inline("robust", small, "--box", box, "--seconds", "0"))
    (tmp_path / "m.onnx").write_bytes(b"no")
    pytest.importorskip("onnx")
    assert "m.onnx" in one_line(inline("robust", tmp_path / "m.onnx", "--box", box))


def test_a_map_of_visited_states_is_in_the_report(run: Path, inline: Any) -> None:
    done = inline("robust", run, "--states", "60", "--radius", "0.01", "--seconds", "120", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert (found["states"], found["radius"]) == (60, 0.01)
    assert found["share_proven"] + found["share_changes"] + found["share_open"] == pytest.approx(1)
    assert sum(row["states"] for row in found["by_action"]) == 60
    shares = [point["share_proven"] for point in found["curve"]]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    assert found["teacher"]["difference_at_states"]["median"] <= found["teacher"]["difference_in_boxes"]["median"]
    assert inline("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "How far decisions hold" in page
    assert "of 60 visited states it is proven" in page
    assert page.count('aria-label="The action over two features') == 2


def test_golden_observations_do_without_a_run(run: Path, inline: Any, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    (run / "artefacts" / "small").rename(alone)
    found = inline("robust", alone, "--states", "20", "--radius", "1e-6", "--json").json
    assert (found["states"], found["teacher"], found["share_changes"]) == (20, None, 0)
    assert found["share_proven"] > 0
