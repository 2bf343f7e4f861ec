"""Options: every one has help, and every one that a message names is there."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import warnings
from pathlib import Path

import pytest
import tyro

from nimbleq.cli import VERBS
from nimbleq.errors import ConfigError
from nimbleq.verbs.arguments import registry, whole_number

SRC = Path(__file__).parents[1] / "src" / "nimbleq"
OURS = {"--help", "--version", "--json"}


def parser_of(verb: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"nimbleq.verbs.{VERBS[verb].module or verb}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = tyro.extras.get_parser(module.Args, registry=registry())
    assert isinstance(made, argparse.ArgumentParser)
    return made


def options_of(verb: str) -> set[str]:
    return {word for action in parser_of(verb)._actions for word in action.option_strings}


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help(verb: str) -> None:
    for action in parser_of(verb)._actions:
        words = re.sub(r"\(.*?\)|\[.*?\]", "", str(action.help or "")).strip()
        assert words, f"{verb} {action.option_strings or action.dest} says nothing of itself"


def texts(path: Path) -> list[tuple[int, str]]:
    """All string literals of a module, docstrings included."""
    return [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_options_in_messages_exist() -> None:
    known = set().union(OURS, *(options_of(verb) for verb in VERBS))
    known |= {f"--{word.removeprefix('--').replace('_', '-')}" for word in known}
    targets = ("c/selftest", "cross/cmake", "verilog/simulate", "verilog/testbench")  # write other programs
    foreign = {"verbs/doctor.py", "rl/envs/gymnax.py", *(f"deploy/targets/{file}.py" for file in targets)}
    wrong = [
        f"{path.relative_to(SRC)}:{line}: {option}"
        for path in sorted(SRC.rglob("*.py"))
        if path.relative_to(SRC).as_posix() not in foreign
        for line, text in texts(path)
        if " " in text  # a word alone is an argument for another program
        for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w(?![\w.-])", text)
        if option.replace("_", "-") not in known
    ]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("text", "number"), [("100000", 100_000), ("1e5", 100_000), ("100_000", 100_000), ("-3", -3), ("2.5e3", 2_500)]
)
def test_whole_numbers(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["1.5", "1e-2", "nan", "inf", "1e999999999", "many", ""])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        whole_number(text)


def test_what_was_meant_is_said() -> None:
    from nimbleq.cli import parse
    from nimbleq.verbs import train

    for wrong, meant in (
        ("--lr", "--learner.lr"), ("--network.hiden", "--network.hidden"), ("--learner.engien", "--learner.engine"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(f"did you mean {meant} or ")):
            parse(train.Args, "train", [wrong, "5"])
    assert parse(train.Args, "train", ["--steps", "1e5"]).config.steps == 100_000


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_refusal_is_the_message_alone_on_any_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no UTF-8 tyro draws rules of hyphens and no box."""
    from nimbleq.cli import parse
    from nimbleq.verbs import export, train

    monkeypatch.setattr("tyro._fmtlib._should_use_utf8_drawing_chars", lambda: encoding == "utf-8")
    for kind, words, message in (
        (export.Args, ["a", "--foo"], "Unrecognized options: --foo (nimbleq verb --help)"),
        (export.Args, ["a", "--foo-bar", "-x"], "Unrecognized options: --foo-bar, -x (nimbleq verb --help)"),
        (export.Args, ["a", "--out"], "Missing value for argument '--out'. Expected 1 values. (nimbleq verb --help)"),
        (train.Args, ["--steps", "x"], "Error parsing --steps: 'x' is not a whole number (nimbleq verb --help)"),
    ):
        with pytest.raises(ConfigError) as refused:
            parse(kind, "verb", words)
        assert str(refused.value) == message
