"""docs/environments.md: the environment in it trains, and the commands in it run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import one_line

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()


def block(language: str) -> str:
    [text] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def test_the_commands_of_the_page(inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as the command line does; taken back afterwards
    (tmp_path / "delivery.py").write_text(block("python"))
    train, watch = (line.split()[1:] for line in block("console").splitlines())
    done = inline(*train, "--json")
    assert done.code == 0, done.err
    assert done.json["env"] == "delivery:Delivery"
    assert done.json["return_mean"] > 9, "the shortest way pays 9.5 to 9.8"
    done = inline(*watch, "--json")
    assert done.code == 0, done.err
    assert len(done.json["returns"]) == 2
    assert done.json["gif"] is None, "it draws no pictures"
    asked = inline(*watch, "--out", "never.gif")
    assert "draws no images" in one_line(asked)


def test_a_gif_of_cart_pole(inline: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("pygame")
    run, gif = tmp_path / "run", tmp_path / "episode.gif"
    trained = inline("train", "--env", "CartPole-v1", "--steps", "320", "--learner", "torch", "--out", run, "--json")
    assert trained.code == 0, trained.err
    assert trained.json["learner"] == "torch"
    done = inline("watch", run, "--out", gif, "--max-frames", "6", "--json")
    assert done.code == 0, done.err
    assert done.json["artefact"].endswith("teacher")
    assert done.json["returns"] == done.json["lengths"], "CartPole pays 1 a step"
    with image.open(gif) as picture:
        assert 2 <= picture.n_frames <= 6  # pillow joins equal neighbours
        assert picture.size == (600, 400)
    assert "end" in one_line(inline("watch", run, "--out", tmp_path / "episode.mp4"))
    assert "--episodes" in one_line(inline("watch", run, "--episodes", "0"))
    assert "not a run directory" in one_line(inline("watch", tmp_path / "nowhere"))
    shutil.rmtree(run / "artefacts")
    assert "train --resume --out" in one_line(inline("watch", run)), "stopped before anything was checked"
