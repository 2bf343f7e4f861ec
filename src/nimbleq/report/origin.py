"""Where the numbers come from: verification, versions, digests, seeds, and the commands that make them again."""

from __future__ import annotations

import json
from shlex import quote

from nimbleq.report import units
from nimbleq.report.html import pairs, table
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.read import Model, Record, Story, shortened


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
    """What an artefact says of its making."""
    if model.path is None or model.problem:
        return Markup("")
    rows = [(name, tag("code", value)) for name, value in _flat(model.provenance)]
    shown = pairs(rows) if rows else tag("p", "It says nothing of its making.", class_="missing")
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
    """Seeds of the certificate, when it says which."""
    seeds = certificate.fields.get("seeds")
    return [("certificate seeds", shortened(_plain(seeds)))] if seeds is not None else []


def recipe(story: Story) -> list[str]:
    """The commands that lead to this report, in order."""
    place = quote(str(story.run.path))
    train = story.config.record("train")
    seed = train.number("seed")
    keep = story.compress.number("keep")
    artefact = (
        quote(f"{story.run.path}/artefacts/{story.child.path.name}") if story.child.path else f"{place}/artefacts/small"
    )
    build = quote(f"{story.run.path}/build")
    if story.imported and not story.train:
        start = f"nimbleq import model.zip --from sb3 --env {quote(story.env)} --out {place}"
    else:
        start = f"nimbleq train --env {quote(story.env)} --seed {round(seed or 0)} --out {place}"
    return [
        start,
        f"nimbleq compress {place} --keep {0.99 if keep is None else keep:g}",
        f"nimbleq certify {artefact}",
        f"nimbleq export {artefact} --to c --out {build}",
        f"nimbleq verify {build}",
        f"nimbleq bench {artefact}",
        f"nimbleq report {place}",
    ]
