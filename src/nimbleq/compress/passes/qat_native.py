"""Quantization-aware training in C, of fully connected students."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nimbleq.compress.passes.chain import Chain, as_chain
from nimbleq.compress.passes.fit_native import NativeStudent, extension, train, why_not_native
from nimbleq.compress.passes.qat_start import Rounded
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets
from nimbleq.compress.quantize.plan import TOP, FromSums
from nimbleq.graph.graph import Graph
from nimbleq.graph.interpret import trace
from nimbleq.types import Array, Tick, no_tick

_CHUNK = 4096


def why_not_native_qat(graph: Graph, net: Rounded) -> str | None:
    """Why the native engine cannot train this network, in words for a person; None when it can."""
    first, *others = net.layers.values()
    if any(not isinstance(layer.form, FromSums) or layer.form.levels.zero_point != 0 for layer in others):
        return "an activation goes negative"
    if isinstance(first.form, FromSums):
        return "the first layer does not read the observation"
    return why_not_native(graph)


def native_qat(
    graph: Graph,
    net: Rounded,
    integer: Graph,
    targets: Targets,
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    frozen_from: int,
    powers_of_two: bool = False,
    tick: Tick = no_tick,
) -> Rounded:
    """See `nimbleq.compress.passes.qat.learn`."""
    student = native_student(graph, net, config, powers_of_two)
    inputs = first_inputs(integer, net, targets.obs)
    if inputs.dtype != np.uint8:
        inputs = student.padded(inputs)
    train(student, targets, config, updates, lr, seed, tick, inputs, frozen_from)
    return _learnt(net, student, powers_of_two)


def native_student(graph: Graph, net: Rounded, config: DistillConfig, powers_of_two: bool) -> NativeStudent:
    """``net`` in the memory of the engine."""
    chain, core = as_chain(graph), extension()
    assert isinstance(chain, Chain)
    assert core is not None
    layers = list(net.layers.values())
    rounding: dict[str, Any] = {
        "quantized": True, "powers_of_two": powers_of_two, "low": tuple(layer.low for layer in layers),
        "high": tuple(layer.high for layer in layers), "shared": tuple(len(layer.step) == 1 for layer in layers),
        "top": (TOP,) * len(layers),
    }  # fmt: skip
    first = layers[0]
    size = len(chain.scale)
    scale, zero = (np.broadcast_to(part.reshape(-1), size) for part in (first.scale, first.zero_point))
    chain = replace(chain, scale=scale.astype(np.float32), shift=(-scale * zero).astype(np.float32))
    student = NativeStudent(core, graph, chain, config.max_grad_norm, **rounding)
    for index, layer in enumerate(layers):
        student.weights[layer.weight][:] = layer.values
        student.weights[layer.bias][:] = layer.offsets
        student.weight_steps[index][: len(layer.step)] = np.log2(layer.step)
        if index > 0:
            student.input_steps[index][:] = np.log2(net.activations[layer.tensor].levels.scale)
    gain = np.broadcast_to(first.gain.reshape(-1), size)
    student.gains[0][:size] = np.where(gain > 0, gain, 1)  # an input that is always 0 has no weights
    return student


def first_inputs(integer: Graph, net: Rounded, obs: Array) -> Array:
    """What the first layer reads of ``obs [K, *O]``: ``float32[K, O]`` rounded, without its offset; or bytes."""
    first = next(iter(net.layers.values()))
    if first.form is None:
        return np.ascontiguousarray(obs.reshape(len(obs), -1), np.uint8)
    parts = [trace(integer, obs[i : i + _CHUNK])[first.stored] for i in range(0, len(obs), _CHUNK)]
    levels = np.concatenate(parts).reshape(len(obs), -1)
    scale, zero = (np.ravel(part) for part in (first.scale, first.zero_point))
    values: Array = (scale * (levels - zero)).astype(np.float32)
    return values


def _learnt(net: Rounded, student: NativeStudent, powers_of_two: bool) -> Rounded:
    def size(log2: Array) -> Array:
        log2 = log2.astype(np.float64)
        return np.exp2(np.ceil(log2) if powers_of_two else log2)

    layers, activations = {}, {}
    for index, (name, layer) in enumerate(net.layers.items()):
        values, offsets = (student.weights[key].copy() for key in (layer.weight, layer.bias))
        step = size(student.weight_steps[index][: len(layer.step)])
        layers[name] = replace(layer, values=values, offsets=offsets, step=step)
        if index > 0:
            form = net.activations[layer.tensor]
            levels = replace(form.levels, scale=size(student.input_steps[index][0]))
            activations[layer.tensor] = replace(form, levels=levels)
    return replace(net, layers=layers, activations=activations)
