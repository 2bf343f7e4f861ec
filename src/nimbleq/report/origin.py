"""Where the numbers come from: verification, versions, digests, seeds, and the commands that make them again."""

from __future__ import annotations

import json
from shlex import join as join_words
from shlex import quote, split

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
    """The commands that make this run again, beside it: the same settings, artefact and promise."""
    place = quote(f"{story.run.path}-again")
    name = story.name or "small"
    keep, asked = story.compress.number("keep"), story.compress.text("recipe")
    artefact, build = quote(f"{story.run.path}-again/artefacts/{name}"), quote(f"{story.run.path}-again/build")
    options = [f"--keep {0.99 if keep is None else keep:g}"]
    options += [f"--recipe {quote(asked)}"] if asked not in (None, "auto") else []
    options += [f"--name {quote(name)}"] if name != "small" else []
    more = story.compress.fields.get("options")
    options += map(quote, more) if isinstance(more, list) and all(isinstance(word, str) for word in more) else []
    return [
        _start(story, place),
        f"nimbleq compress {place} {' '.join(options)}",
        f"nimbleq certify {artefact}",
        f"nimbleq export {artefact} --to c --out {build}",
        f"nimbleq verify {build}",
        f"nimbleq bench {artefact}",
        f"nimbleq report {place}",
    ]


def _start(story: Story, place: str) -> str:
    """The command that makes the teacher again: of an import the one it was, with another ``--out``."""
    if story.config.record("train"):
        return f"nimbleq train --config {quote(str(story.run.config))} --out {place}"
    try:
        words = split(story.teacher.provenance.text("command", 4096) or "")
    except ValueError:
        words = []
    if words[:2] != ["nimbleq", "import"]:
        return f"nimbleq import model.zip --env {quote(story.env)} --out {place}"
    if "--out" in words[:-1]:
        at = words.index("--out")
        words[at : at + 2] = []
    return f"{join_words(words)} --out {place}"


def next_train(story: Story) -> str | None:
    """What goes on with the training of this run; None when it was imported, so there is none."""
    return f"nimbleq train --resume --out {quote(str(story.run.path))}" if story.config.record("train") else None


def next_compress(story: Story) -> str | None:
    """What compresses this run; before there is a policy, what trains one."""
    if story.teacher.graph is None:
        return next_train(story)
    keep = story.compress.number("keep")
    name = f" --name {quote(story.name)}" if story.name not in ("", "small") else ""
    return f"nimbleq compress {quote(str(story.run.path))} --keep {0.99 if keep is None else keep:g}{name}"


def next_of_artefact(story: Story, verb: str) -> str | None:
    """What certifies or times the compressed artefact; before there is one, what makes it."""
    return f"nimbleq {verb} {_artefact(story)}" if story.child.graph is not None else next_compress(story)


def next_verify(story: Story) -> str | None:
    """What exports and verifies the compressed artefact; before there is one, what makes it."""
    if story.child.graph is None:
        return next_compress(story)
    build = quote(str(story.run.path / "build"))
    return f"nimbleq export {_artefact(story)} --out {build} && nimbleq verify {build}"


def _artefact(story: Story) -> str:
    return quote(str(story.run.artefact(story.name)))
