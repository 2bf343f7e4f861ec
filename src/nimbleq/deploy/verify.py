"""Every target against the interpreter: golden vectors and random observations.

Integer graphs are compared bit for bit, action values and actions, on targets that are exact. Elsewhere rounding may
differ: action values within `tolerance`, and the action equal unless the interpreter's two best values are closer than
that. Integer graphs on targets that round by themselves are compared by their actions: a level that is off by one moves
action values by more than float32 would.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.agreement import is_integer, tolerance
from nimbleq.deploy.export import load_build
from nimbleq.deploy.raw_samples import RawSamples
from nimbleq.deploy.samples import sample_observations
from nimbleq.deploy.target import GuardRun, RawRun, Run, Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.toolchain import NoCompilerError
from nimbleq.deploy.verify_guard import PERIODS, guard_mismatches
from nimbleq.errors import NimbleqError
from nimbleq.files import read_bytes
from nimbleq.graph.artefact import read_certificate
from nimbleq.graph.branches import places
from nimbleq.graph.golden import Golden, random_masks
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interface import environment_action
from nimbleq.graph.interpret import interpret_rows
from nimbleq.types import Array, Tick, no_tick

OBSERVATIONS = 100_000
RAW_OBSERVATIONS = 1_000
"""As the environment gives them."""
CHUNK = 1024


@dataclass(frozen=True)
class TargetResult:
    """Attributes:
    target: e.g. ``"c (gcc -O3 -march=native)"``.
    observations: how many were compared.
    mismatches: how many of them disagreed.
    max_q_error: largest difference of an action value.
    rounds: it rounds by itself.
    differences: other actions on a target that rounds by itself and was certified so; they are no mismatches.
    """

    target: str
    observations: int
    mismatches: int
    max_q_error: float
    rounds: bool = False
    differences: int = 0


@dataclass(frozen=True)
class VerifyResult:
    """Attributes:
    checked: observations, summed over targets.
    mismatches: disagreements, summed over targets.
    targets: one result per target.
    skipped: target → why it could not be run on this machine.
    """

    checked: int
    mismatches: int
    targets: tuple[TargetResult, ...]
    skipped: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"targets": [asdict(target) for target in self.targets]}


def verify(
    graph: Graph,
    golden: Golden,
    targets: Mapping[str, Run],
    observations: int = OBSERVATIONS,
    tick: Tick = no_tick,
    rounding: Collection[str] = (),
    most: Mapping[str, int] | None = None,
    certified: Collection[str] = (),
) -> VerifyResult:
    """Compare ``targets`` with the interpreter.

    Args:
        golden: its observations and the answers stored with them are checked first, then ``observations`` random ones.
        targets: name → how to run it.
        rounding: those of ``targets`` that round by themselves also where the graph is integer.
        most: observations that one of ``targets`` runs, where that takes long; all where it is not named.
        certified: those of ``rounding`` whose very runtime was certified: other actions are differences there.

    Raises:
        NimbleqError: the interpreter no longer gives the golden answers (a damaged artefact or a changed nimbleq).
    """
    exact, limits = is_integer(graph), most or {}
    counts = dict.fromkeys(targets, 0)
    wrong = dict.fromkeys(targets, 0)
    error = dict.fromkeys(targets, 0.0)
    rng = np.random.default_rng(len(golden.obs))
    total, done = len(golden.obs) + observations, 0
    while done < total:
        stored = golden.obs[done : done + CHUNK]
        obs = stored if len(stored) else sample_observations(rng, graph, golden.obs, min(CHUNK, total - done))
        mask = golden.mask[done : done + CHUNK] if golden.mask is not None and len(stored) else None
        if graph.masked and mask is None:
            mask = random_masks(rng, len(obs), graph)
        answers = interpret_rows(graph, obs, mask)
        if len(stored):
            _check_golden(golden, answers, mask, done, exact, graph.branches)
        for name, run in targets.items():
            part = slice(None if name not in limits else max(limits[name] - counts[name], 0))
            if not len(obs[part]):
                continue
            given, wanted = None if mask is None else mask[part], {key: value[part] for key, value in answers.items()}
            action, q = run(obs[part], given)
            own = name in rounding
            bad, largest = _compare(
                wanted, action, q, given, exact and not own, graph.branches, values=not (exact and own)
            )
            counts[name] += len(obs[part])
            wrong[name] += bad
            error[name] = max(error[name], largest)
        done += len(obs)
        tick(done, total, f"{sum(wrong.values())} mismatches")
    results = tuple(
        TargetResult(
            name, counts[name], 0 if name in certified else wrong[name], error[name],
            name in rounding, wrong[name] if name in certified else 0,
        )
        for name in targets
    )  # fmt: skip
    return VerifyResult(sum(counts.values()), sum(one.mismatches for one in results), results)


def _compare(
    answers: Mapping[str, Array],
    action: Array | None,
    q: Array | None,
    mask: Array | None,
    exact: bool,
    branches: Sequence[int],
    values: bool = True,
) -> tuple[int, float]:
    """Mismatches and the largest difference; ``values`` False: the actions count, values only have to be finite."""
    action, q = answers[ACTION] if action is None else action, answers[Q] if q is None else q
    difference = np.abs(q.astype(np.float64) - answers[Q])
    difference = np.where(np.isfinite(difference), difference, np.inf)
    largest = float(difference.max(initial=0.0))
    if exact:
        same = (difference == 0).all(axis=1) & (action == answers[ACTION])
        return int(np.count_nonzero(~same)), largest
    limit = tolerance(answers[Q])
    taken = places(np.clip(action, 0, None), branches)
    chosen = np.take_along_axis(answers[Q], taken, axis=1)
    wanted = np.take_along_axis(answers[Q], places(answers[ACTION], branches), axis=1)
    tied = (wanted - chosen <= 2 * limit).all(axis=1)
    same = (difference <= limit if values else np.isfinite(difference)).all(axis=1) & tied & (action >= 0)
    if mask is not None:
        same &= (np.take_along_axis(mask, taken, axis=1) != 0).all(axis=1)
    return int(np.count_nonzero(~same)), largest


def _check_golden(
    golden: Golden, answers: Mapping[str, Array], mask: Array | None, start: int, exact: bool, branches: Sequence[int]
) -> None:
    stored = {Q: golden.q[start : start + CHUNK], ACTION: golden.action[start : start + CHUNK]}
    bad, largest = _compare(stored, answers[ACTION], answers[Q], mask, exact, branches)
    if bad:
        raise NimbleqError(
            f"the interpreter disagrees with {bad} golden answers (by up to {largest:g}): do not deploy this"
        )


def verify_raw(
    source: Source,
    runs: Mapping[str, RawRun],
    observations: int = RAW_OBSERVATIONS,
    most: Mapping[str, int] | None = None,
) -> list[TargetResult]:
    """Compare what ``runs`` make of observations of the environment: the network's input, actions, refusals.

    Args:
        source: with an interface.
        most: observations that one of ``runs`` takes.
    """
    graph, interface = source.graph, source.interface
    assert interface is not None
    samples = RawSamples.of(np.random.default_rng(observations), graph, interface, observations)
    answers = interpret_rows(graph, samples.obs, samples.mask)
    found = []
    for name, run in runs.items():
        part = slice(min(observations, (most or {}).get(name, observations)))
        mask, refused = None if samples.mask is None else samples.mask[part], samples.refused[part]
        index, read, action = run(samples.raws[part], mask)
        wanted = {key: value[part] for key, value in answers.items()}
        wrong = np.array([
            _compare({key: value[at : at + 1] for key, value in wanted.items()}, index[at : at + 1], None,
                     None if mask is None else mask[at : at + 1], is_integer(graph), graph.branches)[0]
            for at in range(len(index))
        ], bool)  # fmt: skip
        same = (read.view(np.uint8) == samples.obs[part].view(np.uint8)).reshape(len(read), -1).all(axis=1)
        taken = [np.array_equal(action[at], environment_action(interface, index[at])) for at in range(len(index))]
        bad = np.where(refused, index >= 0, (index < 0) | wrong | ~same | ~np.array(taken, bool))
        found.append(TargetResult(name, len(index), int(bad.sum()), 0.0))
    return found


def certified_files(oracle: Path, target: str, manifest: Mapping[str, Any]) -> bool:
    """Whether the files of ``target`` in a build are those that were certified on it."""
    stored = read_certificate(oracle, target)
    if stored is None or not stored.get("certified"):
        return False
    return set(stored.get("target", {}).get("files", [""])) <= set(manifest["files"].values())


def verify_build(folder: Path, observations: int = OBSERVATIONS, tick: Tick = no_tick) -> VerifyResult:
    """Verify everything that `nimbleq.deploy.export.export` wrote into ``folder`` and that can be run here.

    Raises:
        FileError: not a build, files were changed, or it is of a target that this nimbleq does not know.
        CompileError: a compiler refuses the code.
    """
    manifest, oracle = load_build(folder)
    source, name = Source.of(oracle), str(manifest["name"])
    files = {file: read_bytes(folder / file) for file in manifest["files"]}
    runs, raws, guards = dict[str, Run](), dict[str, RawRun](), dict[str, GuardRun]()
    rounding, certified = set[str](), set[str]()
    most: dict[str, int] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="nimbleq-verify-") as scratch:
        for target in manifest["targets"]:
            row = TARGETS[target]
            if why := row.cannot_open():
                skipped[target] = why
                continue
            place = Path(scratch, target)
            place.mkdir()
            try:
                opened = row.open(source, files, name, place)
                given = {} if row.raw is None else row.raw(source, files, name, place)
                guarded = {} if source.guard is None or row.guard is None else row.guard(source, files, name, place)
            except NoCompilerError as error:
                skipped[target] = str(error)
                continue
            runs |= opened
            raws |= given
            guards |= guarded
            rounding |= set() if row.exact else opened.keys()
            certified |= opened.keys() if not row.exact and certified_files(oracle.path, target, manifest) else set()
            most |= {} if row.most is None else dict.fromkeys([*opened, *given, *guarded], row.most)
        result = verify(source.graph, oracle.golden, runs, observations, tick, rounding, most, certified)
        more = verify_raw(source, raws, min(observations, RAW_OBSERVATIONS), most) if raws else []
        if guards:
            behind = guard_mismatches(source, oracle.golden.obs, guards, min(observations, PERIODS), most)
            more += [TargetResult(label, count, wrong, 0.0) for label, (count, wrong) in behind.items()]
    return VerifyResult(
        result.checked + sum(one.observations for one in more), result.mismatches + sum(one.mismatches for one in more),
        (*result.targets, *more), skipped,
    )  # fmt: skip
