"""Checks that several command-line tests make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

SEARCH_PATH = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
"""``PYTHONPATH`` of commands that play the environments beside this file."""


def one_line(done: Any) -> str:
    """The single line of an error that exits with 2."""
    assert done.code == 2, (done.code, done.out, done.err)
    lines = [text for text in done.err.splitlines() if text.startswith("nimbleq:")]
    assert len(lines) == 1, done.err
    assert "Traceback" not in done.err
    return str(lines[0])


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
