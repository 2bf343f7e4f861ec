"""Plans, tables and floors of the benchmarks of two networks and of transfer, on made-up results."""

from math import inf
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import policy_value, transfer
from benchmarks.record import Record
from nimbleq.verbs.train import arguments


def record(folder: Path, cells: dict[str, dict[str, Any]]) -> Record:
    made = Record(folder / "cells.json")
    made.cells = {name: {**cell, "stamp": {}} for name, cell in cells.items()}
    return made


def pair(returns: float, smaller: float = 40) -> dict[str, Any]:
    beside = {"policy_size_bytes": 100, "value_size_bytes": 100 * smaller, "value_return_mean": 250.0, "agreement": 0.9}
    return {"return_mean": returns, "train_seconds": 30.0, "policy_value": beside}


def alone(returns: float) -> dict[str, Any]:
    return {"return_mean": returns, "train_seconds": 20.0}


def test_arms_of_a_seed_come_together_and_their_words_are_options() -> None:
    names = [cell.name for cell in policy_value.cells([0, 7])]
    assert names[:3] == ["lunarlander-speed", "cartpole-speed", "breakout-speed"]
    assert names[3:8] == [f"lunarlander-{arm}-0" for arm in policy_value.ARMS]
    assert "lunarlander-alone-7" in names
    assert "breakout-alone-7" not in names
    for task in policy_value.TASKS.values():
        if task.env != "MinAtar/Breakout-v1":
            assert arguments(["--env", task.env, *task.words]).config.env.id == task.env


def test_an_arm_is_compared_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        {
            "lunarlander-alone-0": alone(200.0), "lunarlander-value-0": pair(198.0), "lunarlander-value-1": pair(50.0),
            "lunarlander-policy-0": pair(100.0, smaller=10),
            "lunarlander-speed": {
                "envs": 16, "steps_per_s": {"policy": 3e4, "value": 2e4}, "acting_us": {"policy": 5.0, "value": 25.0},
                "decision_us": {"policy": 0.1, "value": None},
                "ratio": {"median": 1.3, "least": 1.2, "most": 1.6, "pairs": 9},
            },
        },
    )  # fmt: skip
    assert policy_value.paired_share(found, "lunarlander", "value") == pytest.approx(0.99)
    assert policy_value.paired_share(found, "breakout", "value") is None
    assert policy_value.missed(found) == ["lunarlander: collection ×1.30, owed ×1.5"]
    text = policy_value.table(found, ["lunarlander-value-0", "lunarlander-value-2"])
    assert "| value | 2 | 124.0" in text
    assert "Missing: lunarlander-value-2" in text
    assert "policy 100 ns" in text


def cell(steps: int, solved: bool = True, goes_on: str = "transfer") -> dict[str, Any]:
    outcome = {"goes_on": goes_on, "why": "it is behind"}
    return {"steps": steps, "solved": solved, "return_mean": 200.0, "transfer": outcome, "source_steps": 1}


def arms(name: str, seed: int, scratch: Any, moved: Any) -> dict[str, Any]:
    cells = {"scratch": scratch, "scratch+": scratch, "transfer": moved}
    return {f"{name}-{arm}-{seed}": value for arm, value in cells.items()}


def test_savings_and_negative_cases_are_shown(tmp_path: Path) -> None:
    found = record(
        tmp_path,
        {
            **arms("layout", 0, cell(1000), cell(250)),
            **arms("layout", 1, cell(1000), cell(500)),
            **arms("minatar", 0, cell(1000), cell(2000, goes_on="scratch")),
            **arms("lander-wind", 0, cell(1000, solved=False), cell(500)),
        },
    )
    [first, second] = transfer.pairs_of(found, "layout")
    assert [transfer.saving(each) for each in (first, second)] == [4.0, 2.0]
    assert transfer.saving(transfer.pairs_of(found, "lander-wind")[0]) == inf
    assert transfer.missed(found) == ["×2 fewer steps on 2 of 3 variants, owed 3 of 6", "below ×0.8: minatar ×0.50"]
    text = transfer.table(found, list(found.cells))
    assert "**×3.00** (4, 2)" in text
    assert "- minatar, seed 0: ×0.50; it is behind" in text
    assert "1 of 1 |" in text


def test_settings_of_a_variant_are_those_of_its_preset(tmp_path: Path) -> None:
    import json

    run = transfer.VARIANTS["cartpole-length"].target
    made = json.loads(transfer.settings(run, tmp_path, quick=False, extra_steps=7).read_text())["train"]
    assert made["env"]["id"] == "benchmarks.variants:cartpole"
    assert made["env"]["kwargs"] == ["length=1.5"]
    assert made["steps"] == 300_007
    assert made["evaluation"]["stop_return"] == 475.0
