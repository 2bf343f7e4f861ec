"""The report of a run: its commands are run, its figures are of one artefact."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from nimbleq.compress.search.config import CompressConfig
from nimbleq.graph.artefact import digest, load_artefact, save_artefact
from nimbleq.verbs import compress
from tests.e2e.conftest import add_artefact
from tests.e2e.test_unfinished import WORDS, metrics, started, wait_for


def page(inline: Any, run: Path) -> str:
    done = inline("report", run, "--json")
    assert done.code == 0, done.err
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", Path(done.json["report"]).read_text())))


def hints(inline: Any, run: Path) -> list[str]:
    """The commands that the page says to run next."""
    inline("report", run)
    found = re.findall(r" Run <code>(.*?)</code>\.", (run / "report.html").read_text())
    return list(dict.fromkeys(html.unescape(command) for command in found))


def recipe(inline: Any, run: Path) -> list[str]:
    """The commands under "Reproduce it"."""
    inline("report", run)
    block = re.search(r"Reproduce it</h3><pre><code>(.*?)</code>", (run / "report.html").read_text(), re.DOTALL)
    assert block is not None
    return html.unescape(block[1]).splitlines()


BENCH = "--rounds 1 --flash cortex-m4"
QUICKER = {"certify": "--keep 0.01 --workers 1", "robust": "--states 50", "bench": BENCH}
"""Verb → options that make it quick."""


def obey(inline: Any, command: str) -> None:
    for part in command.split(" && "):
        program, *words = shlex.split(part)
        assert program == "nimbleq"
        done = inline(*words)
        assert done.code in (0, 1), (part, done.err)


@pytest.fixture
def fast_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """compress without its search."""

    def compressed(run: Any, name: str, config: CompressConfig, *_: Any, **__: Any) -> dict[str, Any]:
        place = add_artefact(run.path, name)
        row = {"name": f"only-{name}", "size_bytes": 80, "macs": 8, "return_mean": 9.0, "status": "chosen"}
        facts = {
            "keep": config.keep,
            "recipe": config.recipe,
            "candidates": [row],
            "teacher_return_mean": 9.0,
            "certified": True,
        }
        return {"artefact": str(place), "artefact_digest": digest(place), **facts}

    monkeypatch.setattr(compress, "compress_run", compressed)
    monkeypatch.setattr(compress, "require_better_than_random", lambda *_: None)


def test_the_settings_of_a_run_reproduce_it(inline: Any, brief_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    for _ in range(2):
        assert inline("train", "--config", brief_run / "config.json", "--out", again).code == 0
        assert json.loads((again / "config.json").read_text()) == json.loads((brief_run / "config.json").read_text())
        assert digest(again / "artefacts" / "teacher") == digest(brief_run / "artefacts" / "teacher")
        shutil.rmtree(again)


def test_doing_it_again_works(inline: Any, run: Path, fast_search: None) -> None:
    assert (
        inline("compress", run, "--keep", "0.5", "--recipe", "int8", "--name", "tiny", "--hidden", "linear", "8").code
        == 0
    )
    shutil.rmtree(run / "artefacts" / "small")
    commands = recipe(inline, run)
    assert "--keep 0.5 --recipe int8 --name tiny --hidden linear 8" in commands[1]
    for command in commands:
        obey(inline, f"{command} {QUICKER.get(command.split()[1], '')}")
    again = Path(f"{run}-again")
    assert digest(again / "artefacts" / "teacher") == digest(run / "artefacts" / "teacher")
    assert (again / "report.html").exists()
    assert (again / "build" / "policy.c").exists()


@pytest.mark.long
def test_the_next_commands_work(inline: Any, run: Path, fast_search: None) -> None:
    """From a run that was only trained to one about which nothing is missing, by what the page says."""
    shutil.rmtree(run / "artefacts" / "small")
    seen = []
    for _ in range(6):
        found = hints(inline, run)
        if not found:
            break
        seen.append(found[0].split()[1])
        obey(inline, f"{found[0]} {QUICKER.get(seen[-1], '')}")
    assert seen == ["compress", "certify", "robust", "bench", "export"]


def test_two_artefacts_two_pages(inline: Any, run: Path, fast_search: None) -> None:
    for name in ("small", "tiny"):
        assert inline("compress", run, "--name", name).code == 0
    timed = inline("bench", run / "artefacts" / "tiny", *BENCH.split(), "--json")
    assert timed.code == 0, timed.err
    done = inline("report", run, "--json")
    small, tiny = (Path(path).read_text() for path in done.json["pages"])
    assert [Path(path).name for path in done.json["pages"]] == ["report.html", "report-tiny.html"]
    assert ("only-small" in small, "only-tiny" in small) == (True, False)
    assert ("only-small" in tiny, "only-tiny" in tiny) == (False, True)
    assert "No decision has been timed yet" in small
    assert "No decision has been timed yet" not in tiny
    assert "This page is about the artefact small. Others of this run: report-tiny.html." in small


def test_results_about_what_had_the_name_before_are_left_out(inline: Any, run: Path) -> None:
    assert inline("bench", run, *BENCH.split()).code == 0
    assert "No decision has been timed yet" not in page(inline, run)
    teacher = load_artefact(run / "artefacts" / "teacher")
    save_artefact(run / "artefacts" / "small", teacher.graph, teacher.golden.obs[:9], {})
    assert "No decision has been timed yet" in page(inline, run)


def test_an_unfinished_run_shows_its_checks_and_how_to_go_on(inline: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started("train", *WORDS, "--steps", "100000000", "--out", run)
    wait_for(lambda: "check_return" in ((run / "metrics.jsonl").read_text() if metrics(run) else ""), process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    shown = page(inline, run)
    assert "no evaluation yet" not in shown
    assert "best check so far" in shown
    assert hints(inline, run)[0] == f"nimbleq train --resume --out {run}"
