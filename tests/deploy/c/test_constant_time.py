"""Code that passes over no zeros takes the same number of instructions for every observation."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbleq.deploy.decider import open_library
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, isas_of_this_machine
from nimbleq.deploy.toolchain import compile_library
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import UINT8, TensorType
from tests.deploy.nets import int_mlp, mlp

pytestmark = pytest.mark.skipif(
    shutil.which("valgrind") is None or shutil.which("gcc") is None or AVX2 not in isas_of_this_machine(),
    reason="needs valgrind, gcc and a processor with AVX2",
)
COUNT = 2500
"""Observations of one file; four files make 10,000."""
SCALES = (0.01, 3.0, 0.0, np.random.default_rng(1).exponential(size=(COUNT, 1)))
"""Of a file each: near, far, constant and mixed observations."""


def instructions(graph: Graph, folder: Path, skips: bool, scales: Sequence[Any] = SCALES) -> list[int]:
    """Of a whole program that decides `COUNT` times, for a file of each scale."""
    for file, text in emit_c(graph, "net", isas=(AVX2,), skips=skips).items():
        (folder / file).write_text(text)
    size = graph.obs_type.size
    (folder / "main.c").write_text(f"""
#include <stdio.h>
#include "net.h"
static float obs[{COUNT}][{size}];
int main(int argc, char **argv)
{{
    volatile int sink = argc;
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL || fread(obs, sizeof obs, 1, file) != 1) return 1;
    for (int i = 0; i < {COUNT}; ++i) sink += net_act(obs[i]);
    return 0;
}}
""")
    command = ["gcc", "-std=c99", "-O3", "-mavx2", "-mfma", "-mbmi2", "-o", "main", "main.c", "net.c"]
    subprocess.run(command, cwd=folder, check=True)
    counts, rng = [], np.random.default_rng(0)
    for index, scale in enumerate(scales):
        (rng.normal(size=(COUNT, size)) * scale).astype(np.float32).tofile(folder / f"{index}.bin")
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "./main", f"{index}.bin"]
        done = subprocess.run(tool, cwd=folder, capture_output=True, text=True, check=True)
        counts.append(int(re.findall(r"Collected : (\d+)", done.stderr)[0]))
    return counts


def test_floats_as_integers_choose_the_same_action(tmp_path: Path) -> None:
    values = [-3.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, 3e38, -3e38]
    obs = np.array([(a, b, c) for a in values for b in values for c in values], np.float32)
    clip = Node(ops.Activation("clip", low=-3e38, high=3e38), ("obs",), "q")
    nodes = (clip, Node(ops.ArgMax(), ("q",), "action"))
    eye = Graph({"obs": TensorType((3,))}, nodes, ("q", "action"), {})
    library = compile_library(emit_c(eye, skips=False), tmp_path / "net.so", "gcc")
    action, _ = open_library(library, "policy", eye, network_interface(eye)).run(obs)
    np.testing.assert_array_equal(action, obs.argmax(axis=1))


def test_masks_are_refused() -> None:
    graph = mlp(4, 8, 2)
    choice = Node(ops.ArgMax(), ("q", "mask"), "action")
    inputs = {**graph.inputs, "mask": TensorType((2,), UINT8)}
    masked = replace(graph, inputs=inputs, nodes=(*graph.nodes[:-1], choice))
    with pytest.raises(UnsupportedOpError, match="c cannot express the op ArgMax with a mask: export it without"):
        emit_c(masked, skips=False)


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(mlp(4, 64, 64, 5), id="float", marks=pytest.mark.long),
        pytest.param(int_mlp(4, 70, 96, 5), id="int8"),
    ],
)
def test_every_observation_takes_as_many_instructions(graph: Graph, tmp_path: Path) -> None:
    assert len(set(instructions(graph, tmp_path, skips=False))) == 1
    assert len(set(instructions(graph, tmp_path, skips=True, scales=SCALES[1:3]))) > 1
