"""A policy that remembers, on the command line: each verb works with its memory, or refuses in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nimbleq.deploy.runtime import Runtime
from tests.e2e.conftest import Cli
from tests.e2e.support import one_line

ENV = ("--env", "tests.rl.own_envs:Corridor")
SHORT = (
    "--network.memory", "6", "--network.hidden", "8", "--steps", "1200", "--envs", "4", "--learn-start", "100",
    "--replay.capacity", "4000", "--replay.burn-in", "2", "--replay.sequence", "4", "--learner.batch-size", "32",
    "--evaluation.every", "100", "--evaluation.episodes", "8", "--evaluation.final-episodes", "20",
)  # fmt: skip
BRIEF = ("--keep", "0.3", "--select-episodes", "20", "--max-episodes", "200", "--no-scratch")
REFUSED = {
    "a student": ("compress", "RUN", "--recipe", "students", *BRIEF),
    "a tree": ("compress", "RUN", "--passes", "tree=2", "distill", *BRIEF),
    "distillation": ("compress", "RUN", "--passes", "student=8", "distill", "int8", *BRIEF),
    "pruning": ("compress", "RUN", "--passes", "prune=0.5", "finetune", *BRIEF),
    "robust": ("robust", "SMALL"),
    "bench": ("bench", "SMALL"),
    "serve": ("serve", "SMALL", "--http-port", "0"),
    "guard": ("guard", "SMALL", "--fallback", "0"),
    "verilog": ("export", "SMALL", "--to", "verilog", "--out", "OTHER"),
    "wasm": ("export", "SMALL", "--to", "wasm", "--out", "OTHER"),
    "executorch": ("export", "SMALL", "--to", "executorch", "--out", "OTHER"),
    "litert": ("export", "SMALL", "--to", "litert", "--out", "OTHER"),
    "cortex-m4": ("export", "SMALL", "--to", "cortex-m4", "--out", "OTHER"),
    "transfer": ("train", *ENV, "--from", "RUN", "--out", "OTHER"),
}
