"""``nimbleq certify`` on a run whose teacher and artefact were written by hand: nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.compress.certify import verify_certificate
from nimbleq.errors import FileError
from nimbleq.graph.artefact import attach_certificate, load_artefact, save_artefact
from nimbleq.rundir import RunDir
from nimbleq.verbs.compress import place
from tests.balancing import balancing, balancing_run
from tests.e2e.support import one_line

KEYS = {
    "artefact", "certified", "keep", "episodes", "difference_mean", "difference_lower95", "margin",
    "teacher_return_mean", "random_return_mean", "wealth", "return_range",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return balancing_run(tmp_path / "run", np.zeros((1, 4), np.float32))


def stored(run: RunDir) -> dict[str, Any]:
    found = load_artefact(run.artefact("small")).certificate
    assert found is not None
    return found


def test_certify_plays_on_and_a_fresh_test_stands_beside(inline: Any, run: RunDir) -> None:
    small = run.artefact("small")
    words = ("certify", small, "--workers", "1")
    first = inline(*words, "--max-episodes", "150", "--json")
    assert first.code == 1
    assert first.json.keys() >= KEYS
    assert first.json["return_range"] == [0.0, 500.0]
    assert "about 3" in first.err, "before playing it says about how many episodes the claim takes"
    assert "at keep = 0.95" in first.err
    before = stored(run)
    assert len(before["returns"]["seeds"]) == 150
    second = inline(*words, "--json")
    assert second.code == 0
    assert second.json["certified"]
    assert second.json["wealth"] >= 25
    after = stored(run)
    for name in ("seeds", "teacher", "student", "random"):
        assert after["returns"][name][:150] == before["returns"][name], name
    assert verify_certificate(after).certified
    assert set(after["returns"]["student"]) == {500.0}

    again = inline(*words, "--json")
    assert (again.code, again.json) == (0, second.json)
    assert stored(run) == after, "what is certified needs no more episodes"

    fresh = inline(*words, "--fresh", "--json")
    assert fresh.code == 0
    assert (fresh.json["attempt"], fresh.json["fresh"]) == (2, True)
    told = stored(run)
    assert {name: told[name] for name in after if name != "beside"} == {n: v for n, v in after.items() if n != "beside"}
    assert [one["attempt"] for one in told["beside"]] == [2]
    assert not set(told["beside"][0]["returns"]["seeds"]) & set(told["returns"]["seeds"])

    more = inline(*words, "--keep", "0.999", "--max-episodes", "20", "--json")
    assert more.code == 1
    assert more.json["attempt"] == 3
    told = stored(run)
    assert (told["certified"], told["keep"]) == (True, 0.99), "a weaker outcome does not replace what was certified"
    assert verify_certificate(told).certified


def test_an_older_certificate_is_said_to_be_one_and_certified_again(inline: Any, run: RunDir) -> None:
    small = run.artefact("small")
    older = {"certified": True, "keep": 0.95, "episodes": 299, "looks": [], "seeds": {"purpose": "certify"}}
    attach_certificate(small, older)
    page = inline("report", run.path)
    assert page.code == 0
    done = inline("certify", small, "--workers", "1", "--json")
    assert "of an older kind" in done.err
    assert done.code == 0
    assert (done.json["keep"], done.json["attempt"]) == (0.95, 1)
    verify_certificate(stored(run))


def test_masks_that_are_not_read_are_said_where_play_is_measured(
    inline: Any, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymnasium.envs.classic_control.CartPoleEnv.legal_actions", lambda self: [0, 1], raising=False)
    for words in (("certify", run.artefact("small"), "--max-episodes", "2"), ("compress", run.path, "--passes", "int8",
                   "--keep", "0.001", "--max-episodes", "2", "--select-episodes", "3", "--no-scratch")):  # fmt: skip
        done = inline(*words, "--workers", "1", "--json")
        assert "has a method legal_actions() that is not called" in done.err


def test_attempts_are_counted_although_the_artefact_was_replaced(inline: Any, run: RunDir) -> None:
    small = run.artefact("small")
    words = ("certify", small, "--workers", "1", "--max-episodes", "20", "--json")
    assert inline(*words).json["attempt"] == 1
    assert inline(*words).json["attempt"] == 1, "it played on"
    seeds = set(stored(run)["returns"]["seeds"])
    shutil.rmtree(small)
    save_artefact(small, balancing(2.0), np.zeros((1, 4), np.float32), {})  # as another search does
    again = inline(*words)
    assert (again.json["attempt"], again.json["alpha"]) == (2, pytest.approx(0.008))
    assert not seeds & set(stored(run)["returns"]["seeds"])


def test_a_certificate_that_says_more_than_its_returns_is_refused(inline: Any, run: RunDir) -> None:
    small = run.artefact("small")
    inline("certify", small, "--workers", "1", "--max-episodes", "30")
    attach_certificate(small, stored(run) | {"certified": True})  # sealed again, as a forger would
    message = one_line(inline("certify", small, "--workers", "1"))
    assert "certificate.json" in message
    assert "certified = True, its returns give False" in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--return-range", "5"), "low,high"),
        (("--return-range", "9,3"), "low below high"),
        (("--return-range", "100,500"), "does not hold"),
        (("--max-episodes", "0"), "--max-episodes must be at least 2"),
        (("--keep", "2"), "keep"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_changes_nothing(
    inline: Any, run: RunDir, words: tuple[str, ...], named: str
) -> None:
    assert named in one_line(inline("certify", run.artefact("small"), "--workers", "1", *words))
    assert load_artefact(run.artefact("small")).certificate is None


def test_a_stated_range_is_a_claim_of_its_own(inline: Any, run: RunDir) -> None:
    small = run.artefact("small")
    made = inline("certify", small, "--workers", "1", "--return-range", "-100,600", "--json").json
    assert made["return_range"] == [-100.0, 600.0]
    assert made["return_range_source"] == "stated with --return-range"
    assert made["attempt"] == 1


def test_what_is_certified_is_never_replaced_by_something_weaker(inline: Any, run: RunDir) -> None:
    small = run.artefact("small")
    assert place(run, "small", certified=False) == small
    assert inline("certify", small, "--workers", "1").code == 0
    before = {path.name: path.read_bytes() for path in small.iterdir()}
    assert place(run, "small", certified=True) == small
    assert place(run, "small", certified=False) == run.artefact("small-refused")
    message = one_line(inline("compress", run.path, "--keep", "0.5"))
    assert "is certified at keep = 0.99" in message
    assert "--name" in message
    assert {path.name: path.read_bytes() for path in small.iterdir()} == before


def test_where_nothing_can_be_written_the_verdict_is_shown(
    inline: Any, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a read-only folder (which does not stop the superuser, who may run this test)."""

    def refuse(path: Path, data: bytes) -> None:
        raise FileError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr("nimbleq.graph.artefact.write_bytes", refuse)
    monkeypatch.setattr("nimbleq.files.write_bytes", refuse)
    done = inline("certify", run.artefact("small"), "--workers", "1", "--json")
    assert done.code == 0
    assert done.json["certified"]
    assert done.json["stored"] is False
    assert done.err.count("Read-only file system") == 2, "the certificate and the result, each once"


def test_the_file_is_short_enough_to_read_by_machine(inline: Any, run: RunDir) -> None:
    """One line, numbers in full precision."""
    inline("certify", run.artefact("small"), "--workers", "1")
    text = (run.artefact("small") / "certificate.json").read_text()
    assert text.count("\n") == 1
    assert len(text) < 60_000
    assert json.loads(text)["returns"]["random"] == stored(run)["returns"]["random"]


PAGE = (Path(__file__).parents[2] / "docs" / "certificate.md").read_text()


def test_the_commands_of_the_page(
    inline: Any, run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.path.parent)
    (run.path.parent / "runs").mkdir()
    run.path.rename("runs/cp")
    lines = [line for line in PAGE.splitlines() if line.startswith("    nimbleq certify")]
    commands = [line.split("#")[0].split() for line in lines if "--measure" not in line and "--vary" not in line]
    assert len(commands) == 4
    attempts = []
    for words in commands:
        done = inline(*words[1:], "--workers", "1", "--json")
        assert done.code == 0, (words, done.err)
        attempts.append(done.json["attempt"])
    assert attempts == [1, 1, 2, 3]
    program = [line.removeprefix("    ") for line in PAGE.split("in playing order.")[1].splitlines()]
    start = program.index("from nimbleq.compress.certify import noninferior, verify_certificate")
    exec("\n".join(program[start : start + 5]), {})
    assert "Verdict(certified=True" in capsys.readouterr().out
