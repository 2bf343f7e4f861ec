"""``nimbleq doctor``: what works on this machine. Everything is tried: compiled, imported and timed."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from nimbleq.config import TrainConfig
from nimbleq.console import Console
from nimbleq.deploy.engines import ENGINES
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.target import Source, Target
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.toolchain import COMPILERS, compile_library, find_compiler
from nimbleq.errors import NimbleqError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import TensorType
from nimbleq.native import EXTENSIONS, import_error
from nimbleq.verbs.common import Output
from nimbleq.verbs.doctor_tpu import for_tpu
from nimbleq.version import VERSION

PACKAGES = {
    "numpy": ("numpy", "the core"),
    "safetensors": ("safetensors", "the core"),
    "torch": ("torch", "train, compress, import"),
    "gymnasium": ("gymnasium", "environments"),
    "tensorboard": ("tensorboard", "training curves"),
    "optuna": ("optuna", "tune"),
    "ale_py": ("ale_py", "Atari environments"),
    "minatar": ("minatar", "MinAtar environments"),
    "envpool": ("envpool", "environments in C++"),
    "ray": ("ray", "actors and learners in several processes"),
    "pillow": ("PIL", "watch (GIFs)"),
    "onnx": ("onnx", "ONNX models"),
    "onnxruntime": ("onnxruntime", "running ONNX models"),
    "openvino": ("openvino", "deciding with OpenVINO"),
    "ziglang": ("ziglang", "a C compiler for other processors"),
    "wasmtime": ("wasmtime", "running and counting WebAssembly"),
    "jax": ("jax", "learner xla: TPU, GPU, CPU"),
    "gymnax": ("gymnax", "environments in JAX"),
}
"""Distribution → the module that it is imported as, and what it is for."""
_WIDTHS = (8, 32, 32, 4)


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Try what is installed: import the packages, run a policy with every compiler and target, time every engine.

    Attributes:
        tpu: compile the training of the engine xla for this slice of TPUs instead, e.g. v5e:2x2; it need not be there.
        env: whose training that is.
        preset: with which settings.
        hidden: widths of the fully connected layers (default: the preset's).
        batch: transitions per update (default: the preset's).
    """

    tpu: str | None = None
    env: str = "CartPole-v1"
    preset: str = "pqn"
    hidden: tuple[int, ...] | None = None
    batch: int | None = None


class Check(NamedTuple):
    """One thing to try: ``attempt`` returns what was found, or raises the reason why it does not work."""

    kind: str
    name: str
    purpose: str
    attempt: Callable[[], str]


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes:
        kind: ``package``, ``compiler``, ``extension``, ``target``, ``engine`` or ``learner``.
        name: which.
        works: it does.
        state: version, seconds or microseconds; or why it does not work.
        purpose: what it is for.
    """

    kind: str
    name: str
    works: bool
    state: str
    purpose: str


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Try everything and list it; the verb succeeds even if something does not work."""
    if args.tpu is not None:
        return for_tpu(args.tpu, args.env, args.preset, args.hidden, args.batch, console)
    findings = []
    with console.progress("doctor") as tick:
        checks = [*_packages(), *_compilers(), *_extensions(), *_targets(), *_engines(), *_learners()]
        for number, check in enumerate(checks):
            findings.append(_tried(check))
            tick(number + 1, len(checks), findings[-1].name)
    rows = [
        [f.name if f.kind == "package" else f"{f.kind} {f.name}", "works" if f.works else "no", f.state, f.purpose]
        for f in findings
    ]
    title = f"nimbleq {VERSION}, Python {platform.python_version()}, {platform.machine()}, {_cores()} cores"
    console.table(title, ("what", "", "found", "for"), rows)
    found = {f"{f.kind}s": {g.name: g.works for g in findings if g.kind == f.kind} for f in findings}
    versions = {f.name: f.state if f.works else None for f in findings if f.kind == "package"}
    result = {
        "nimbleq": VERSION, "python": platform.python_version(), **found, "packages": versions,
        "findings": [asdict(finding) for finding in findings],
    }  # fmt: skip
    return result, True


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tried(check: Check) -> Finding:
    try:
        return Finding(check.kind, check.name, True, check.attempt(), check.purpose)
    except Exception as error:  # noqa: BLE001 (a package may fail in any way while it is imported)
        said = " ".join(str(error).split()) or type(error).__name__
        return Finding(check.kind, check.name, False, said[:200], check.purpose)


def _packages() -> Iterator[Check]:
    for name, (module, purpose) in PACKAGES.items():

        def attempt(name: str = name, module: str = module) -> str:
            importlib.import_module(module)
            return importlib.metadata.version(name)

        yield Check("package", name, purpose, attempt)


def _compilers() -> Iterator[Check]:
    for name in COMPILERS:

        def attempt(name: str = name) -> str:
            path = find_compiler((name,))
            if path is None:
                raise NimbleqError("not on the PATH")
            start = perf_counter()
            with tempfile.TemporaryDirectory(prefix="nimbleq-doctor-") as folder:
                compile_library(emit_c(_example()), Path(folder) / "policy.so", path)
            return f"compiled and loaded a policy in {perf_counter() - start:.1f} s"

        yield Check("compiler", name, "decisions in C", attempt)


def _extensions() -> Iterator[Check]:
    for name, purpose in EXTENSIONS.items():

        def attempt(name: str = name) -> str:
            reason = import_error(name)
            if reason is not None:
                raise NimbleqError(reason)
            return "imported"

        yield Check("extension", name, purpose, attempt)


def _targets() -> Iterator[Check]:
    for name, row in TARGETS.items():

        def attempt(row: Target = row) -> str:
            if why := row.cannot_emit():
                raise NimbleqError(why)
            source = Source(_example())
            files = row.emit(source, "doctor", row.options())
            written = f"written: {', '.join(files)}"
            if why := row.cannot_open():
                return f"{written}; not run: {why}"
            with tempfile.TemporaryDirectory(prefix="nimbleq-doctor-") as folder:
                runs = row.open(source, files, "doctor", Path(folder))
                for run in runs.values():
                    run(np.zeros((1, _WIDTHS[0]), np.float32), None)
            return f"{written}; run as {', '.join(runs)}"

        yield Check("target", name, f"export --to {name}: {row.purpose}", attempt)


def _engines() -> Iterator[Check]:
    for name in ENGINES:

        def attempt(name: str = name) -> str:
            return f"{Runtime(_example(), engine=name).status.latency_us:.2f} µs a decision"

        yield Check("engine", name, f"decisions of a network {'-'.join(map(str, _WIDTHS))}", attempt)


def _learners() -> Iterator[Check]:
    try:
        from nimbleq.rl.learners.engines import ENGINES
    except ModuleNotFoundError:  # the packages say what is missing
        return
    for row in ENGINES.values():

        def attempt(row: Any = row) -> str:
            reason = row.why_not(TrainConfig(), None)
            if reason is not None:
                raise NimbleqError(reason)
            return "trains the default network"

        yield Check("learner", row.name, row.purpose, attempt)


def _example() -> Graph:
    """A float32 network of `_WIDTHS`."""
    rng = np.random.default_rng(0)
    weights, nodes, source = {}, [], "obs"
    for layer, (wide, out) in enumerate(pairwise(_WIDTHS)):
        last = layer == len(_WIDTHS) - 2
        weights[f"w{layer}"] = rng.normal(size=(out, wide)).astype(np.float32)
        weights[f"b{layer}"] = np.zeros(out, np.float32)
        made = Q if last else f"h{layer}"
        nodes.append(Node(ops.Linear(f"w{layer}", f"b{layer}"), (source,), made))
        if not last:
            nodes.append(Node(ops.Activation(), (made,), f"a{layer}"))
        source = f"a{layer}"
    nodes.append(Node(ops.ArgMax(), (Q,), ACTION))
    return Graph({"obs": TensorType((_WIDTHS[0],))}, tuple(nodes), (Q, ACTION), weights)
