"""``nimbleq zoo``: trained policies that come with nimbleq, as run directories: list them, or copy one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console, size_text
from nimbleq.errors import ConfigError, FileError
from nimbleq.files import write_folder
from nimbleq.graph.artefact import load_artefact
from nimbleq.rundir import RunDir, check_name
from nimbleq.verbs.common import Output, run_env

ZOO = Path(__file__).parents[3] / "zoo"
"""Beside the sources."""
_SMALL = "small"


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """List trained policies, or copy one as a run directory that every verb takes.

    Attributes:
        name: of the policy to copy (default: list them all).
        out: run directory to make of it (default runs/zoo/NAME).
        folder: holds the policies (default: the zoo/ of nimbleq's sources).
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    out: Path | None = None
    folder: Path = ZOO


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """List, or copy."""
    if not args.folder.is_dir():
        raise FileError(
            f"there is no folder {args.folder}: the policies lie in zoo/ of nimbleq's sources; name it with --folder"
        )
    runs = {path.parent.name: RunDir(path.parent) for path in sorted(args.folder.glob("*/config.json"))}
    if args.name is not None:
        return copied(args.name, args.out or Path("runs") / "zoo" / args.name, runs, console), True
    if args.out is not None:
        raise ConfigError(f"--out needs the name of a policy: one of {', '.join(runs)}")
    rows = [described(name, run) for name, run in runs.items()]
    console.table(
        f"policies in {args.folder}",
        ("name", "environment", "return", "teacher's", "size", "MACs", "certified"),
        [
            [row["name"], row["env"], _shown(row["return_mean"]), _shown(row["teacher_return_mean"]),
             size_text(row["size_bytes"]), f"{row['macs']:,}",
             f"keeps {row['keep']:g}" if row["certified"] else "no"]
            for row in rows
        ],
    )  # fmt: skip
    console.say("nimbleq zoo NAME --out FOLDER copies one")
    return {"folder": str(args.folder), "policies": rows}, True


def described(name: str, run: RunDir) -> dict[str, Any]:
    """What a policy of the zoo is, JSON values.

    Raises:
        FileError: a file is missing or damaged.
    """
    from nimbleq.graph.cost import cost

    env, small = run_env(run), load_artefact(run.artefact(_SMALL))
    spent, known = cost(small.graph), small.certificate or {}
    return {
        "name": name, "env": env.id, "size_bytes": spent.size_bytes, "macs": spent.macs,
        "certified": bool(known.get("certified")), "keep": known.get("keep"),
        "return_mean": known.get("student_return_mean"), "teacher_return_mean": known.get("teacher_return_mean"),
    }  # fmt: skip


def copied(name: str, out: Path, runs: dict[str, RunDir], console: Console) -> dict[str, Any]:
    """Copy a policy; all of it is read first, so a damaged one is refused.

    Raises:
        ConfigError: there is none of that name, or something is at ``out``.
        FileError: it is damaged, or ``out`` cannot be written.
    """
    if name not in runs:
        raise ConfigError(f"the zoo has no {name!r}; it has {', '.join(runs) or 'nothing'} (nimbleq zoo lists them)")
    check_name(name)
    if out.exists():
        raise ConfigError(f"there is something at {out} already: choose another --out")
    facts = described(name, runs[name])
    load_artefact(runs[name].teacher)
    write_folder(out, lambda folder: _copy(runs[name].path, folder))
    console.say(f"{name} → {out}: nimbleq watch {out}, nimbleq certify {out}/artefacts/{_SMALL} …")
    return {**facts, "run": str(out)}


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
