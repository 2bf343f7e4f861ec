"""``nimbleq zoo``: trained policies that come with nimbleq, as run directories: list them, copy one, add one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console, size_text
from nimbleq.errors import ConfigError, FileError
from nimbleq.figures import shown
from nimbleq.files import read_json, write_folder
from nimbleq.graph.artefact import Artefact, load_artefact
from nimbleq.graph.artefact_files import PROVENANCE, sealed, unsealed
from nimbleq.rundir import TEACHER, RunDir, check_name, open_run
from nimbleq.verbs.common import Output, run_env

ZOO = Path(__file__).parents[3] / "zoo"
"""Beside the sources."""
SMALL = "small"
EXACT = "exact.json"
"""In a run: what was computed of its policies where that is possible, in place of a statistical certificate. It holds
their digests (``artefact``, ``teacher``), the share that was ``kept``, and the ``returns`` of both."""
LIMIT_BYTES = {"float32": 1_000, "uint8": 64_000}
"""What the network reads → the most bytes of a small policy, packed."""


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """List trained policies; copy one as a run directory that every verb takes; or add one of a run of yours.

    Attributes:
        name: of the policy to copy or to add (default: list them all).
        out: run directory to make of it (default runs/zoo/NAME).
        add: run directory whose teacher and certified artefacts/small become the policy NAME.
        folder: holds the policies (default: the zoo/ of nimbleq's sources).
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    out: Path | None = None
    add: Path | None = None
    folder: Path = ZOO


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """List, copy or add."""
    if args.add is not None:
        if args.name is None or args.out is not None:
            raise ConfigError("--add needs the name of the new policy, and no --out: nimbleq zoo NAME --add RUN")
        return added(args.name, open_run(args.add), args.folder, console), True
    if not args.folder.is_dir():
        raise FileError(
            f"there is no folder {args.folder}: the policies lie in zoo/ of nimbleq's sources; name it with --folder"
        )
    runs = entries(args.folder)
    if args.name is not None:
        return copied(args.name, args.out or Path("runs") / "zoo" / args.name, runs, console), True
    if args.out is not None:
        raise ConfigError(f"--out needs the name of a policy: one of {', '.join(runs)}")
    rows = [described(name, run) for name, run in runs.items()]
    console.table(
        f"policies in {args.folder}",
        ("name", "environment", "return", "teacher's", "size", "MACs", "certified"),
        [
            [row["name"], row["env"], *_returns(row), size_text(row["size_bytes"]), f"{row['macs']:,}",
             f"keeps {row['keep']:.4g}" + (", exactly" if row["exact"] else "")]
            for row in rows
        ],
    )  # fmt: skip
    console.say("nimbleq zoo NAME --out FOLDER copies one")
    return {"folder": str(args.folder), "policies": rows}, True


def entries(folder: Path) -> dict[str, RunDir]:
    """The policies in ``folder`` by name."""
    return {path.parent.name: RunDir(path.parent) for path in sorted(folder.glob("*/config.json"))}


def described(name: str, run: RunDir) -> dict[str, Any]:
    """What a policy of the zoo is, JSON values.

    Raises:
        FileError: a file is missing or damaged, or nothing was certified.
    """
    from nimbleq.graph.cost import cost

    env, small, teacher = run_env(run), load_artefact(run.artefact(SMALL)), load_artefact(run.teacher)
    known, spent, before = _certificate(run, small, teacher), cost(small.graph), cost(teacher.graph)
    return {
        "name": name, "env": env.id, "size_bytes": spent.size_bytes, "macs": spent.macs,
        "teacher_size_bytes": before.size_bytes, "teacher_macs": before.macs, **known,
    }  # fmt: skip


def _certificate(run: RunDir, small: Artefact, teacher: Artefact) -> dict[str, Any]:
    """What was certified of ``small``, by episodes or by computing it."""
    known = small.certificate or {}
    if known.get("certified"):
        return {
            "certified": True, "exact": False, "keep": known["keep"], "episodes": known["episodes"],
            "return_mean": known["student_return_mean"], "teacher_return_mean": known["teacher_return_mean"],
        }  # fmt: skip
    path = run.path / EXACT
    exact = read_json(path) if path.exists() else None
    if exact is None:
        raise FileError(f"{run.artefact(SMALL)} is not certified: nimbleq certify {run.artefact(SMALL)}")
    if not isinstance(exact, dict) or (exact.get("artefact"), exact.get("teacher")) != (small.digest, teacher.digest):
        raise FileError(f"{path} is not about these two networks: compute it anew")
    try:
        kept, before, after = (float(exact["kept"]), *(float(exact["returns"][name]) for name in (TEACHER, SMALL)))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return {
        "certified": True, "exact": True, "keep": kept, "episodes": None, "return_mean": after,
        "teacher_return_mean": before,
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
    write_folder(out, lambda folder: _copy(runs[name].path, folder))
    console.say(f"{name} → {out}: nimbleq watch {out}, nimbleq certify {out}/artefacts/{SMALL} …")
    return {**facts, "run": str(out)}


def added(name: str, run: RunDir, folder: Path, console: Console) -> dict[str, Any]:
    """Put a run's teacher and its certified small policy into the zoo, without checkpoint, logs and other policies.

    Raises:
        ConfigError: there is a policy of that name, or the small one is too large.
        FileError: it is damaged or not certified, or ``folder`` cannot be written.
    """
    out = folder / check_name(name)
    if out.exists():
        raise ConfigError(f"there is something at {out} already: remove it first, or choose another name")
    facts = described(name, run)
    seen = load_artefact(run.artefact(SMALL)).graph.obs_type
    limit = LIMIT_BYTES["uint8" if seen.qtype.is_integer else "float32"]
    if facts["size_bytes"] > limit:
        raise ConfigError(
            f"{run.artefact(SMALL)} takes {facts['size_bytes']:,} bytes, more than {limit:,} of this kind"
        )
    write_folder(out, lambda new: _keep(run, new))
    held = sum(path.stat().st_size for path in out.rglob("*"))
    console.say(f"{run.path} → {out}: {size_text(facts['size_bytes'])}, its folder {size_text(held)}")
    return {**facts, "run": str(out)}


def _keep(run: RunDir, new: Path) -> None:
    """Copy what belongs into the zoo, without the names of folders of this machine."""
    named = {str(run.path.resolve()), str((run.load_result("train") or {}).get("run", run.path))}
    places = {each for each in named if Path(each).is_absolute()}
    for path in _kept(run):
        place = new / path.relative_to(run.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name == PROVENANCE:
            said = json.dumps(unsealed(path.parent, PROVENANCE))
            place.write_bytes(sealed(json.loads(_moved(said, places))))
        elif path.is_relative_to(run.result("train").parent):
            place.write_text(_moved(path.read_text(), places))
        else:
            shutil.copyfile(path, place)


def _moved(text: str, places: Set[str]) -> str:
    """JSON in which a run at one of ``places`` is called ``runs/ITS NAME``, also inside a command."""
    for place in places:
        text = re.sub(rf"(?<=[\s\"=']){re.escape(place)}(?=[\s\"'/])", f"runs/{Path(place).name}", text)
    return text


def _kept(run: RunDir) -> Iterator[Path]:
    """The files of a run that an entry has."""
    yield run.config
    yield from (path for path in (run.attempts, run.path / EXACT, run.result("train")) if path.exists())
    for network in (run.teacher, run.artefact(SMALL)):
        yield from (path for path in sorted(network.iterdir()) if path.suffix in (".json", ".safetensors", ".npz"))
    yield from (path for path in (run.result(verb, SMALL) for verb in ("compress", "certify")) if path.exists())


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _returns(row: dict[str, Any]) -> tuple[str, str]:
    """The small policy's and its teacher's."""
    small, teacher = row["return_mean"], row["teacher_return_mean"]
    return shown(small, teacher), shown(teacher, small)
