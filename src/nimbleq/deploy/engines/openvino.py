"""OpenVINO on the CPU, one thread, of the model in ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from nimbleq.deploy.decider import Decider, OneByOneDecider
from nimbleq.deploy.target import Engine, Timer, python_timer
from nimbleq.deploy.targets.onnx.emit import emit_onnx
from nimbleq.errors import NimbleqError
from nimbleq.graph.graph import ACTION, MASK, Graph, Q
from nimbleq.graph.interface import Interface
from nimbleq.types import Array


@dataclass(frozen=True)
class _OpenvinoAnswer:
    """A compiled model, as `OneByOneDecider` calls it: one request, so one decision at a time.

    Attributes:
        request: an ``openvino.InferRequest``.
        obs: name of the input.
        dtype: of the observation.
    """

    request: Any
    obs: str
    dtype: Any

    def __call__(self, obs: Array, mask: Array | None) -> tuple[Array, Array]:
        feed = {self.obs: np.ascontiguousarray(obs, self.dtype)}
        if mask is not None:
            feed[MASK] = np.ascontiguousarray(mask, np.bool_)
        answers = self.request.infer(feed)
        return answers[ACTION].astype(np.int32), np.array(answers[Q])


def _load(graph: Graph, interface: Interface, fallback: int) -> tuple[Decider, str]:
    try:
        import onnx  # noqa: F401 (the model is written with it)
        import openvino
    except ImportError:
        raise NimbleqError("deciding with OpenVINO needs openvino and onnx: pip install 'nimbleq[openvino]'") from None
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    try:
        model = core.read_model(BytesIO(emit_onnx(graph)))
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise NimbleqError(f"OpenVINO cannot run this policy: {str(error).strip().splitlines()[-1]}") from error
    dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32
    answer = _OpenvinoAnswer(request, graph.obs_name, dtype)
    return OneByOneDecider(graph, answer, interface, fallback), f"OpenVINO {openvino.__version__.split('-')[0]}"


def _timers(decider: Decider, obs: Array, mask: Array | None) -> Mapping[str, Timer]:
    """OpenVINO's own ``infer``, as its users call it."""
    assert isinstance(decider, OneByOneDecider)
    assert isinstance(decider.answer, _OpenvinoAnswer)
    infer, name = decider.answer.request.infer, decider.answer.obs
    if mask is not None:
        return {"openvino": python_timer(lambda one, legal: infer({name: one[None], MASK: legal[None]}), obs, mask)}
    return {"openvino": python_timer(lambda one: infer({name: one[None]}), obs)}


OPENVINO = Engine("openvino", _load, _timers)
