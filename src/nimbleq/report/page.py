"""The report: one self-contained file, from the JSON of a run directory."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from nimbleq.files import write_bytes
from nimbleq.report import (
    certificate,
    curve,
    frontier,
    frontier_plot,
    latency,
    layers,
    networks,
    origin,
    robust,
    transfer,
    units,
)
from nimbleq.report.footprints import footprint_table
from nimbleq.report.headline import headline
from nimbleq.report.html import commands, figure, missing, pairs, paragraph, section, table
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.read import RunData, main_artefact, read_run
from nimbleq.rundir import RunDir
from nimbleq.version import VERSION


def write_report(run: RunDir, artefact: str | None = None) -> Path:
    """Write the report of a run directory, about everything done in it so far.

    Args:
        run: where.
        artefact: name of the compressed artefact (None: ``small``, or the only one).

    Returns:
        Path of the report: ``report.html``, for another artefact than that ``report-<artefact>.html``.

    Raises:
        FileError: a file of the run is not valid JSON, or the report cannot be written.
    """
    main = artefact is None or artefact == main_artefact(run)
    path = run.report if main else run.report.with_name(f"report-{artefact}.html")
    write_bytes(path, render(read_run(run, artefact)).encode())
    return path


def render(data: RunData) -> str:
    """The page as HTML source."""
    script = package_file("tips.js")
    pinned = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing may be fetched and no other script may run, even if escaping had a hole.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{pinned}'; img-src data:; base-uri 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{data.env} · nimbleq report"),
        tag("style", Markup(package_file("plot.css") + package_file("style.css"))),
    )
    body = tag(
        "body",
        tag("main", headline(data), *_sections(data), tag("footer", f"Made by nimbleq {VERSION}.")),
        tag("script", Markup(script)),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def package_file(name: str) -> str:
    """A file in the folder of this module."""
    return files("nimbleq.report").joinpath(name).read_text(encoding="utf-8")


def _sections(data: RunData) -> list[Markup]:
    return [
        section("curve", "Learning", _learning(data)),
        *([section("networks", "Policy and value network", found)] if (found := networks.beside(data)) else []),
        *([section("transfer", "Start from another policy", found)] if (found := transfer.started_from(data)) else []),
        section("frontier", "Candidates", _tried(data)),
        section("certificate", "The certificate", _certificate(data)),
        section("robust", "How far decisions hold", _robust(data)),
        section("latency", "Time to decide", _latency(data)),
        *([section("footprints", "On processors", found)] if (found := footprint_table(data)) else []),
        section("layers", "Layers", _layers(data)),
        section("origin", "Checks and origin", _origin(data)),
    ]


def _learning(data: RunData) -> Markup:
    drawn = curve.curve_of(data)
    if drawn is None:
        if data.imported and not data.train:
            return missing("This policy was imported, so there is no learning curve.")
        return missing("No learning curve has been recorded yet.", origin.next_train(data))
    caption = "Greedy checks play without exploration; training episodes explore."
    if drawn.training.band:
        recorded = units.count(len(data.metrics.series("return_mean")))
        caption += f" The training line averages the {recorded} points recorded; the band is their range."
    if data.metrics.unreadable:
        noun = "line" if data.metrics.unreadable == 1 else "lines"
        caption += f" {units.count(data.metrics.unreadable)} {noun} of metrics.jsonl could not be read."
    return figure(lambda width: curve.draw_curve(drawn, width), caption)


def _tried(data: RunData) -> Markup:
    found = frontier.frontier_of(data)
    if found is None:
        return missing("Nothing has been compressed yet.", origin.next_compress(data))
    caption = (
        "Further left is smaller, further up is better. Vertical bars are 95 % intervals over the screening episodes."
    )
    if found.margin_return is not None:
        caption += " Below the dashed line more return is lost than was allowed."
    caption += frontier.latency_note(found)
    if found.hidden:
        caption += f" {units.count(found.hidden)} further candidates are not drawn."
    parts = [figure(lambda width: frontier_plot.draw_frontier(found, width), caption)]
    if frontier_plot.draw_close_up(found, 820.0) is not None:
        closer = "The same, enlarged around the margin: nothing in the shaded part may be chosen."
        parts.append(figure(lambda width: frontier_plot.draw_close_up(found, width) or Markup(""), closer))
    everyone = sorted(found.candidates, key=lambda c: c.size_bytes)
    rows = [
        (
            c.name, frontier.LOOKS[c.status][1], units.value(c.returns), units.interval(c.ci),
            units.size(c.size_bytes), units.count(c.macs), units.latency(c.latency_us),
        )
        for c in everyone
    ]  # fmt: skip
    headings = ("policy", "status", "return", "95 % interval", "size", "MACs", "p50")
    chosen = [k for k, c in enumerate(everyone) if c.status == "chosen"]
    summary = tag("summary", f"All {len(rows)} policies in numbers")
    return join(*parts, tag("details", summary, table(headings, rows, text_columns=2, strong=chosen)))


def _certificate(data: RunData) -> Markup:
    found = data.certificate
    if data.student.problem:
        return missing(f"The certificate no longer holds: {data.student.problem}.", origin.next_compress(data))
    if not found:
        return missing("Nothing has been certified yet.", origin.next_of_artefact(data, "certify"))
    verdict = certificate.verdict_of(found)
    parts = [paragraph(sentence) for sentence in certificate.plain_words(found)]
    if certificate.is_older(found):
        return join(*parts, missing("Nothing is certified.", origin.next_of_artefact(data, "certify")))
    wealth = certificate.wealth_of(found)
    if verdict is not None:
        caption = (
            "The line starts at the lower bound (95 % confidence): the true difference lies on it."
            " The shaded loss is more than the claim allows."
        )
        parts.insert(0, figure(lambda width: certificate.draw_verdict(verdict, width), caption))
    if wealth is not None:
        caption = "The wealth of the bet against a false claim. Reaching the dashed line once is enough."
        parts.insert(0, figure(lambda width: certificate.draw_wealth(wealth, width), caption))
    rows = certificate.figures(found)
    if rows:
        parts.append(table(("also measured", "", "meaning"), rows, text_columns=3))
    return join(*parts)


def _robust(data: RunData) -> Markup:
    found = data.robust
    if not found:
        return missing("Nothing has been proven about observations near the visited ones yet.",
                       origin.next_of_artefact(data, "robust"))  # fmt: skip
    parts = [paragraph(sentence) for sentence in robust.words(found)]
    lines, plane = robust.lines_of(found), robust.plane_of(found)
    if lines:
        caption = (
            f"Measured on {units.count(lines[0].states)} of the states. A state counts if its action is proven to stay "
            "everywhere in the box."
        )
        parts.append(figure(lambda width: robust.draw_lines(lines, width), caption))
    if plane is not None:
        caption = (
            "A plane of the decision map through a visited state (the ring), over the two features that change the "
            "action most; all other features as in that state. The square is the box of the proofs."
        )
        radius = found.number("radius") or 0.0
        parts.append(figure(lambda width: robust.draw_plane(plane, radius, width), caption))
    return join(*parts)


def _latency(data: RunData) -> Markup:
    rows = latency.rows_of(data)
    if not rows:
        return missing("No decision has been timed yet.", origin.next_of_artefact(data, "bench"))
    ours = latency.headline_row(rows)
    caption = "Dots are medians, long ticks the 99th, short ticks the 99.9th percentile."
    if any(row.what != "artefact" for row in rows):
        caption += " Open dots ran the teacher, filled dots the compressed policy."
    if any(row.idle for row in rows):
        caption += " The empty loops show the cost of timing itself and of interruptions by the machine."
    lines = [
        (
            row.engine,
            "nothing" if row.idle else "compressed" if row.what == "artefact" else row.what,
            *(units.latency(value) for value in (row.p50_us, row.p99_us, row.p999_us)),
            "" if row is ours else units.times(row.ratio),
        )
        for row in rows
    ]
    against = "× nimbleq-c" if any(row.ratio for row in rows) else ""
    shown = table(
        ("engine", "policy", "p50", "p99", "p99.9", against), lines, text_columns=2,
        strong=[k for k, row in enumerate(rows) if row is ours],
    )  # fmt: skip
    return join(figure(lambda width: latency.draw_latency(rows, width), caption), shown)


def _layers(data: RunData) -> Markup:
    parts = []
    for heading, model in (("Teacher", data.teacher), ("Compressed", data.student)):
        if model.path is not None and not (heading == "Compressed" and model.path == data.teacher.path):
            shown = layers.layer_table(model.graph) if model.graph else missing(f"Cannot be shown: {model.problem}")
            parts += [tag("h3", heading), shown]
    return join(*parts) if parts else missing("There is no model yet.", origin.next_train(data))


def _origin(data: RunData) -> Markup:
    parts = []
    if data.verify:
        parts += [paragraph(origin.verify_words(data.verify)), origin.verify_table(data.verify)]
    else:
        parts.append(missing("No emitted program has been verified yet.", origin.next_verify(data)))
    models = {model.path: model for model in (data.teacher, data.student)}
    parts += [origin.provenance(model) for model in models.values()]
    parts.append(pairs([(name, tag("code", value)) for name, value in origin.certificate_seeds(data.certificate)]))
    if data.others:
        pages = ", ".join(f"report-{name}.html" if name != main_artefact(data.run) else "report.html"
                          for name in data.others)  # fmt: skip
        parts.append(paragraph(f"This page is about the artefact {data.name}. Others of this run: {pages}."))
    parts += [tag("h3", "Reproduce it"), commands(origin.reproduce(data))]
    return join(*parts)
