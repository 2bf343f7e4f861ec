"""What lies in the shared memory: one fixed record for a request and one for its answer, both numpy structures.

    request   deadline (ns of CLOCK_MONOTONIC, 0: none), values (0: q is not wanted), then the inputs of the `Signature`
              in its order
    answer    status (0: decided, else see `WHYS`), action, q where it was wanted, and for a refusal one line of text

Services of iceoryx2, request and response: ``nimbleq/NAME/POLICY`` for decisions; ``nimbleq/NAME`` answers any request
with a JSON object ``{POLICY: {"digest", "interface", "masked", "guarded"}}``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.serve.refusal import Why
from nimbleq.serve.signature import Signature
from nimbleq.types import Array

WHYS = tuple(Why)
"""Status ``1 + i`` means ``WHYS[i]``."""
TEXT_BYTES = 200
"""Of the line that explains a refusal."""
DESCRIPTION_BYTES = 1 << 20
"""Most of the JSON object."""


@dataclass(frozen=True)
class Records:
    """Attributes:
    request, answer: types of the two records, padded to whole words.
    """

    request: np.dtype[Any]
    answer: np.dtype[Any]

    @classmethod
    def of(cls, signature: Signature) -> Records:
        """For a policy."""
        inputs = [(f"input{index}", one.dtype, one.shape) for index, one in enumerate(signature.inputs)]
        outputs = [(one.name, one.dtype, one.shape) for one in signature.outputs]
        return cls(
            _padded([("deadline", "<u8"), ("values", "<u8"), *inputs]),
            _padded([("status", "<i8"), *outputs, ("text", f"S{TEXT_BYTES}")]),
        )


def _padded(fields: list[Any]) -> np.dtype[Any]:
    loose = np.dtype(fields, align=True)
    room = -loose.itemsize % 8
    return np.dtype([*fields, ("padding", "u1", (room,))], align=True) if room else loose


def words(dtype: np.dtype[Any]) -> type[ctypes.Array[Any]]:
    """The type that iceoryx2 is told: both sides agree on it, or the service does not open."""
    return ctypes.c_uint64 * (dtype.itemsize // 8)


DEADLINE, VALUES, STATUS = 0, 1, 0


class Buffer:
    """One record in the memory of this process, and views of its fields.

    Attributes:
        address, size: for copies.
        fields: name → view ``[*shape]``.
        words: ``uint64[size / 8]`` the record; `DEADLINE` and `VALUES` are places of a request, `STATUS` of an answer.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.words = np.zeros(dtype.itemsize // 8, np.uint64)
        record = self.words.view(dtype)
        self.address, self.size = self.words.ctypes.data, dtype.itemsize
        self.fields: dict[str, Array] = {
            name: record[name][0, ...] for name in dtype.names or () if name not in ("padding",)
        }


def inputs(buffer: Buffer, signature: Signature) -> dict[str, Array]:
    """Views of the inputs in a request, by their own names."""
    return {tensor.name: buffer.fields[f"input{index}"] for index, tensor in enumerate(signature.inputs)}
