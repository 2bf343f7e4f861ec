"""Engines beside which a decision is timed ★: a function each, and a line in `DECIDERS`."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.case import CellError
from nimbleq.bridge.torch_graph import to_module
from nimbleq.deploy.target import Timer, python_timer
from nimbleq.deploy.targets.onnx.emit import emit_onnx
from nimbleq.deploy.targets.onnx.session import load_onnx_policy
from nimbleq.deploy.targets.onnx.target import session_call
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.graph.graph import ACTION, Graph
from nimbleq.types import Array

_SECONDS = 300
_LOOP = """
#include <time.h>
void model(const void *obs, void *q);
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return 1e9 * (double)t.tv_sec + (double)t.tv_nsec; }
void timed(const char *obs, long size, long count, long calls, double *ns) {
    static float q[256];
    for (long i = 0; i < calls; ++i) {
        const double start = now();
        model(obs + (i % count) * size, q);
        ns[i] = now() - start;
    }
}
"""  # noqa: E501


def torch_eager(graph: Graph, obs: Array) -> Timer:
    """A module in inference mode."""
    module = to_module(graph).eval()

    def call(one: Array) -> int:
        with torch.inference_mode():
            return int(module(torch.from_numpy(one)[None]).argmax())

    return python_timer(call, obs)


def onnxruntime_run(graph: Graph, obs: Array, exact: bool = True) -> Timer:
    """``session.run``, as most people call it."""
    return python_timer(session_call(load_onnx_policy(emit_onnx(graph, exact=exact))), obs)


def onnxruntime_qdq(graph: Graph, obs: Array) -> Timer:
    """The QDQ form, which ONNX Runtime fuses into its int8 kernels."""
    return onnxruntime_run(graph, obs, exact=False)


def onnxruntime_binding(graph: Graph, obs: Array) -> Timer:
    """Input and output bound to memory once."""
    policy = load_onnx_policy(emit_onnx(graph, exact=False))
    given, action = np.zeros((1, *policy.shape), policy.dtype), np.zeros(1, np.int64)
    binding = policy.session.io_binding()
    binding.bind_input(policy.input_name, "cpu", 0, given.dtype, given.shape, given.ctypes.data)
    binding.bind_output(ACTION, "cpu", 0, action.dtype, action.shape, action.ctypes.data)

    def call(one: Array) -> int:
        given[0] = one
        policy.session.run_with_iobinding(binding)
        return int(action[0])

    return python_timer(call, obs)


def openvino(graph: Graph, obs: Array) -> Timer:
    """A request whose input lies in memory of ours; int8 in the QDQ form."""
    ov: Any = import_module("openvino")
    core = ov.Core()
    model = core.read_model(BytesIO(emit_onnx(graph, exact=False, outputs="action")))
    shape = (1, *graph.obs_type.shape)
    model.reshape(list(shape))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    given = np.zeros(shape, np.uint8 if graph.obs_type.qtype.is_integer else np.float32)
    request.set_input_tensor(ov.Tensor(given, shared_memory=True))
    answer = request.get_output_tensor().data

    def call(one: Array) -> int:
        given[0] = one
        request.infer()
        return int(answer[0])

    return python_timer(call, obs)


def executorch(graph: Graph, obs: Array) -> Timer:
    """``method.execute`` of a .pte with XNNPACK."""
    from nimbleq.deploy.targets.executorch.emit import emit_executorch
    from nimbleq.deploy.targets.executorch.target import ExecutorchPolicy

    return python_timer(ExecutorchPolicy(emit_executorch(graph), graph).act, obs)


def litert(graph: Graph, obs: Array) -> Timer:
    """``interpreter.invoke`` of a .tflite with XNNPACK."""
    from nimbleq.deploy.targets.litert.target import LitertPolicy, emit_litert

    return python_timer(LitertPolicy(emit_litert(graph), graph).act, obs)


def emx_onnx_cgen(graph: Graph, obs: Array) -> Timer:
    """C that emmtrix' generator makes of the ONNX model, action values only, timed inside C.

    Raises:
        CellError: it cannot be generated or compiled.
    """
    import_module("emx_onnx_cgen")
    library = _compiled(_fixed_batch(emit_onnx(graph, outputs="q")))
    given = np.ascontiguousarray(obs)
    arguments = [given.ctypes.data_as(ctypes.c_void_p), *map(ctypes.c_long, (given[0].nbytes, len(given)))]

    def timer(calls: int) -> Array:
        times = np.empty(calls)
        library.timed(*arguments, ctypes.c_long(calls), times.ctypes.data_as(ctypes.c_void_p))
        return times

    return timer


def _fixed_batch(model: bytes) -> bytes:
    """The model of one observation."""
    onnx: Any = import_module("onnx")
    loaded = onnx.load_from_string(model)
    for value in (*loaded.graph.input, *loaded.graph.output, *loaded.graph.value_info):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return bytes(loaded.SerializeToString())


def _compiled(model: bytes) -> ctypes.CDLL:
    """The generated code with its loop; the folder may go once it is loaded."""
    compiler = find_compiler()
    if compiler is None:
        raise CellError("there is no C compiler")
    with tempfile.TemporaryDirectory(prefix="nimbleq-emx-") as place:
        folder = Path(place)
        (folder / "model.onnx").write_bytes(model)
        (folder / "loop.c").write_text(_LOOP)
        generate = [sys.executable, "-m", "emx_onnx_cgen", "compile", "model.onnx", "model.c"]
        build = [
            compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", "model.so", "model.c", "loop.c",
            "-lm",
        ]  # fmt: skip
        for command in (generate, build):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()
                raise CellError(f"{Path(command[0]).name} failed: {said[-1] if said else done.returncode}")
        return ctypes.CDLL(str(folder / "model.so"))


@dataclass(frozen=True)
class DeciderPeer:
    """A row of `DECIDERS`.

    Attributes:
        time: ``(graph, obs[K, *O]) → timer``.
        of: which arithmetic it is timed with.
    """

    time: Callable[[Graph, Array], Timer]
    of: tuple[Literal["float", "int8"], ...] = ("float",)


DECIDERS: Mapping[str, DeciderPeer] = {
    "torch": DeciderPeer(torch_eager),
    "onnxruntime": DeciderPeer(onnxruntime_run, ("float", "int8")),
    "onnxruntime-qdq": DeciderPeer(onnxruntime_qdq, ("int8",)),
    "onnxruntime-binding": DeciderPeer(onnxruntime_binding, ("float", "int8")),
    "openvino": DeciderPeer(openvino, ("float", "int8")),
    "executorch": DeciderPeer(executorch),
    "litert": DeciderPeer(litert),
    "emx-onnx-cgen": DeciderPeer(emx_onnx_cgen),
}
"""Engine → how it is timed."""
