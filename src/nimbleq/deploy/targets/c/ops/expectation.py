"""Expectation of a softmax over a support."""

from __future__ import annotations

from nimbleq.deploy.targets.c.ops.layer import Layer


def expectation(layer: Layer) -> list[str]:
    """Lines of an Expectation."""
    layer.use("expectation")
    support = layer.weight(layer.op.support)
    z, atoms = layer.constant("support", support, near=True), len(support)
    call = f"nq_expectation({layer.x} + a * {atoms}, {z}, {atoms})"
    return [f"for (int a = 0; a < {layer.count}; ++a) {layer.y}[a] = {call};"]
