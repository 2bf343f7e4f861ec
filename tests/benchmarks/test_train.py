"""Plan, tables and picture of the training benchmark, on made-up results."""

from math import inf
from pathlib import Path
from typing import Any

import pytest

from benchmarks.case import Context
from benchmarks.cases.train import CASE, cells, faster, score_turn
from benchmarks.cases.train_curves import draw, mean_curve, write_svg
from benchmarks.cases.train_tables import (
    recipe_summary,
    score_summary,
    score_table,
    seconds_to,
    sections,
    short_table,
)
from benchmarks.peers import PEERS
from benchmarks.peers.cleanrl import epsilon_at, ours
from nimbleq.config import TrainConfig
from nimbleq.rl.explore import epsilon_at as our_epsilon_at
from nimbleq.verbs.train import Args, arguments


def peer(seconds: float, reached: bool = True) -> dict[str, Any]:
    return {
        "seconds": seconds, "reached": reached, "steps": 50_000, "return_mean": 480.0, "best": 430.0, "threads": 1,
        "setup_seconds": 2.0, "compile_seconds": 1.0, "process_seconds": 9.0,
    }  # fmt: skip


def mine(seconds: float, mean: float = 490.0) -> dict[str, Any]:
    return {
        "train_seconds": seconds, "return_mean": mean, "return_ci95": [mean - 1, mean + 1], "steps": 9_000,
        "process_seconds": 3.0, "curve": [[0, 0.0, 1.0], [9_000, seconds, 5.0]],
    }  # fmt: skip


def results() -> dict[str, dict[str, Any]]:
    return {
        "cartpole-sb3-0": peer(50.0),
        "cartpole-sb3-1": peer(60.0, reached=False),
        "cartpole-nimbleq-0": mine(0.5),
        "cartpole-nimbleq-1": mine(1.0),
        "cartpole-speed-sb3-1": {"seconds": 4.0},
        "cartpole-speed-sb3-2": {"seconds": 3.0},
        "balance-nimbleq-0": mine(2.0, 10_000.0),
        "recipe-cleanrl-0": peer(80.0),
        "recipe-nimbleq-0": mine(10.0),
        "breakout-nimbleq-0": mine(100.0),
        "breakout-nimbleq-1": mine(110.0),
    }


def test_peers_and_nimbleq_take_turns_and_peers_get_the_faster_threads() -> None:
    names = [cell.name for cell in cells([0, 1]) if cell.name.startswith("cartpole") and "speed" not in cell.name]
    assert names == [
        "cartpole-sb3-0", "cartpole-sbx-0", "cartpole-nimbleq-0", "cartpole-sbx-1",
        "cartpole-nimbleq-1", "cartpole-sb3-1",
    ]  # fmt: skip
    assert faster(results(), "cartpole", "sb3") == 2
    assert faster(results(), "cartpole", "sbx") == 1  # not measured
    assert score_turn("cartpole", 0).keys() == {*PEERS, "nimbleq"}


def test_every_command_of_ours_is_one_that_train_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def parsed(*words: str, accepted: tuple[int, ...] = (0,)) -> dict[str, Any]:
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.jsonl").touch()
        if "MinAtar/Breakout-v1" not in words:  # whose package may not be installed
            arguments(words[1:])
        seen.append(words[words.index("--env") + 1])
        return {"run": str(out)}

    monkeypatch.setattr("benchmarks.process.nimbleq", parsed)
    for quick in (False, True):
        for cell in cells(CASE.seeds):
            if "nimbleq" in cell.name or "envpool" in cell.name:
                assert cell.measure(Context({}, tmp_path, tmp_path, quick)) == {"curve": []}
    assert {*seen} == {"CartPole-v1", "LunarLander-v3", "MinAtar/Breakout-v1"}


def test_the_recipe_in_our_settings_is_the_published_one() -> None:
    import tyro

    args = tyro.cli(Args, args=ours(500_000), default=arguments(ours(500_000)))
    config: TrainConfig = args.config
    assert (config.envs, config.update_every, config.updates_per_step, config.learn_start) == (1, 10, 1, 10_000)
    assert (config.network.hidden, config.network.layer_norm, config.network.dueling) == ((120, 84), False, False)
    assert not config.network.normalize_obs
    assert not config.learner.double
    assert (config.learner.target, config.learner.target_every * config.update_every) == ("hard", 500)
    assert (config.learner.loss, config.learner.lr, config.learner.max_grad_norm) == ("mse", 2.5e-4, 0)
    assert (config.replay.capacity, config.replay.n_step, config.replay.prioritized) == (10_000, 1, False)
    for step in (10_000, 100_000, 250_000, 400_000):
        assert our_epsilon_at(config.explore, (step - 10_000) // 10) == pytest.approx(epsilon_at(step, 500_000))


def test_what_was_not_reached_is_infinite_and_bounds_the_ratio() -> None:
    found = score_summary(results(), "cartpole")
    assert found["sb3"]["reached"] == 1
    assert found["sb3"]["seconds"]["median"] is None
    assert found["sb3"]["times"] == [50.0, None]
    assert found["sb3"]["ratio"]["median"] == 80.0  # of 50 ÷ 0.5 and 60 ÷ 1
    assert found["sb3"]["ratio"]["bound"]
    assert found["nimbleq"]["seconds"]["median"] == 0.75
    assert seconds_to(475.0, mine(1.0, 470.0)) == inf
    assert seconds_to(475.0, {"error": "exit 1"}) == inf
    table = score_table(results(), "cartpole")
    assert "not in 50,000 steps (best 480, 60 s)" in table
    assert "≥ ×80" in table


def test_the_recipe_counts_whole_pairs() -> None:
    known = results() | {"recipe-cleanrl-1": {"error": "exit 1"}, "recipe-nimbleq-1": mine(10.0)}
    found = recipe_summary(known)
    assert found["ratio"] == {"median": 8.0, "ci95": [8.0, 8.0], "least": 8.0, "most": 8.0, "pairs": 1}
    assert found["return_difference"] == {"mean": 10.0, "ci95": [10.0, 10.0]}
    assert recipe_summary({}) == {}


def test_a_ratio_is_of_the_seeds_that_both_have() -> None:
    known = {"cartpole-sb3-1": peer(60.0), "cartpole-sb3-2": peer(80.0)}
    known |= {"cartpole-nimbleq-0": mine(0.1), "cartpole-nimbleq-2": mine(2.0)}
    found = score_summary(known, "cartpole")["sb3"]["ratio"]
    assert (found["median"], found["pairs"]) == (40.0, 1)
    assert "ratio" not in score_summary({"cartpole-sb3-1": peer(60.0)}, "cartpole")["sb3"]


def test_all_sections_are_made_of_what_is_there() -> None:
    text = "\n".join(sections(results()))
    for title in ("CartPole-v1 until", "episodes of 10,000 steps", "CleanRL's dqn.py", "Breakout"):
        assert title in text
    assert "LunarLander" not in text
    assert sections({}) == []


def test_the_mean_curve_lies_between_its_curves(tmp_path: Path) -> None:
    curves = [[(0.0, 0.0), (10.0, 10.0)], [(2.0, 4.0), (8.0, 10.0)]]
    mean = mean_curve(curves, points=4)
    assert mean == [(2.0, 3.0), (4.0, 5.0), (6.0, 7.0), (8.0, 9.0)]
    steps = [[[1_000 * x, x, y] for x, y in curve] for curve in curves]
    drawing = draw(steps, "Breakout <mean>")
    assert drawing.count('class="line check"') == 3  # two panels and the key
    assert "Breakout &lt;mean&gt;" in drawing
    write_svg(steps, "Breakout", tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


def test_the_readmes_table_has_medians_the_slowest_seed_and_ratios_that_are_bounds_where_a_peer_failed() -> None:
    rows = short_table(results()).splitlines()
    assert rows[2] == "| CartPole-v1 to 475 | 0.75 s, 1 s | SB3 DQN ∞ s (1 of 2 seeds) | ≥ ×80 [60, 100] |"
    assert rows[3] == "| CleanRL's recipe, 9,000 steps | 10 s, 10 s | in PyTorch 80 s | ×8 [8, 8] |"
    assert rows[4] == "| CartPole-v1, episodes of 10,000 steps held | 2 s, 2 s | – | – |"
