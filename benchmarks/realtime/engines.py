"""Decisions from Python in a process that is watched: ``python -m benchmarks.realtime.engines ENGINE MODE DECISIONS``.

Modes: ``audit`` prints allocations and locks, and calls getppid before and after, so that a trace of the process shows
what lies between; ``time`` prints nanoseconds of each decision as doubles.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.networks import mlp
from nimbleq.deploy.runtime import Runtime
from nimbleq.types import Array

WIDTHS = (4, 64, 64, 2)
Call = Callable[[Array], object]


def nimbleq() -> Call:
    """`Runtime.act`."""
    return Runtime(mlp(*WIDTHS)).act


def onnxruntime(binding: bool = False) -> Call:
    """One thread; ``run``, or with the input bound, which spares it a copy."""
    import onnxruntime as ort

    from nimbleq.deploy.targets.onnx.emit import emit_onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(emit_onnx(mlp(*WIDTHS)), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    if not binding:
        return lambda obs: session.run(["action"], {name: obs[None]})
    held = np.zeros((1, WIDTHS[0]), np.float32)
    bound = session.io_binding()
    bound.bind_cpu_input(name, held)
    bound.bind_output("action")

    def act(obs: Array) -> Any:
        held[0] = obs
        session.run_with_iobinding(bound)
        return bound.get_outputs()

    return act


ENGINES: dict[str, Callable[[], Call]] = {
    "nimbleq-python": nimbleq,
    "onnxruntime": onnxruntime,
    "onnxruntime, bound": lambda: onnxruntime(binding=True),
}


def audit(call: Call, obs: Array, decisions: int) -> tuple[int, int]:
    """Allocations and locks of so many decisions."""
    library = ctypes.PyDLL(None)  # keeps the interpreter's lock, whose mutexes would be counted
    before, after = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * 2)()
    for _ in range(100):
        call(obs)
    library.audit_counts(before)
    os.getppid()
    for _ in range(decisions):
        call(obs)
    os.getppid()
    library.audit_counts(after)
    return after[0] - before[0], after[1] - before[1]


def times(call: Call, obs: Array, decisions: int) -> Array:
    """Nanoseconds of each."""
    found = np.empty(decisions)
    for index in range(decisions):
        start = perf_counter_ns()
        call(obs)
        found[index] = perf_counter_ns() - start
    return found


if __name__ == "__main__":
    act, obs = ENGINES[sys.argv[1]](), np.array([0.1, -0.2, 0.3, 0.05], np.float32)
    if sys.argv[2] == "audit":
        print(*audit(act, obs, int(sys.argv[3])), flush=True)
    else:
        sys.stdout.buffer.write(times(act, obs, int(sys.argv[3])).tobytes())
