"""The top of the page: the request and the results, in numbers."""

from __future__ import annotations

from nimbleq.report import units
from nimbleq.report.latency import headline_row, rows_of
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.read import RunData


def headline(data: RunData) -> Markup:
    """Title, one sentence, and the tiles."""
    return tag(
        "header",
        tag("h1", data.env),
        tag("p", _sentence(data), class_="lead"),
        tag("div", *_tiles(data), class_="tiles"),
    )


def verdict_words(data: RunData) -> tuple[str, str]:
    """The verdict in a word, and its CSS class."""
    if data.student.problem:
        return "not intact", "bad"
    return {True: ("certified", "good"), False: ("refused", "bad"), None: ("not certified yet", "open")}[data.certified]


def _sentence(data: RunData) -> str:
    steps, seconds = data.train.number("steps"), data.train.number("train_seconds")
    if steps is not None:
        said = f"A policy was trained for {units.count(steps)} environment steps in {units.duration(seconds)}"
    elif data.imported:
        said = "A trained policy was imported"
    else:
        said = "The policy has not finished training"
    keep = data.compress.number("keep")
    if keep is None:
        return said + "."
    said += f" and made as small as possible while keeping {units.percent(keep)} of its return"
    whole = data.compress.number("teacher_return_mean")
    return said + (f", which is {units.value(whole)}." if whole is not None else ".")


def _tiles(data: RunData) -> list[Markup]:
    tiles = [_return_tile(data)]
    found = data.compress
    if found:
        before, after = found.number("teacher_size_bytes"), found.number("size_bytes")
        tiles.append(
            _tile(units.times(units.ratio(before, after)), "smaller", f"{units.size(before)} → {units.size(after)}")
        )
        macs = found.number("teacher_macs"), found.number("macs")
        note = f"{units.count(macs[0])} → {units.count(macs[1])} MACs a decision"
        tiles.append(_tile(units.times(units.ratio(*macs)), "less arithmetic", note))
    row = headline_row(rows_of(data))
    if row is not None:
        tiles.append(
            _tile(units.latency(row.p50_us), "a decision, median", f"{row.engine}, p99 {units.latency(row.p99_us)}")
        )
    if found or data.certified is not None:
        word, class_ = verdict_words(data)
        tiles.append(_tile(word, "verdict", _promise(data), class_))
    return tiles


def _return_tile(data: RunData) -> Markup:
    certificate, found, train = data.certificate, data.compress, data.train or data.imported
    before = _first(
        certificate.number("teacher_return_mean"), found.number("teacher_return_mean"), train.number("return_mean")
    )
    after = _first(certificate.number("student_return_mean"), found.number("return_mean"))
    if after is not None:
        shown = join(f"{units.value(before)} ", tag("span", "→", class_="arrow"), f" {units.value(after)}")
        episodes = certificate.number("episodes_played")
        note = f"mean of {units.count(episodes)} paired episodes" if episodes is not None else "mean of fresh episodes"
        return _tile(shown, "return, teacher → compressed", note)
    bounds = train.numbers("return_ci95")
    if before is not None or bounds:
        return _tile(units.value(before), "return", f"95 % interval {units.interval(bounds)}")
    best = max(data.metrics.series("check_return"), key=lambda point: point[1], default=None)
    if best is None:
        return _tile(units.MISSING, "return", "no evaluation yet")
    return _tile(
        units.value(best[1]), "return, best check so far", f"at {units.count(best[0])} steps, training is not over"
    )


def _promise(data: RunData) -> str:
    if data.student.problem:
        return "the artefact's files were changed or damaged"
    keep = _first(data.certificate.number("keep"), data.compress.number("keep"))
    wealth, needed = data.certificate.number("wealth"), data.certificate.number("wealth_needed")
    if wealth is not None and needed is not None:
        return f"keep {units.percent(keep)}: wealth {units.trimmed(wealth)}, {units.trimmed(needed)} needed"
    return f"keep {units.percent(keep)}"


def _tile(value: str, name: str, note: str, class_: str = "") -> Markup:
    return tag(
        "div", tag("div", name, class_="name"), tag("div", value, class_="value"), tag("div", note, class_="note"),
        class_=f"tile {class_}".strip(),
    )  # fmt: skip


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
