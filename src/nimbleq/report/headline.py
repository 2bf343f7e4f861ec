"""The top of the page: what was asked and what came out, in numbers."""

from __future__ import annotations

from nimbleq.report import units
from nimbleq.report.latency import headline_row, rows_of
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.read import Story


def headline(story: Story) -> Markup:
    """Title, one sentence, and the tiles."""
    return tag(
        "header",
        tag("h1", story.env),
        tag("p", _sentence(story), class_="lead"),
        tag("div", *_tiles(story), class_="tiles"),
    )


def verdict_words(story: Story) -> tuple[str, str]:
    """The verdict in a word, and its class."""
    if story.child.problem:
        return "not intact", "bad"
    return {True: ("certified", "good"), False: ("refused", "bad"), None: ("not certified yet", "open")}[
        story.certified
    ]


def _sentence(story: Story) -> str:
    steps, seconds = story.train.number("steps"), story.train.number("train_seconds")
    if steps is not None:
        said = f"A policy was trained for {units.count(steps)} environment steps in {units.duration(seconds)}"
    elif story.imported:
        said = "A trained policy was imported"
    else:
        said = "The policy has not finished training"
    keep = story.compress.number("keep")
    if keep is None:
        return said + "."
    return said + f" and made as small as a promise allows: to keep {units.percent(keep)} of its return."


def _tiles(story: Story) -> list[Markup]:
    tiles = [_return_tile(story)]
    found = story.compress
    if found:
        before, after = found.number("teacher_size_bytes"), found.number("size_bytes")
        tiles.append(
            _tile(units.times(units.ratio(before, after)), "smaller", f"{units.size(before)} → {units.size(after)}")
        )
        macs = found.number("teacher_macs"), found.number("macs")
        note = f"{units.count(macs[0])} → {units.count(macs[1])} MACs a decision"
        tiles.append(_tile(units.times(units.ratio(*macs)), "less arithmetic", note))
    row = headline_row(rows_of(story))
    if row is not None:
        tiles.append(
            _tile(units.latency(row.p50_us), "a decision, median", f"{row.engine}, p99 {units.latency(row.p99_us)}")
        )
    if found or story.certified is not None:
        word, class_ = verdict_words(story)
        tiles.append(_tile(word, "verdict", _promise(story), class_))
    return tiles


def _return_tile(story: Story) -> Markup:
    certificate, found, train = story.certificate, story.compress, story.train or story.imported
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
    best = max(story.metrics.series("check_return"), key=lambda point: point[1], default=None)
    if best is None:
        return _tile(units.MISSING, "return", "no evaluation yet")
    return _tile(
        units.value(best[1]), "return, best check so far", f"at {units.count(best[0])} steps, training is not over"
    )


def _promise(story: Story) -> str:
    if story.child.problem:
        return "the artefact's files were changed or damaged"
    keep = _first(story.certificate.number("keep"), story.compress.number("keep"))
    wealth, needed = story.certificate.number("wealth"), story.certificate.number("wealth_needed")
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
