"""The rows of ONNX: a model in exact integers (or float32), and for integer policies one in QDQ form.

The QDQ model rounds its own way: `verify` reports other actions, and `certify --target onnx-qdq` plays it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimbleq.deploy.agreement import is_integer
from nimbleq.deploy.decider import Decider, OneByOneDecider, Remember, RememberingDecider
from nimbleq.deploy.target import Engine, Files, Run, Source, Target, Timer, python_timer
from nimbleq.deploy.targets.onnx.emit import OPSET, Outputs, emit_onnx
from nimbleq.deploy.targets.onnx.session import OnnxPolicy, load_onnx_policy
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.graph import ACTION, MASK, NEXT_STATE, Graph, Q
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

MODEL, QDQ_MODEL = "model.onnx", "model_qdq.onnx"


@dataclass(frozen=True)
class OnnxOptions:
    """How ONNX models are written.

    Attributes:
        opset: of the models; engines that know older ones only need e.g. 13.
        outputs: of the models: both, q (action values) or action.
    """

    opset: int = OPSET
    outputs: Outputs = "both"


def _emit(source: Source, name: str, options: OnnxOptions) -> Files:
    chosen: dict[str, Any] = {"source": source.origin, "opset": options.opset, "outputs": options.outputs}
    return {MODEL: emit_onnx(source.graph, name, **chosen)}


def _emit_qdq(source: Source, name: str, options: OnnxOptions) -> Files:
    chosen: dict[str, Any] = {"source": source.origin, "opset": options.opset, "outputs": options.outputs}
    model = emit_onnx(source.graph, name, **chosen, exact=False)
    if not is_integer(source.graph):
        raise UnsupportedOpError("of a float policy", "onnx-qdq", "it is for integer policies: use --to onnx")
    return {QDQ_MODEL: model}


def _run(model: bytes) -> Run:
    session = load_onnx_policy(model)

    def run(obs: Array, mask: Array | None) -> tuple[Array | None, Array | None]:
        answers = session(obs, mask if session.masked else None)
        return answers.get(ACTION), answers.get(Q)

    return run


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    if source.graph.units:
        remember = _remember(load_onnx_policy(files[MODEL]))
        return {"onnx": RememberingDecider(source.graph, remember, network_interface(source.graph)).run}
    return {"onnx": _run(files[MODEL])}


def _open_qdq(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    return {"onnx-qdq": _run(files[QDQ_MODEL])}


@dataclass(frozen=True)
class _OnnxAnswer:
    """A model with both outputs, as `OneByOneDecider` calls it."""

    policy: OnnxPolicy

    def __call__(self, obs: Array, mask: Array | None) -> tuple[Array, Array]:
        answers = self.policy(obs, mask)
        return answers[ACTION], answers[Q]


def _remember(policy: OnnxPolicy) -> Remember:
    def remember(obs: Array, state: Array, mask: Array | None) -> tuple[Array, Array, Array]:
        answers = policy(obs, mask, state)
        return answers[ACTION], answers[Q], answers[NEXT_STATE]

    return remember


def _load(graph: Graph, interface: Interface, fallback: int) -> tuple[Decider, str]:
    if graph.units:
        policy = load_onnx_policy(emit_onnx(graph))
        return RememberingDecider(graph, _remember(policy), interface, fallback), "ONNX Runtime"
    answer = _OnnxAnswer(load_onnx_policy(emit_onnx(graph)))
    return OneByOneDecider(graph, answer, interface, fallback), "ONNX Runtime"


def session_call(policy: OnnxPolicy) -> Callable[..., object]:
    """ONNX Runtime's own ``run``, as its users call it: of one observation and, where the policy takes one, a mask."""
    run, name = policy.session.run, policy.input_name
    if policy.masked:
        return lambda obs, mask: run([ACTION], {name: obs[None], MASK: mask[None]})
    return lambda obs: run([ACTION], {name: obs[None]})


def _timers(decider: Decider, obs: Array, mask: Array | None) -> Mapping[str, Timer]:
    assert isinstance(decider, OneByOneDecider)
    assert isinstance(decider.answer, _OnnxAnswer)
    return {"onnxruntime": python_timer(session_call(decider.answer.policy), obs, mask)}


def _cannot_emit() -> str | None:
    return (
        None
        if importlib.util.find_spec("onnx")
        else "the target onnx needs the package onnx: pip install 'nimbleq[onnx]'"
    )


def _cannot_open() -> str | None:
    return (
        None
        if importlib.util.find_spec("onnxruntime")
        else "running ONNX models needs onnxruntime: pip install 'nimbleq[onnx]'"
    )


ONNXRUNTIME = Engine("onnxruntime", _load, _timers, remembers=True)
ONNX = Target(
    name="onnx",
    purpose="models for ONNX Runtime, TensorRT and others",
    options=OnnxOptions,
    emit=_emit,
    open=_open,
    exact=True,
    cannot_emit=_cannot_emit,
    cannot_open=_cannot_open,
    engine=ONNXRUNTIME,
    remembers=True,
)
ONNX_QDQ = Target(
    name="onnx-qdq",
    purpose="an integer policy in the QDQ form, which runtimes fuse into int8 kernels and round themselves",
    options=OnnxOptions,
    emit=_emit_qdq,
    open=_open_qdq,
    exact=False,
    cannot_emit=_cannot_emit,
    cannot_open=_cannot_open,
)
