"""Output for people: results on standard output, progress on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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
        """A `Tick` that draws a bar with rate and time left on a terminal, and prints a line now and then elsewhere."""
        if sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown"):
            with _bar(title) as tick:
                yield tick
        else:
            yield _plain(title)

    @contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """Shows one line after the other: on a terminal in place of the last one, elsewhere now and then."""
        if sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown"):
            from rich.console import Console as Rich
            from rich.live import Live
            from rich.text import Text

            with Live(console=Rich(stderr=True), auto_refresh=False, transient=True) as live:
                yield lambda text: live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)
            return
        shown = time.monotonic()

        def say(text: str) -> None:
            nonlocal shown
            if time.monotonic() - shown >= PLAIN_SECONDS:
                shown = time.monotonic()
                print(text, file=sys.stderr, flush=True)

        yield say


class Pace:
    """Current speed: work done before this process started does not count. Where less is done, a new stage begins."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.before: float | None = None
        self.latest = 0.0

    def rate(self, done: float) -> float:
        """Units a second since the first call of this stage."""
        if self.before is None or done < self.latest:
            self.start = time.monotonic() if self.before is not None else self.start
            self.before = done
        self.latest = done
        return (done - self.before) / max(time.monotonic() - self.start, 1e-9)

    def left(self, done: float, total: float) -> str:
        """``"12 s left"``."""
        rate = self.rate(done)
        seconds = (total - done) / rate if rate > 0 else float("inf")
        return f"{duration_text(seconds)} left" if seconds < 1e6 else "just begun"


@contextmanager
def _bar(title: str) -> Iterator[Tick]:
    """Percentage, time left and rate come first: a narrow terminal cuts the line at its end."""
    from rich.console import Console as Rich
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    rich = Rich(stderr=True)
    texts = [
        TextColumn(f"{{task.fields[{name}]}}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=ratio))
        for name, ratio in (("left", None), ("rate", None), ("note", 1))
    ]
    wide = rich.width >= 70
    name = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=24))
    bar = BarColumn(bar_width=30 if wide else 8)
    columns = (name, bar, TaskProgressColumn(), *(texts if wide else texts[:1]))
    with Progress(*columns, console=rich, transient=True, refresh_per_second=5, expand=False) as progress:
        task = progress.add_task(title, total=None, note="", rate="", left="")
        pace, shown = Pace(), 0.0

        def tick(done: float, total: float, note: str = "") -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.1 and done < total:
                return
            shown = now
            progress.update(
                task, completed=done, total=total, note=note, rate=rate_text(pace.rate(done)),
                left=pace.left(done, total),
            )  # fmt: skip

        yield tick


def _plain(title: str) -> Tick:
    pace, last = Pace(), time.monotonic()

    def tick(done: float, total: float, note: str = "") -> None:
        nonlocal last
        now, rate = time.monotonic(), pace.rate(done)
        if now - last < PLAIN_SECONDS:
            return
        last = now
        print(
            f"{title}: {done:,.0f}/{total:,.0f} ({rate_text(rate)}, {pace.left(done, total)}) {note}".rstrip(),
            file=sys.stderr,
            flush=True,
        )

    return tick


def duration_text(seconds: float) -> str:
    """``"42 s"``, ``"3 min"``, ``"2 h 5 min"``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def rate_text(per_second: float) -> str:
    """``"1,562/s"``, or ``"24 s each"`` if it is below one a second."""
    if per_second <= 0:
        return "–"
    return f"{per_second:,.0f}/s" if per_second >= 1 else f"{1 / per_second:.0f} s each"


def size_text(size_bytes: float) -> str:
    """``"276 kB"``: three significant digits, decimal units."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes:.0f} B"
