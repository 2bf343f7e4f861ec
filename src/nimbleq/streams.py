"""The standard streams of the command line: open, able to show every character, and clean for one JSON object."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_ASCII = {
    "→": "->", "×": "x", "µ": "u", "–": "-", "—": "-", "−": "-", "·": "*", "…": "...", "≥": ">=", "≤": "<=", "≈": "~",
    "Δ": "d", "γ": "gamma", "ε": "eps", "τ": "tau", "α": "alpha", "λ": "lambda", "σ": "sigma", "±": "+-", "²": "^2",
    "\u00a0": " ", "\u202f": " ", "‘": "'", "’": "'", "“": '"', "”": '"', "│": "|", "║": "|", "─": "-", "━": "-",
}  # fmt: skip
"""Replacements for characters that a terminal cannot show; others become a question mark, corners a plus."""
_CORNERS = frozenset("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩┃╇")
_HANDLER = "nimbleq.ascii"


def _degraded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join("+" if c in _CORNERS else _ASCII.get(c, "?") for c in characters), error.end


codecs.register_error(_HANDLER, _degraded)


def prepare_streams() -> None:
    """Open the standard streams that are closed, so that no file of ours takes their place; never fail to encode."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """Yields standard output; whatever else is printed there meanwhile (also by C code or children) goes to stderr."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        if not _is_real(out):
            yield out
            return
        out.flush()
        ours = os.dup(1)
        os.dup2(2, 1)
        try:
            with open(ours, "w", encoding=out.encoding, errors=_HANDLER, closefd=False) as stream:
                yield stream
        finally:
            os.dup2(ours, 1)
            os.close(ours)


def _is_real(stream: TextIO) -> bool:
    """Whether it writes to the file descriptor 1."""
    try:
        return stream.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False
