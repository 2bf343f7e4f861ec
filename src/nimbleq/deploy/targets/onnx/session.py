"""Running an ONNX policy with ONNX Runtime, on one thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.errors import FileError, NimbleqError
from nimbleq.files import read_bytes
from nimbleq.graph.graph import ACTION, MASK, NEXT_STATE, STATE, Q
from nimbleq.types import Array


@dataclass(frozen=True)
class OnnxPolicy:
    """A loaded model; see `load_onnx_policy`.

    Attributes:
        session: the ``onnxruntime.InferenceSession``.
        input_name: of the observation.
        shape: one observation ``*O``.
        dtype: what the model takes, ``uint8`` or ``float32``.
        outputs: which of ``q`` and ``action`` it gives.
        masked: whether it takes a mask.
        units: numbers that it remembers; 0: none.
    """

    session: Any
    input_name: str
    shape: tuple[int, ...]
    dtype: Any
    outputs: tuple[str, ...] = (Q, ACTION)
    masked: bool = False
    units: int = 0

    def __call__(self, obs: Array, mask: Array | None = None, state: Array | None = None) -> dict[str, Array]:
        """``obs[B, *O]``, and ``mask[B, A]`` for a masked policy → ``{"q": float32[B, A], "action": int32[B]}``.

        A policy that remembers takes ``state: float32[B, H]``, too, and gives ``next_state`` beside.

        Raises:
            NimbleqError: the observations have another shape.
        """
        if obs.shape[1:] != self.shape:
            raise NimbleqError(
                f"the ONNX model takes observations (B, {', '.join(map(str, self.shape))}), got {obs.shape}"
            )
        feed = {self.input_name: np.ascontiguousarray(obs, self.dtype)}
        if self.masked and mask is None:
            raise NimbleqError("this policy needs the masks of the legal actions beside the observations")
        if self.units:
            feed[STATE] = np.ascontiguousarray(state, np.float32)
        if self.masked:
            feed[MASK] = np.ascontiguousarray(mask, np.bool_)
        names = [*self.outputs, *([NEXT_STATE] if self.units else [])]
        answers = dict(zip(names, self.session.run(names, feed), strict=True))
        return {name: value.astype(np.int32) if name == ACTION else value for name, value in answers.items()}


def load_onnx_policy(model: bytes | Path) -> OnnxPolicy:
    """Load a model that `emit_onnx` made, for the CPU and one thread.

    Raises:
        NimbleqError: onnxruntime is not installed.
        FileError: ``model`` is missing, or is not a policy in ONNX.
    """
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError:
        raise NimbleqError("running ONNX models needs onnxruntime: pip install 'nimbleq[onnx]'") from None
    what = str(model) if isinstance(model, Path) else "the ONNX model"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Without it 8-bit kernels saturate sums of pairs at 16 bits on x86 processors without VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(
            read_bytes(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
        )
    except (
        states.InvalidProtobuf,
        states.InvalidGraph,
        states.InvalidArgument,
        states.Fail,
        states.NotImplemented,
    ) as error:
        raise FileError(f"{what} is not a model that ONNX Runtime can run: {str(error).splitlines()[0]}") from error
    given = {value.name: value for value in session.get_inputs()}
    inputs = [value for name, value in given.items() if name not in (MASK, STATE)]
    outputs = tuple(output.name for output in session.get_outputs() if output.name in (Q, ACTION))
    if len(inputs) != 1 or not outputs:
        found = sorted(output.name for output in session.get_outputs())
        raise FileError(f"{what} is not a policy: it needs one observation and the outputs q or action, it has {found}")
    dtypes = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    return OnnxPolicy(
        session,
        inputs[0].name,
        tuple(inputs[0].shape[1:]),
        dtypes.get(inputs[0].type, np.float32),
        outputs,
        MASK in given,
        int(given[STATE].shape[1]) if STATE in given else 0,
    )
