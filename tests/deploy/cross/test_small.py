"""Firmware of the smallest policies: small weights lie unpacked where code that unpacks them would take more flash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.deploy.verify import verify
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.encodings import ENCODINGS
from nimbleq.graph.formats import Int, Power, Scaled
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import TensorType
from nimbleq.graph.weight import Storage
from tests.deploy.nets import int_mlp
from tests.strategies import random_obs

FLOOR_BYTES = 250
"""Of flash: the policy with its code and the mark by which `nimbleq identify` knows it."""


def cart_pole() -> Graph:
    """What direct search finds for CartPole: four levels, three 4-bit weights that are not zero, 7 bytes."""
    weights = {
        "exponent": np.array([32, 128, 2048, 128], np.float32),
        "weight": np.array([[0, 0, 0, 0], [0, 1, 2, 7]], np.int8),
        "bias": np.array([0, 48], np.int32),
    }
    nodes = (
        Node(ops.Quantize("exponent", None, 8, True), ("obs",), "levels"),
        Node(ops.Linear("weight", "bias"), ("levels",), "sums"),
        Node(ops.ArgMax(), ("sums",), "action"),
        Node(ops.Dequantize(None, None), ("sums",), "q"),
    )
    graph = Graph({"obs": TensorType((4,))}, nodes, ("q", "action"), weights)
    return graph.with_storage({
        "exponent": Storage(Power(4, -3)),
        "weight": Storage(Int(4, True), ENCODINGS["bitmap"]),
        "bias": Storage(Scaled(6, 4)),
    })  # fmt: skip


@pytest.mark.parametrize("target", ["cortex-m4", pytest.param("avr", marks=pytest.mark.targets)])
def test_the_interpreters_integers(target: str, tmp_path: Path) -> None:
    row, graph = TARGETS[target], cart_pole()
    if why := row.cannot_open():
        pytest.skip(why)
    obs = np.concatenate(
        [random_obs(np.random.default_rng(0), graph, 100), np.float32([[0.75, -0.75, 0.5, -0.5]]) / 128]
    )
    golden = make_golden(graph, obs)
    files = row.emit(Source(graph), "policy", row.options())
    assert b"_code(" not in files[f"{target}/policy.c"]
    result = verify(graph, golden, row.open(Source(graph), files, "policy", tmp_path), observations=400)
    assert result.checked == 501
    assert result.mismatches == 0


def test_the_flash_of_a_cortex_m4(tmp_path: Path) -> None:
    row, graph = TARGETS["cortex-m4"], cart_pole()
    if why := row.cannot_open():
        pytest.skip(why)
    assert row.footprint is not None
    found = row.footprint(graph, None, random_obs(np.random.default_rng(0), graph, 8), tmp_path)
    assert found.text_bytes <= FLOOR_BYTES
    assert found.stack_bytes is not None
    assert found.stack_bytes <= 64


@pytest.mark.targets
def test_an_avr_reads_constants_from_flash(tmp_path: Path) -> None:
    row, graph = TARGETS["avr"], int_mlp(4, 64, 64, 2)
    if why := row.cannot_open():
        pytest.skip(why)
    assert row.footprint is not None
    found = row.footprint(graph, None, random_obs(np.random.default_rng(0), graph, 8), tmp_path)
    assert found.text_bytes + found.data_bytes > 4480  # its weights
    assert found.ram_bytes < 300
    with pytest.raises(UnsupportedOpError, match="30,000"):
        row.emit(Source(int_mlp(4, 128, 250, 2)), "policy", row.options())


def test_packed_weights_are_said_in_a_comment() -> None:
    text = emit_c(cart_pole(), isas=(PORTABLE,))["policy.c"]
    assert "/* int4, packed: 1, 2, 7 */\nstatic const uint8_t policy_sums_weight[2] = {\n    33,7,\n};" in text
    assert "\n\n\n" not in text
