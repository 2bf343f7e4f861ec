"""What ``--help`` shows of every verb is meant for people."""

from __future__ import annotations

import pytest

from nimbleq.cli import main


@pytest.mark.parametrize(
    "verb", ["train", "tune", "run", "import", "compress", "certify", "export", "robust", "bench", "watch"]
)
def test_help_shows_no_notes_to_tools(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    page = capsys.readouterr().out
    assert "--help" in page
    assert "noqa" not in page
    assert "type: ignore" not in page
