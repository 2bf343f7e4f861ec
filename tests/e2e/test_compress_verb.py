"""``nimbleq compress``: its options, what a stop leaves, and what is refused before the search."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nimbleq.cli import VERBS, parse
from nimbleq.compress.search import search
from nimbleq.compress.search.config import CompressConfig
from nimbleq.compress.search.ladder import RECIPES
from nimbleq.rundir import RunDir
from nimbleq.verbs import compress
from tests.e2e.support import files_of, one_line
from tests.test_options import options_of

FAST = (
    "--keep", "0.5", "--hidden", "linear", "4", "--select-episodes", "20", "--max-episodes", "40", "--no-scratch",
    "--workers", "1", "--distill.rounds", "1", "--distill.updates", "20", "--distill.last-updates", "20",
    "--distill.episodes", "2", "--distill.states", "100", "--return-range", "0,500",
    "--direct.population", "4", "--direct.regret-generations", "2", "--direct.episodes", "2",
    "--direct.generations", "1", "--direct.rounds", "0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _any_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brief run has learnt nothing; here that is no reason to stop."""
    monkeypatch.setattr(compress, "require_better_than_random", lambda *_: None)
    monkeypatch.setattr(search, "out_of_reach", lambda *_: "")


def test_every_setting_of_the_search_is_an_option() -> None:
    options = options_of("compress")
    for field in dataclasses.fields(CompressConfig):
        if field.name == "limits":
            assert {"--max-bytes", "--max-macs", "--max-cost", "--target"} <= set(options)
            continue
        name = f"--{field.name.replace('_', '-')}"
        assert name in options or any(option.startswith(f"{name}.") for option in options), name
    for room in ("distill", "direct"):
        for field in dataclasses.fields(getattr(CompressConfig(), room)):
            assert f"--{room}.{field.name.replace('_', '-')}" in options


def test_defaults_on_the_command_line_are_those_of_the_search(run: Path) -> None:
    args = parse(compress.Args, "compress", [str(run)])
    asked = args.config(RunDir(run))
    assert asked == dataclasses.replace(CompressConfig(), return_range=asked.return_range)
    assert (args.keep, args.recipe, args.name, args.max_episodes) == (0.99, "auto", "small", 4_000)
    assert args.scratch is True
    assert compress.options(args) == []


def test_settings_reach_the_search(run: Path) -> None:
    words = [*FAST, "--seed", "7", "--distill.lr", "0.003", "--recipe", "float32"]
    args = parse(compress.Args, "compress", [str(run), *words])
    asked = args.config(RunDir(run))
    assert (asked.hidden, asked.seed, asked.select_episodes, asked.distill.lr) == (((), (4,)), 7, 20, 0.003)
    assert asked.return_range is not None
    assert asked.return_range.ends == (0.0, 500.0)
    again = parse(
        compress.Args, "compress", [str(run), "--keep", "0.5", "--recipe", "float32", *compress.options(args)]
    )
    assert again.config(RunDir(run)) == asked
    assert again.scratch is False


def test_passes_take_the_place_of_a_recipe(run: Path) -> None:
    args = parse(compress.Args, "compress", [str(run), "--passes", "fold", "prune=0.5", "int8"])
    assert [str(step) for step in args.config(RunDir(run)).recipe] == ["fold", "prune to 0.5", "int8"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_rows_of_their_table(run: Path, name: str) -> None:
    assert parse(compress.Args, "compress", [str(run), "--recipe", name]).recipe == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--recipe", "int3"), "int3"),
        (("--passes", "prun=1"), "no pass 'prun'"),
        (("--passes", "fold", "--recipe", "int8"), "leave out one of them"),
        (("--hidden", "16x16"), "give e.g. 16-16, or linear for none"),
        (("--distill.rounds", "0"), "distill.rounds must be at least 1, not 0"),
        (("--select-episodes", "1"), "--select-episodes must be at least 2, not 1"),
        (("--max-bytes", "0"), "--max-bytes must be positive, not 0"),
        (("--max-cost", "1"), "--target and --max-cost belong together"),
        (("--target", "onnx", "--max-cost", "1"), "onnx"),
        (("--max-flash", "1"), "--target and --max-cost belong together (or --max-flash, --max-ram)"),
        (("--target", "c", "--max-ram", "1"), "--target c has no flash and RAM of its own: use one of aarch64"),
        (("--seed", "-1"), "--seed must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_leaves_nothing(
    inline: Any, run: Path, words: tuple[str, ...], said: str
) -> None:
    before = files_of(run)
    assert said in one_line(inline("compress", run, *words))
    assert files_of(run) == before


def facts(done: Any) -> Any:
    changing = ("seconds", "artefact", "teacher_latency_us")
    result = {name: value for name, value in done.json.items() if name not in changing}
    rows = [{**row, "latency_us": None} for row in result["candidates"]]
    return {**result, "candidates": rows}


def test_stopped_it_keeps_its_candidates_and_goes_on(
    inline: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compress", run, "--name", "tiny", *FAST, "--json")
    whole = inline(*words)
    assert whole.code in (0, 1), whole.err
    assert not (run / "candidates").exists() or not list((run / "candidates").iterdir())
    first = files_of(run / "artefacts" / "tiny")

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search, "start_of", stop)  # all candidates have played; the first certificate is about to start
        stopped = inline("compress", run, "--name", "other", *FAST)
    assert stopped.code == 130
    assert f"stopped; {VERBS['compress'].stopped}" in stopped.err
    assert "every finished candidate is saved" in stopped.err
    assert not (run / "artefacts" / "other").exists()
    (folder,) = (run / "candidates").iterdir()
    assert {path.name for path in folder.iterdir()} >= {row["name"] for row in whole.json["candidates"]}
    assert not [path for path in folder.rglob("*") if path.suffix not in ("", ".json", ".npz", ".safetensors")]

    with monkeypatch.context() as patch:
        patch.setattr("nimbleq.compress.passes.distill.distill", lambda *_: pytest.fail("it was distilled again"))
        again = inline("compress", run, "--name", "other", *FAST, "--json")
    assert again.code == whole.code, again.err
    assert "going on with the candidates" in again.err
    assert facts(again) == facts(whole)
    assert not folder.exists()
    weights = files_of(run / "artefacts" / "other")
    assert {name: weights[name] for name in ("model.json", "weights.safetensors", "golden.npz")} == {
        name: first[name] for name in ("model.json", "weights.safetensors", "golden.npz")
    }


def test_another_question_does_not_take_these_candidates(run: Path) -> None:
    env, config = compress.run_env(RunDir(run)), CompressConfig()
    folders = {
        compress.candidates_of(RunDir(run), each, env, teacher).folder
        for teacher in ("a", "b")
        for each in (
            config,
            dataclasses.replace(config, keep=0.9),
            dataclasses.replace(config, max_episodes=100),
            dataclasses.replace(config, distill=dataclasses.replace(config.distill, lr=0.1)),
        )
    }
    assert len(folders) == 8


def test_a_limit_too_low_for_any_candidate_is_one_line(inline: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "out_of_reach", lambda *_: "no candidate can be certified; give --max-episodes 9")
    before = files_of(run)
    assert "give --max-episodes 9" in one_line(inline("compress", run, *FAST))
    assert files_of(run).keys() - {"lock"} == before.keys() - {"lock"}
    assert json.loads((run / "config.json").read_text())
