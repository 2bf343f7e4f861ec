"""Where the numbers come from: verification, versions, digests, seeds, and the commands that make them again."""

from __future__ import annotations

import json
from shlex import join as join_words
from shlex import quote, split

from nimbleq.report import units
from nimbleq.report.html import pairs, table
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.read import Model, Record, RunData, shortened


def verify_table(verify: Record) -> Markup:
    """One row per target: observations tried and answers that differed."""
    rows = [
        (
            target.text("target") or "unnamed",
            units.count(target.number("observations")),
            units.count(target.number("mismatches")),
            _error(target.number("max_q_error")),
        )
        for target in verify.records("targets")
    ]
    return table(("target", "observations", "different actions", "largest error of q"), rows) if rows else Markup("")


def _error(value: float | None) -> str:
    if value is None:
        return units.MISSING
    return "0 (bit for bit)" if value == 0 else f"{value:.1e}"


def verify_words(verify: Record) -> str:
    """The result in a sentence."""
    checked, mismatches = verify.number("checked"), verify.number("mismatches")
    said = f"{units.count(checked)} answers of the emitted programs were compared with those of the interpreter: "
    return said + ("not one differed." if mismatches == 0 else f"{units.count(mismatches)} differed.")


def provenance(model: Model) -> Markup:
    """The provenance of an artefact."""
    if model.path is None or model.problem:
        return Markup("")
    rows = [(name, tag("code", value)) for name, value in _flat(model.provenance)]
    shown = pairs(rows) if rows else tag("p", "It has no provenance.", class_="missing")
    return join(tag("h3", f"Artefact {model.path.name}"), shown)


def _flat(record: Record, prefix: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Fields with dotted names, nested objects opened three levels deep; at most 60."""
    rows: list[tuple[str, str]] = []
    for key, value in list(record.fields.items())[:60]:
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict) and value and depth < 2:
            rows += _flat(Record(value), f"{name} · ", depth + 1)
        else:
            rows.append((shortened(name), shortened(_plain(value))))
    return rows[:60]


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(quote(item) for item in value)
    return json.dumps(value)


def certificate_seeds(certificate: Record) -> list[tuple[str, str]]:
    """Seeds of the certificate, if it has them."""
    seeds = certificate.fields.get("seeds")
    return [("certificate seeds", shortened(_plain(seeds)))] if seeds is not None else []


def reproduce(data: RunData) -> list[str]:
    """The commands that reproduce this run in a new folder: the same settings, artefact and keep."""
    place = quote(f"{data.run.path}-again")
    name = data.name or "small"
    keep, asked = data.compress.number("keep"), data.compress.text("recipe")
    artefact, build = quote(f"{data.run.path}-again/artefacts/{name}"), quote(f"{data.run.path}-again/build")
    options = [f"--keep {0.99 if keep is None else keep:g}"]
    options += [f"--recipe {quote(asked)}"] if asked not in (None, "auto") else []
    options += [f"--name {quote(name)}"] if name != "small" else []
    more = data.compress.fields.get("options")
    options += map(quote, more) if isinstance(more, list) and all(isinstance(word, str) for word in more) else []
    return [
        _start(data, place),
        f"nimbleq compress {place} {' '.join(options)}",
        f"nimbleq certify {artefact}",
        f"nimbleq export {artefact} --to c --out {build}",
        f"nimbleq verify {build}",
        f"nimbleq bench {artefact}",
        f"nimbleq report {place}",
    ]


def _start(data: RunData, place: str) -> str:
    """The command that reproduces the teacher; for an import, the original one with another ``--out``."""
    if data.config.record("train"):
        return f"nimbleq train --config {quote(str(data.run.config))} --out {place}"
    try:
        words = split(data.teacher.provenance.text("command", 4096) or "")
    except ValueError:
        words = []
    if words[:2] != ["nimbleq", "import"]:
        return f"nimbleq import model.zip --env {quote(data.env)} --out {place}"
    if "--out" in words[:-1]:
        at = words.index("--out")
        words[at : at + 2] = []
    return f"{join_words(words)} --out {place}"


def next_train(data: RunData) -> str | None:
    """The command that resumes the training of this run; None for an imported one."""
    return f"nimbleq train --resume --out {quote(str(data.run.path))}" if data.config.record("train") else None


def next_compress(data: RunData) -> str | None:
    """The command that compresses this run; without a policy, the one that trains one."""
    if data.teacher.graph is None:
        return next_train(data)
    keep = data.compress.number("keep")
    name = f" --name {quote(data.name)}" if data.name not in ("", "small") else ""
    return f"nimbleq compress {quote(str(data.run.path))} --keep {0.99 if keep is None else keep:g}{name}"


def next_of_artefact(data: RunData, verb: str) -> str | None:
    """The command that certifies or times the artefact; without one, the command that makes it."""
    return f"nimbleq {verb} {_artefact(data)}" if data.student.graph is not None else next_compress(data)


def next_verify(data: RunData) -> str | None:
    """The commands that export and verify the artefact; without one, the command that makes it."""
    if data.student.graph is None:
        return next_compress(data)
    build = quote(str(data.run.path / "build"))
    return f"nimbleq export {_artefact(data)} --out {build} && nimbleq verify {build}"


def _artefact(data: RunData) -> str:
    return quote(str(data.run.artefact(data.name)))
