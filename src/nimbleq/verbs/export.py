"""``nimbleq export``: artefact → files for a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console, size_text
from nimbleq.deploy.targets import STANDARD, TARGETS
from nimbleq.graph.artefact import load_artefact
from nimbleq.rundir import RunDir
from nimbleq.verbs.common import Output, artefact_and_run, trained_config

To = Annotated[
    tuple[str, ...],
    tyro.conf.arg(help="targets: " + "; ".join(f"{name} ({row.purpose})" for name, row in TARGETS.items()) + "."),
]
"""What ``--to`` takes, in every verb that has it."""


@dataclass(frozen=True, kw_only=True)
class Common(Output):
    """Write an artefact as source or model files.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        to: targets.
        out: folder to write; of an older build there, what its manifest lists is replaced.
        name: of the C functions (NAME_act, NAME_q) and files: two policies of one program need two names.
        max_flash: bytes of flash (code, constants and starting values) that it may take of each processor in --to;
            if it takes more, nothing is written and the exit code is 1.
        max_ram: bytes of static RAM and stack, likewise.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    to: To = STANDARD
    out: Path = Path("build")
    name: str = "policy"
    max_flash: int | None = None
    max_ram: int | None = None


_OPTIONS = "options_"
"""Begins the names of the fields with the options of targets, which on the command line bear the targets' names."""


def _field(target: str) -> str:
    return _OPTIONS + target.replace("-", "_")


def with_target_options() -> type[Common]:
    """`Common` and one field per target that has options."""
    options = [
        (_field(name), Annotated[row.options, tyro.conf.arg(name=name)], field(default_factory=row.options))
        for name, row in TARGETS.items()
        if fields(row.options)
    ]
    return make_dataclass(
        "Args", options, bases=(Common,), frozen=True, kw_only=True, namespace={"__doc__": Common.__doc__}
    )


Args = with_target_options()


def main(args: Common, console: Console) -> tuple[dict[str, Any], bool]:
    """Write and list the files."""
    path, run = artefact_and_run(args.artefact)
    options = {
        name: _as_trained(getattr(args, _field(name)), run) for name, row in TARGETS.items() if fields(row.options)
    }
    limits = {} if args.max_flash is None and args.max_ram is None else _within(path, args, console)
    if limits.get("exceeded"):
        return {"artefact": str(path), "out": None, "targets": [], "files": {}, **limits}, False
    return export_artefact(path, args.to, args.out, console, args.name, options) | limits, True


def _as_trained(options: Any, run: RunDir | None) -> Any:
    """Options of a target whose learner goes on as ``run`` learnt, where they do not say how."""
    config = None if run is None or not getattr(options, "learn", False) else trained_config(run)
    if config is None or config.algorithm != "stream":
        return options
    known = {
        "gamma": config.learner.gamma, "decay": config.stream.trace_decay, "step": config.learner.lr,
        "bound": config.stream.overshoot,
    }  # fmt: skip
    missing = {name: value for name, value in known.items() if getattr(options.learning, name) is None}
    return replace(options, learning=replace(options.learning, **missing))


def _within(path: Path, args: Common, console: Console) -> dict[str, Any]:
    """What each processor among the targets takes, and which limit that exceeds.

    Raises:
        ConfigError: none of the targets is measured, or one cannot be here.
    """
    from nimbleq.deploy.export import check_targets
    from nimbleq.deploy.footprint import exceeded, footprint

    check_targets(args.to, args.name)
    artefact = load_artefact(path)
    measured = [target for target in args.to if TARGETS[target].footprint is not None] or args.to
    found = [footprint(target, artefact.graph, artefact.golden.obs, artefact.guard) for target in measured]
    why = exceeded(found, args.max_flash, args.max_ram)
    if why:
        console.say(f"nothing was written: {why}")
    return {"flash": [asdict(one) for one in found], "exceeded": why}


def export_artefact(
    artefact: Path,
    targets: tuple[str, ...],
    out: Path,
    console: Console,
    name: str = "policy",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Export one artefact; returns the verb's JSON object."""
    from nimbleq.deploy.export import MANIFEST, ORACLE, export

    manifest = export(artefact, targets, out, name, options)
    written = [*map(Path, manifest["files"]), Path(MANIFEST), *(p.relative_to(out) for p in (out / ORACLE).iterdir())]
    files = {str(file): (out / file).stat().st_size for file in sorted(written)}
    console.say(
        f"exported {artefact} → {out}: " + ", ".join(f"{name} ({size_text(size)})" for name, size in files.items())
    )
    return {
        "artefact": str(artefact), "out": str(out), "name": name, "targets": manifest["targets"], "files": files,
    }  # fmt: skip
