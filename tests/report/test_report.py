"""The report as a reader gets it: complete, self-contained, safe, and calm about what is missing."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.errors import ConfigError, FileError
from nimbleq.graph.artefact import attach_certificate, save_artefact
from nimbleq.report import write_frontier_svg, write_report
from nimbleq.report.certificate import Wealth, draw_wealth
from nimbleq.report.page import render
from nimbleq.report.read import read_run
from nimbleq.report.units import NARROW
from nimbleq.rundir import RunDir
from tests.report.example import add_artefacts, certificate, make_run, network, results

VOID = {"meta", "link", "br", "hr"}
HOSTILE = "</style></title></svg><script>alert(1)</script><img src=x onerror='alert(2)'>\"&\x00\ud800\u202e"


class Page(HTMLParser):
    """Checks that elements close in order, and collects elements and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        """All that is to be read, with plain spaces."""
        return re.sub(r"\s+", " ", " ".join(self.words).replace(NARROW, " "))


def page_of(run: RunDir) -> tuple[str, Page]:
    """Write the report; its source, and what a browser makes of it."""
    source = write_report(run).read_text(encoding="utf-8")
    page = Page(source)
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("href", "src") or value == "data:,"
            assert name in ("content", "aria-label", "class") or not re.search(r"nan|inf", value or ""), (
                tag,
                name,
                value,
            )
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert len(source.encode()) < 1_000_000
    return source, page


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = make_run(tmp_path / "run")
    add_artefacts(made)
    return made


def test_the_whole_line_is_told(run: RunDir) -> None:
    source, page = page_of(run)
    for expected in (
        "LunarLander-v3", "243.1", "242.3", "×141", "1.95 kB", "×48.7", "46 ns", "certified", "68 608",
        "220 000 environment steps in 22.5 s", "aim 225", "teacher − margin 238.7", "random play −193.9",
        "linear 160 B", "from scratch 1.95 kB", "each played the same 1 600 episodes", "margin −4.37", "bound −3.1",
        "measured −0.83", "117.9, teacher 121.4", "6.1 %", "onnxruntime", "×213", "200 512 answers",
        "not one differed", "483 B", "1 681 instructions", "4f4f4f", "run/config.json --out",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert "@import" not in source
    assert not re.search(r"https?://", source)


def test_every_candidate_is_marked_and_has_a_tooltip(run: RunDir) -> None:
    source, page = page_of(run)
    for candidate in results()["compress"]["candidates"]:
        assert page.text.count(candidate["name"]) >= 3  # wide plot, narrow plot, table
    wide = source.split('id="frontier"')[1].split('class="narrow"')[0]
    assert wide.count('class="tip"') == 13


def test_layers_sum_up(run: RunDir) -> None:
    _, page = page_of(run)
    params = 8 * 256 + 256 + 256 * 256 + 256 + 256 * 4 + 4
    assert f"{params:,}".replace(",", " ") in page.text
    assert f"{params * 4:,}".replace(",", " ") in page.text


@pytest.mark.parametrize(
    ("verbs", "expected"),
    [
        (
            (),
            [
                "No learning curve",
                "nimbleq train",
                "Nothing has been compressed",
                "No decision has been timed",
                "no model yet",
            ],
        ),
        (("train",), ["243.6", "Nothing has been compressed yet. Run nimbleq compress", "nimbleq verify"]),
        (("train", "compress"), ["×141", "Nothing has been certified yet. Run nimbleq certify", "nimbleq bench"]),
        (("train", "compress", "certify"), ["certified", "No decision has been timed yet. Run nimbleq bench"]),
    ],
)
def test_what_is_missing_names_its_command(tmp_path: Path, verbs: tuple[str, ...], expected: list[str]) -> None:
    given = {verb: value for verb, value in results().items() if verb in verbs}
    run = make_run(tmp_path / "run", given, lines=300 if verbs else 0)
    if verbs:
        add_artefacts(run)
    if "compress" not in verbs:
        shutil.rmtree(run.artefact("small"), ignore_errors=True)
    _, page = page_of(run)
    words = page.text.replace("  ", " ")
    for sentence in expected:
        assert sentence in words, sentence


def test_an_imported_policy_has_no_learning_curve(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"import": {"env": "CartPole-v1", "from": "sb3"}}, lines=0)
    run.config.write_text(json.dumps({"format": 1, "env": {"id": "CartPole-v1"}, "imported": {"from": "sb3"}}))
    obs, command = np.zeros((1, 8), np.float32), "nimbleq import 'my model.zip' --env CartPole-v1 --out x --episodes 9"
    save_artefact(run.teacher, network(4), obs, {"command": command})
    _, page = page_of(run)
    assert "This policy was imported, so there is no learning curve." in page.text
    assert f"nimbleq import 'my model.zip' --env CartPole-v1 --episodes 9 --out {run.path}-again" in page.text
    assert f"Run nimbleq compress {run.path} --keep 0.99" in page.text


def test_a_refusal_says_why_and_what_to_do(tmp_path: Path) -> None:
    _, page = page_of(make_run(tmp_path / "run", results() | {"certify": certificate(certified=False)}))
    assert "The wealth reached 3.4 of the 25 needed: not certified." in page.text
    assert "Reason given: over 1600 paired episodes" in page.text
    assert "more episodes or a larger candidate may do" in page.text
    assert "wealth 3.4, 25 needed" in page.text


def test_the_certificate_draws_its_wealth_and_says_which_range_was_assumed(run: RunDir) -> None:
    source, page = page_of(run)
    assert source.count('aria-label="Wealth of the bet over the episodes') == 2  # wide and narrow
    for words in (
        "returns lie between −500 and 530 (stated with --return-range)",
        "No loss of more than 1 030 was seen in 1 600 episodes: with 95 % confidence at most 0.19 % of the episodes",
        "a false claim reaches a wealth of 25 with a probability of at most 4 %",
        "about 870 episodes were expected",
        "The wealth reached the needed value after 1 208 episodes: certified.",
        "25 needed",
    ):
        assert words in page.text, words


@pytest.mark.parametrize(("episodes", "anchor"), [(900.0, "start"), (100.0, "end"), (None, "start")])
def test_the_caption_of_the_wealth_needed_keeps_clear_of_the_curve(episodes: float | None, anchor: str) -> None:
    wealth = Wealth(((0.0, 0.0), (1000.0, 3.0)), 25.0, episodes is not None, episodes)
    assert re.search(rf'<text [^>]*text-anchor="{anchor}"[^>]*>25 needed<', str(draw_wealth(wealth, 400)))


def test_an_older_certificate_certifies_nothing(tmp_path: Path) -> None:
    older = {name: value for name, value in certificate(certified=True).items() if "wealth" not in name}
    _, page = page_of(make_run(tmp_path / "run", results() | {"certify": older}))
    assert "of an older kind, whose error was larger than stated" in page.text
    assert "not certified yet" in page.text
    assert "nimbleq certify" in page.text


def hostile(value: Any) -> Any:
    """The same JSON with every string, keys included, replaced by an attack."""
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()} | {HOSTILE: HOSTILE}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) and value not in ("artefact", "chosen") else value


def test_nothing_can_be_injected(tmp_path: Path) -> None:
    given = {verb: hostile(value) for verb, value in results().items()}
    for value in given.values():
        value["artefact"] = "../../small"  # its last part counts, so nothing is led out of the run
    run = make_run(tmp_path / "run", given)
    run.save_result("train", given["train"] | {"artefact": ""})
    run.config.write_text(json.dumps({"train": {"env": {"id": HOSTILE}}}))
    obs = np.zeros((1, 8), np.float32)
    attack = {HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}}
    save_artefact(run.artefact("small"), network(4), obs, attack, certificate(certified=True) | {"reason": HOSTILE})
    source, page = page_of(run)
    tags = {tag for tag, _ in page.elements}
    assert "img" not in tags
    assert "alert(1)" in page.text
    assert "<img" not in source
    assert not re.search("[\x00\ud800-\udfff\u202e]", source)


WRONG: list[Any] = [None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "x", [], [1, "x"], {}, {"a": [None]}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_values_of_the_wrong_kind_count_as_missing(tmp_path: Path, wrong: Any) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        return [spoil(item) for item in value] if isinstance(value, list) and value else wrong

    run = make_run(tmp_path / "run", {}, lines=0)
    place = {verb: run.result(verb, "" if verb == "train" else "small") for verb in results()}
    for path in place.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    for verb, value in results().items():
        place[verb].write_text(json.dumps(spoil(value)))
    row = json.dumps(dict.fromkeys(("step", "return_mean", "seconds", "check_return"), wrong))
    run.metrics.write_text(f"{row}\n{row}\n[1]\n")
    page_of(run)
    for path in place.values():
        path.write_text(json.dumps(wrong))
    page_of(run)


@pytest.mark.parametrize("odd", [0, -3.5, pytest.param(1e-300, marks=pytest.mark.long)])
def test_each_number_alone_may_be_odd(tmp_path: Path, odd: float) -> None:
    given = results()
    for row in given["bench"]["rows"]:
        del row["histogram"]
    run = make_run(tmp_path / "run", given, lines=20)
    for verb, value in given.items():
        place = run.result(verb, "" if verb == "train" else "small")
        for key in value:
            if isinstance(value[key], int | float):
                place.write_text(json.dumps(value | {key: odd}))
                render(read_run(run))
        run.save_result(verb, value)


@pytest.mark.parametrize("odd", [0, pytest.param(-3.5, marks=pytest.mark.long), 1e-300, 1e15])
@pytest.mark.parametrize("key", ["size_bytes", "macs", "return_mean", "latency_us", "p50_us", "p999_us", "max_q_error"])
def test_each_column_may_be_odd(tmp_path: Path, key: str, odd: float) -> None:
    given = results()
    for rows in (given["compress"]["candidates"], given["bench"]["rows"], given["verify"]["targets"]):
        for row in rows[::2]:
            row[key] = odd
    page_of(make_run(tmp_path / "run", given, lines=20))


def test_dark_colours_come_last(run: RunDir) -> None:
    source, _ = page_of(run)
    assert source.index("--paper: #ffffff") < source.index("prefers-color-scheme: dark")


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lines=0)
    rows = ({"step": k * 16, "seconds": k / 1e3, "return_mean": float(k % 500)} for k in range(100_000))
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 16000')
    source, page = page_of(run)
    assert "100 000 points recorded" in page.text
    assert "1 line of metrics.jsonl could not be read" in page.text
    assert len(source) < 200_000


def test_many_candidates_are_limited(tmp_path: Path) -> None:
    given = results()
    given["compress"]["candidates"] *= 300
    source, page = page_of(make_run(tmp_path / "run", given))
    assert "further candidates" in page.text
    assert len(source) < 1_000_000


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.result("compress", "small").write_text('{"artefact": "sm')
    with pytest.raises(FileError, match=r"compress\.json is not valid JSON"):
        write_report(run)


def test_a_tampered_artefact_is_not_called_certified(run: RunDir) -> None:
    model = run.artefact("small") / "model.json"
    model.write_text(model.read_text()[:-20])
    _, page = page_of(run)
    assert "Cannot be shown" in page.text
    assert "not intact" in page.text
    assert "The certificate no longer holds" in page.text


def test_the_verdict_on_the_files_as_they_are_counts(run: RunDir) -> None:
    attach_certificate(run.artefact("small"), certificate(certified=False))
    _, page = page_of(run)
    assert "of the 25 needed: not certified" in page.text


def test_the_same_run_gives_the_same_report(run: RunDir) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_the_picture_stands_alone(run: RunDir, tmp_path: Path) -> None:
    root = ElementTree.fromstring(write_frontier_svg(run, tmp_path / "frontier.svg").read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "chosen 1.95" in "".join(root.itertext())
    assert root.find("{http://www.w3.org/2000/svg}rect[@class='paper']") is not None


def test_no_picture_without_candidates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nimbleq compress"):
        write_frontier_svg(make_run(tmp_path / "run", {}), tmp_path / "frontier.svg")
