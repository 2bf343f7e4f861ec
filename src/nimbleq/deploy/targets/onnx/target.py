"""The row of ONNX: a model in exact integers (or float32), and for integer policies one in QDQ form.

The QDQ model rounds its own way, so `verify` does not open it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nimbleq.deploy.decider import Decider, OneByOneDecider
from nimbleq.deploy.target import Engine, Files, Run, Source, Target, Timer, python_timer
from nimbleq.deploy.targets.onnx.emit import OPSET, Outputs, emit_onnx
from nimbleq.deploy.targets.onnx.session import OnnxPolicy, load_onnx_policy
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Q
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

MODEL, QDQ_MODEL = "model.onnx", "model_qdq.onnx"
QDQ_OPSET = 13
"""From this opset on there is the QDQ form."""


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
    files = {MODEL: emit_onnx(source.graph, name, **chosen)}
    if any(isinstance(node.op, ops.Requantize) for node in source.graph.nodes) and options.opset >= QDQ_OPSET:
        files[QDQ_MODEL] = emit_onnx(source.graph, name, **chosen, exact=False)
    return files


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    session = load_onnx_policy(files[MODEL])

    def run(obs: Array, mask: Array | None) -> tuple[Array | None, Array | None]:
        answers = session(obs, mask)
        return answers.get(ACTION), answers.get(Q)

    return {"onnx": run}


@dataclass(frozen=True)
class _OnnxAnswer:
    """A model with both outputs, as `OneByOneDecider` calls it."""

    policy: OnnxPolicy

    def __call__(self, obs: Array, mask: Array | None) -> tuple[Array, Array]:
        answers = self.policy(obs, mask)
        return answers[ACTION], answers[Q]


def _load(graph: Graph, interface: Interface, fallback: int) -> tuple[Decider, str]:
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


ONNXRUNTIME = Engine("onnxruntime", _load, _timers)
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
)
