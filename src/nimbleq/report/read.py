"""Reads a run directory without trusting it: a value of the wrong type counts as missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from nimbleq.errors import ConfigError, FileError, NimbleqError
from nimbleq.files import read_json
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.graph import Graph
from nimbleq.rundir import RunDir, check_name

OF_ARTEFACT = ("compress", "certify", "verify", "bench", "robust")
"""Verbs whose results are about one compressed artefact."""
_LARGEST, _SMALLEST = 1e15, 1e-15


@dataclass(frozen=True)
class Record:
    """A JSON object with typed access; false when it is empty."""

    fields: Mapping[str, object] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.fields)

    def number(self, key: str) -> float | None:
        """A finite number, or None."""
        return as_number(self.fields.get(key))

    def text(self, key: str, longest: int = 160) -> str | None:
        """A string, cut to ``longest`` characters, or None."""
        value = self.fields.get(key)
        return shortened(value, longest) if isinstance(value, str) else None

    def flag(self, key: str) -> bool | None:
        """A boolean, or None."""
        value = self.fields.get(key)
        return value if isinstance(value, bool) else None

    def record(self, key: str) -> Record:
        """A nested object (empty when there is none)."""
        return as_record(self.fields.get(key))

    def records(self, key: str) -> tuple[Record, ...]:
        """A list of objects; entries that are none are left out."""
        value = self.fields.get(key)
        found = (as_record(item) for item in value) if isinstance(value, list) else ()
        return tuple(record for record in found if record)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers, or nothing when any entry is not one."""
        value = self.fields.get(key)
        found = tuple(as_number(item) for item in value) if isinstance(value, list) else ()
        return tuple(item for item in found if item is not None) if None not in found else ()


def shortened(value: str, longest: int = 160) -> str:
    """Text cut to ``longest`` characters, the cut shown."""
    return value if len(value) <= longest else value[: longest - 1] + "…"


def as_number(value: object) -> float | None:
    """A finite number that can be drawn (a smaller one counts as 0), or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) <= _LARGEST or not isfinite(value):
        return None
    return float(value) if abs(value) >= _SMALLEST else 0.0


def as_record(value: object) -> Record:
    """A JSON object as a `Record`, anything else as an empty one."""
    return Record(value) if isinstance(value, dict) else Record()


@dataclass(frozen=True)
class Metrics:
    """Attributes:
    rows: the lines of ``metrics.jsonl``.
    unreadable: lines that were not JSON objects (a killed run leaves half a line).
    """

    rows: tuple[Record, ...] = ()
    unreadable: int = 0

    def series(self, key: str, against: str = "step") -> tuple[tuple[float, float], ...]:
        """``(against, key)`` of the lines that have both."""
        pairs = ((row.number(against), row.number(key)) for row in self.rows)
        return tuple((x, y) for x, y in pairs if x is not None and y is not None)


@dataclass(frozen=True)
class Model:
    """An artefact of the run.

    Attributes:
        path: its folder; None when there is no such artefact.
        graph: None if it is missing or not intact.
        provenance: where it comes from.
        certificate: bound to its files by their digests.
        problem: why it cannot be trusted; empty if it is intact.
    """

    path: Path | None = None
    graph: Graph | None = None
    provenance: Record = Record()
    certificate: Record = Record()
    problem: str = ""


@dataclass(frozen=True)
class RunData:
    """Everything in the report, one `Record` per verb (empty: it has not run).

    ``name`` is the name of the compressed artefact that it is about, ``student``; ``others`` names the rest.
    """

    run: RunDir
    config: Record
    train: Record
    imported: Record
    compress: Record
    certify: Record
    verify: Record
    bench: Record
    robust: Record
    metrics: Metrics
    teacher: Model
    student: Model
    name: str = ""
    others: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        """Id of the environment."""
        configured = (self.config.record("train").record("env"), self.config.record("env"))
        stated = (self.train.text("env"), self.imported.text("env"), *(env.text("id") for env in configured))
        return next((env for env in stated if env), "unknown environment")

    @property
    def certificate(self) -> Record:
        """The certificate of the compressed artefact; empty if its files are not intact."""
        return Record() if self.student.problem else self.student.certificate or self.certify

    @property
    def certified(self) -> bool | None:
        """The verdict, or None without a certificate."""
        if self.student.problem:
            return False
        if self.certificate and "wealth" not in self.certificate.fields:
            return None  # of an older kind, whose error was larger than stated
        verdict = self.certificate.flag("certified")
        return self.compress.flag("certified") if verdict is None else verdict


def read_run(run: RunDir, artefact: str | None = None) -> RunData:
    """Read a run directory.

    Args:
        run: where.
        artefact: name of the compressed artefact (None: see `main_artefact`). Results about an earlier artefact of that
            name are left out.

    Raises:
        FileError: a file in it is not valid JSON.
    """
    name = artefact or main_artefact(run)
    student = _read_model(run.artefact(name)) if name else Model()
    about = {verb: as_record(run.load_result(verb, name)) if name else Record() for verb in OF_ARTEFACT}
    digest = student.provenance.text("digest")
    for verb, result in about.items():
        stated = result.text("artefact_digest")
        if digest and stated and stated != digest:
            about[verb] = Record()
    return RunData(
        run=run,
        config=as_record(read_json(run.config)),
        train=as_record(run.load_result("train")),
        imported=as_record(run.load_result("import")),
        **about,
        metrics=_read_metrics(run.metrics),
        teacher=_read_model(run.teacher),
        student=student,
        name=name,
        others=tuple(other for other in run.artefacts() if other != name),
    )


def main_artefact(run: RunDir) -> str:
    """The compressed artefact that ``report.html`` is about: ``small``, else the first; empty without one.

    It may be damaged, or gone while its results exist.
    """
    with_results = {path.parent.name for verb in OF_ARTEFACT for path in run.path.glob(f"results/*/{verb}.json")}
    names = run.artefacts() or sorted(name for name in with_results if _may_name(name))
    return "small" if "small" in names else names[0] if names else ""


def _may_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except ConfigError:
        return False


def _read_model(path: Path) -> Model:
    if not path.is_dir():
        return Model()
    try:
        artefact = load_artefact(path)
    except NimbleqError as error:
        return Model(path, problem=str(error))
    provenance = Record({**artefact.provenance, "digest": artefact.digest})
    return Model(path, artefact.graph, provenance, as_record(artefact.certificate))


def _read_metrics(path: Path) -> Metrics:
    if not path.exists():
        return Metrics()
    rows = tuple(_lines(path))
    return Metrics(tuple(row for row in rows if row), sum(not row for row in rows))


def _lines(path: Path) -> Iterator[Record]:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    yield as_record(json.loads(line))
                except ValueError:
                    yield Record()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
