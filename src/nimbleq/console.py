"""What a person sees: results on standard output, progress on standard error, nothing in between when piped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nimbleq.types import Tick

PLAIN_SECONDS = 5.0
"""Seconds between progress lines when standard error is not a terminal."""


class Console:
    """The two streams. With ``as_json`` standard output carries the result object and nothing else."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._stream = sys.stderr if as_json else sys.stdout

    def say(self, text: str) -> None:
        """One line for the person."""
        print(text, file=self._stream, flush=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """The verb's JSON object, when it was asked for."""
        if self.as_json:
            print(json.dumps(value, allow_nan=False), flush=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table: first column left, the others right."""
        from rich.console import Console as Rich
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for index, name in enumerate(header):
            table.add_column(name, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        width = None if self._stream.isatty() else 110
        Rich(file=self._stream, width=width, highlight=False).print(table)

    @contextmanager
    def progress(self, title: str) -> Iterator[Tick]:
        """A `Tick` that draws a bar with rate and time left on a terminal, and a line now and then elsewhere."""
        if sys.stderr.isatty():
            with _bar(title) as tick:
                yield tick
        else:
            yield _plain(title)


@contextmanager
def _bar(title: str) -> Iterator[Tick]:
    from rich.console import Console as Rich
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
    )
    with Progress(*columns, console=Rich(stderr=True), transient=True, refresh_per_second=5) as progress:
        task = progress.add_task(title, total=None, note="", rate="")
        start = time.monotonic()
        shown = 0.0

        def tick(done: float, total: float, note: str = "") -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.1 and done < total:
                return
            shown = now
            progress.update(task, completed=done, total=total, note=note, rate=rate_text(done / max(now - start, 1e-9)))

        yield tick


def _plain(title: str) -> Tick:
    start = last = time.monotonic()

    def tick(done: float, total: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_SECONDS:
            return
        last = now
        rate = done / (now - start)
        left = (total - done) / rate if rate > 0 else float("inf")
        eta = f"{left:.0f} s left" if left < 1e6 else "just begun"
        print(f"{title}: {done:,.0f}/{total:,.0f} ({rate_text(rate)}, {eta}) {note}", file=sys.stderr, flush=True)

    return tick


def rate_text(per_second: float) -> str:
    """``"1,562/s"``, or ``"24 s each"`` where little happens in a second."""
    if per_second <= 0:
        return "–"
    return f"{per_second:,.0f}/s" if per_second >= 1 else f"{1 / per_second:.0f} s each"


def size_text(size_bytes: float) -> str:
    """``"276 kB"``: three significant digits, decimal units."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.0f} B"
