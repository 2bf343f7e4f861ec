"""Other people's compression of the same teachers, in a process of its own.

They may have an environment of their own, whose Python is ``NIMBLEQ_COMPRESSORS_PYTHON``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks.case import Context
from benchmarks.cases.compress.teachers import TEACHERS, run_of
from benchmarks.process import measure as in_process

EPISODES = 300
"""Played by a peer's policy and its teacher."""
PYTHON = os.environ.get("NIMBLEQ_COMPRESSORS_PYTHON", sys.executable)
ROWS = {
    "ONNX Runtime int8": ("ort-int8",),
    "NNCF int8": ("nncf-int8",),
    "Torch-Pruning 50 %": ("torch-pruning", "0.5"),
    "Torch-Pruning 75 %": ("torch-pruning", "0.75"),
    "Torch-Pruning 94 %": ("torch-pruning", "0.9375"),
    "torchao int8 weights": ("torchao", "int8"),
    "torchao int8 dynamic": ("torchao", "int8-dynamic"),
    "torchao int4 weights": ("torchao", "int4"),
}
"""Name → the compressor in `benchmarks.peers.compressors`, and its setting."""


def measure(teacher: str, peer: str, seed: int, context: Context) -> dict[str, Any]:
    """One peer's policy: what it costs and returns. Nothing certifies it."""
    words = ("--run", str(run_of(teacher, seed, context)), "--episodes", "20" if context.quick else str(EPISODES))
    teach = _distilling(TEACHERS[teacher].compress)
    return in_process("-m", "benchmarks.peers.compressors", *ROWS[peer], *words, *teach, python=PYTHON)


def _distilling(options: tuple[str, ...]) -> tuple[str, ...]:
    """Of the options of a method, those of its distillation, which peers get, too."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return tuple(word for pair in pairs if pair[0].startswith("--distill.") for word in pair)
