"""Every engine against the interpreter: golden vectors and random observations.

Integer graphs are compared bit for bit, action values and actions. Float graphs may differ by rounding: action values
within `tolerance`, and the action equal unless the interpreter's two best values are closer than that.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.decider import open_library
from nimbleq.deploy.export import is_integer, load_build
from nimbleq.deploy.samples import sample_observations
from nimbleq.deploy.toolchain import FAST, NoCompilerError, compile_library, find_compiler
from nimbleq.errors import NimbleqError
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.golden import Golden, random_masks
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.types import Array, Tick, no_tick

OBSERVATIONS = 100_000
CHUNK = 1024
Run = Callable[[Array, Array | None], tuple[Array | None, Array | None]]
"""``obs[N, *O], mask[N, A] → (action[N], q[N, A])``; the mask is None where the policy takes none, and either answer
where the target does not give it."""


@dataclass(frozen=True)
class TargetResult:
    """Attributes:
    target: e.g. ``"c (gcc -O3 -march=native)"``.
    observations: how many were compared.
    mismatches: how many of them disagreed.
    max_q_error: largest difference of an action value.
    """

    target: str
    observations: int
    mismatches: int
    max_q_error: float


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
    graph: Graph, golden: Golden, targets: Mapping[str, Run], observations: int = OBSERVATIONS, tick: Tick = no_tick
) -> VerifyResult:
    """Compare ``targets`` with the interpreter.

    Args:
        golden: its observations and the answers stored with them are checked first, then ``observations`` random ones.
        targets: name → how to run it.

    Raises:
        NimbleqError: the interpreter no longer gives the golden answers (a damaged artefact or a changed nimbleq).
    """
    exact = is_integer(graph)
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
            mask = random_masks(rng, len(obs), graph.actions)
        answers = interpret(graph, obs, mask)
        if len(stored):
            _check_golden(golden, answers, mask, done, exact)
        for name, run in targets.items():
            action, q = run(obs, mask)
            bad, largest = _compare(answers, action, q, mask, exact)
            counts[name] += len(obs)
            wrong[name] += bad
            error[name] = max(error[name], largest)
        done += len(obs)
        tick(done, total, f"{sum(wrong.values())} mismatches")
    results = tuple(TargetResult(name, counts[name], wrong[name], error[name]) for name in targets)
    return VerifyResult(sum(counts.values()), sum(wrong.values()), results)


def tolerance(q: Array) -> Array:
    """Largest accepted rounding difference per observation, ``[N, 1]``: 2⁻¹² of the largest |q|, at least 10⁻⁴.

    A few hundred float32 roundings of the values inside stay far below it.
    """
    limit: Array = np.maximum(1e-4, np.abs(q).max(axis=1, keepdims=True) * 2.0**-12)
    return limit


def _compare(
    answers: Mapping[str, Array], action: Array | None, q: Array | None, mask: Array | None, exact: bool
) -> tuple[int, float]:
    """Mismatches and the largest difference."""
    action, q = answers[ACTION] if action is None else action, answers[Q] if q is None else q
    difference = np.abs(q.astype(np.float64) - answers[Q])
    difference = np.where(np.isfinite(difference), difference, np.inf)
    largest = float(difference.max(initial=0.0))
    if exact:
        same = (difference == 0).all(axis=1) & (action == answers[ACTION])
        return int(np.count_nonzero(~same)), largest
    limit = tolerance(answers[Q])
    chosen = np.take_along_axis(answers[Q], np.clip(action, 0, None)[:, None].astype(np.int64), axis=1)
    wanted = np.take_along_axis(answers[Q], answers[ACTION][:, None].astype(np.int64), axis=1)
    tied = wanted - chosen <= 2 * limit
    same = (difference <= limit).all(axis=1) & tied[:, 0] & (action >= 0)
    if mask is not None:
        same &= mask[np.arange(len(mask)), np.clip(action, 0, None)] != 0
    return int(np.count_nonzero(~same)), largest


def _check_golden(golden: Golden, answers: Mapping[str, Array], mask: Array | None, start: int, exact: bool) -> None:
    stored = {Q: golden.q[start : start + CHUNK], ACTION: golden.action[start : start + CHUNK]}
    bad, largest = _compare(stored, answers[ACTION], answers[Q], mask, exact)
    if bad:
        raise NimbleqError(
            f"the interpreter disagrees with {bad} golden answers (by up to {largest:g}): do not deploy this"
        )


def verify_build(folder: Path, observations: int = OBSERVATIONS, tick: Tick = no_tick) -> VerifyResult:
    """Verify everything that `nimbleq.deploy.export.export` wrote into ``folder`` and that can be run here.

    C is compiled as plain scalar code and as fast as possible, with every compiler found. The QDQ
    model rounds its own way, so it is not among the targets that have to agree.

    Raises:
        FileError: not a build, or files were changed.
        CompileError: a compiler refuses the code.
    """
    manifest, oracle = load_build(folder)
    graph, name = oracle.graph, str(manifest["name"])
    with tempfile.TemporaryDirectory(prefix="nimbleq-verify-") as scratch:
        targets: dict[str, Run] = {}
        skipped: dict[str, str] = {}
        if "c" in manifest["targets"]:
            texts = {file: (folder / file).read_text() for file in (f"{name}.c", f"{name}.h")}
            try:
                targets |= c_targets(graph, texts, name, Path(scratch))
            except NoCompilerError as error:
                skipped["c"] = str(error)
        if "onnx" in manifest["targets"]:
            if importlib.util.find_spec("onnxruntime") is None:
                skipped["onnx"] = "running ONNX models needs onnxruntime: pip install 'nimbleq[onnx]'"
            else:
                targets["onnx"] = onnx_target((folder / "model.onnx").read_bytes())
        return replace(verify(graph, oracle.golden, targets, observations, tick), skipped=skipped)


def c_targets(graph: Graph, files: Mapping[str, str], name: str, folder: Path) -> dict[str, Run]:
    """The C text, compiled in several ways into ``folder``.

    Raises:
        NoCompilerError: there is none that works.
        CompileError: one refuses the code.
    """
    fast = find_compiler()
    if fast is None:
        raise NoCompilerError("verifying C needs a C compiler: install gcc or clang")
    builds = [(fast, ("-O1", "-DNQ_SCALAR")), (fast, FAST)]
    other = find_compiler(("clang",))
    if other is not None and other != fast:
        builds.append((other, FAST))
    targets: dict[str, Run] = {}
    for index, (compiler, flags) in enumerate(builds):
        library = compile_library(files, folder / f"{index}.so", compiler, flags)
        targets[f"c ({Path(compiler).name} {' '.join(flags)})"] = open_library(
            library, name, graph, network_interface(graph)
        ).run
    return targets


def onnx_target(model: bytes) -> Run:
    """An ONNX model in ONNX Runtime.

    Raises:
        NimbleqError: onnxruntime is not installed.
    """
    from nimbleq.deploy.targets.onnx.session import load_onnx_policy

    session = load_onnx_policy(model)

    def run(obs: Array, mask: Array | None) -> tuple[Array | None, Array | None]:
        answers = session(obs, mask)
        return answers.get(ACTION), answers.get(Q)

    return run
