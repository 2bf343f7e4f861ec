"""nimbleq watch: pictures of every kind, at the speed of the environment, and nothing unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.rl.envs.pictures import as_rgb
from tests.e2e.conftest import BRIEF

image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize(("kind", "level"), [("grey", 51), ("channel", 51), ("rgba", 51), ("share", 51), ("bool", 0)])
def test_pictures_of_every_kind(
    inline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: int
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    run, gif = tmp_path / "run", tmp_path / "it.gif"
    words = ("--env", "broken_envs:Drawing", "--env-kwargs", f"kind={kind}")
    assert inline("train", *BRIEF[2:], *words, "--out", run).code == 0
    done = inline("watch", run, "--out", gif, "--json")
    assert done.code == 0, done.err
    assert done.json["fps"] == 10
    with image.open(gif) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (level,) * 3
        assert picture.info["duration"] % 100 == 0, "pillow joins equal pictures, of 100 ms each"


def test_what_is_no_picture() -> None:
    for shape in ((3,), (2, 2, 2), (0, 4, 3), (1, 2, 2, 3)):
        assert as_rgb(np.zeros(shape, np.uint8)) is None
    assert as_rgb(np.array(None)) is None
    assert np.array_equal(as_rgb(np.full((1, 1, 3), 0.999)), np.full((1, 1, 3), 255))


def test_what_is_cut_is_said_and_nobody_looks_for_a_screen(cli: Any, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pygame")
    done = cli("watch", run, "--out", tmp_path / "it.gif", "--max-frames", "3")
    assert done.code == 0, done.err
    assert "3 frames (the first of " in done.out
    assert "--max-frames takes more)" in done.out
    for noise in ("XDG_RUNTIME_DIR", "pygame", "ALSA"):
        assert noise not in done.err
    total = 0
    with image.open(tmp_path / "it.gif") as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            total += picture.info["duration"]
    assert total == 3 * 20, "CartPole shows 50 steps a second"
