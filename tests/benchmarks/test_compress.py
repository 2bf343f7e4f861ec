"""The compression leaderboard: which cells there are, and how its table and picture show them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.cases import equal_bytes, load
from benchmarks.cases.compress import peers, show
from benchmarks.cases.compress.measure import returns_facts
from benchmarks.cases.compress.methods import METHODS
from benchmarks.cases.compress.settings import settings_of, teaches
from benchmarks.cases.compress.teachers import TEACHERS
from benchmarks.catch import Catch
from benchmarks.record import Record
from nimbleq.cli import parse
from nimbleq.compress.passes.quantize import WEIGHTS
from nimbleq.compress.quantize.methods import METHODS as RANGES
from nimbleq.compress.search.ladder import RECIPES
from nimbleq.verbs import compress as verb


def test_every_teacher_has_a_cell_for_each_method_that_suits_it_and_each_seed() -> None:
    cells = [cell.name for cell in load("compress").cells((0, 1, 2))]
    assert len(cells) == len(set(cells))
    recipes = {name for name in METHODS if name in RECIPES}
    assert recipes == set(RECIPES)
    assert len([name for name in METHODS if name.startswith("teacher ")]) == len(WEIGHTS) + len(RANGES) + 2
    for seed in (0, 1, 2):
        assert {f"{teacher} distill seed{seed}" for teacher in TEACHERS} <= set(cells)
        assert f"lunarlander last-bytes seed{seed}" in cells
        assert f"lunarlander mobilenet seed{seed}" not in cells
        assert {f"catch {peer} seed{seed}" for peer in peers.ROWS} <= set(cells)


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_a_command(teacher: str, method: str, tmp_path: Path) -> None:
    words = [str(tmp_path), *METHODS[method].words, *TEACHERS[teacher].compress, "--no-scratch"]
    assert parse(verb.Args, "compress", words).keep < 0.99


@pytest.mark.parametrize("most", equal_bytes.BYTES)
def test_the_fewer_bits_the_wider_the_student_of_as_many_bytes(most: int) -> None:
    widths = [equal_bytes.widest(most, setting) for setting in equal_bytes.FORMATS.values()]
    assert widths == sorted(set(widths)), "from 8 bits to three values each is wider than the one before"
    for width, setting in zip(widths, equal_bytes.FORMATS.values(), strict=True):
        assert equal_bytes.size_bytes(width, setting) <= most < equal_bytes.size_bytes(width + 1, setting)


def cell(size: int, share: float, **more: object) -> dict[str, object]:
    known = {"macs": size, "latency_us": 0.5, "regret": 0.1, "return_mean": 100 * share, "return_ci95": [90, 110]}
    kept = {"share_kept": share, "share_kept_ci95": [share - 0.1, share + 0.1], "certified": share > 0.9}
    return known | kept | {"size_bytes": size, "stamp": {}} | more


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = {
        f"lunarlander {show.TEACHER} seed0": {"size_bytes": 1000, "macs": 900, "return_mean": 100.0,
                                              "return_ci95": [95, 105], "stamp": {}},
        "lunarlander linear seed0": cell(40, 0.5),
        "lunarlander auto seed0": cell(30, 0.99),
        "lunarlander auto seed1": cell(10, 0.95),
        "lunarlander distill seed0": cell(90, 0.98),
        "lunarlander NNCF int8 seed0": {"error": "no nncf", "stamp": {}},
    }  # fmt: skip
    for name, made_cell in made.items():
        made_cell["settings"] = settings_of("lunarlander", name.removeprefix("lunarlander ").rpartition(" seed")[0])
    (tmp_path / "compress.json").write_text(json.dumps({"cells": made}))
    return Record(tmp_path / "compress.json")


def test_the_smallest_that_is_certified_comes_first_and_what_is_missing_is_named(record: Record) -> None:
    names = [*record.cells, "lunarlander last-bytes seed0"]
    text = show.table(record, names)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| (teacher)", "| auto", "| distill", "| linear"]
    assert (
        "| auto | 2 of 2 | 20 | ×50 | 20 | ×45 | 0.5 µs | 0.1 | 97 (90 to 110) | 97.0% (85.0% to 109.0%) | 2 of 2 |"
        in text
    )
    assert "| linear | 1 of 2 | 40 | ×25 |" in text
    assert "0 of 1 |" in text
    assert "1 failed: no nncf: lunarlander NNCF int8 seed0." in text
    assert "1 not measured yet: lunarlander last-bytes seed0." in text


def test_a_cell_with_other_settings_is_measured_again(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "lunarlander distill seed0"
    wanted = {cell.name: cell.settings for cell in load("compress").cells((0,))}
    assert record.finished(name, wanted[name])
    row = TEACHERS["lunarlander"]
    monkeypatch.setitem(TEACHERS, "lunarlander", replace(row, compress=(*row.compress[:-1], "128")))
    changed = {cell.name: cell.settings for cell in load("compress").cells((0,))}
    methods = {name: name.removeprefix("lunarlander ").rpartition(" seed")[0] for name in wanted}
    assert {name for name in wanted if wanted[name] != changed[name]} == {
        name for name in wanted if name.startswith("lunarlander ") and teaches(methods[name])
    }
    assert not teaches("teacher int8")
    assert not record.finished(name, changed[name])
    text = show.table(record, list(record.cells))
    assert "| distill |" not in text
    assert "measured with other settings" in text


def test_the_picture_holds_every_cell_and_is_well_formed(record: Record, tmp_path: Path) -> None:
    show.draw(record, tmp_path)
    text = (tmp_path / "compress.svg").read_text()
    ElementTree.fromstring(text)
    assert text.count("<title>") == 5
    assert "certified" in text
    assert "LunarLander" in text


def test_the_share_is_of_what_lies_above_random_play() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.normal(100, 5, 400)
    facts = returns_facts(teacher - 20, teacher, np.zeros(400))
    assert facts["share_kept"] == pytest.approx(1 - 20 / teacher.mean())
    assert facts["share_kept_ci95"] == pytest.approx([facts["share_kept"]] * 2)


def test_a_paddle_that_follows_the_ball_catches_every_one() -> None:
    env = Catch()
    obs, _ = env.reset(seed=3)
    total, over = 0.0, False
    while not over:
        cells = obs[-1][6::12, 6::12]
        ball = int(cells[:-1].sum(axis=0).argmax()) if cells[:-1].any() else env.paddle
        obs, reward, over, _, _ = env.step(1 + int(np.sign(ball - env.paddle)))
        total += reward
    assert total == 10
