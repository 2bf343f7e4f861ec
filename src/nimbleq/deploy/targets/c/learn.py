"""A policy that goes on learning where it runs: stream Q(λ) [2410.14606] in C, ``NAME_learn.c`` beside the policy.

It is the code that `nimbleq train --preset stream` trains with (native/kernels/stream.h), started from the weights of
the policy: no allocation, no libm, no replay; a step costs about four decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.emit import needs_int
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.tensor import FLOAT32
from nimbleq.types import Array


@dataclass(frozen=True)
class LearnOptions:
    """How the emitted learner learns; see `nimbleq.config.StreamConfig`.

    Attributes:
        gamma: discount of a step (none given: as the run of the artefact learnt; likewise the next three).
        decay: λ of the traces.
        step: step size where no bound is met.
        bound: κ.
        epsilon: share of random actions.
        observations: that the statistics of the policy stand for: fewer are sooner forgotten.
    """

    gamma: float | None = None
    decay: float | None = None
    step: float | None = None
    bound: float | None = None
    epsilon: float = 0.01
    observations: int = 100_000


@dataclass(frozen=True)
class Start:
    """What is learnt from on, read off a graph.

    Attributes:
        widths: of the observation, the hidden layers and the action values.
        normalises, layer_norm, clip: as in native/kernels/stream.h.
        mean, variance: of observations.
        weights: of all layers, as that file lays them out.
    """

    widths: tuple[int, ...]
    normalises: bool
    layer_norm: bool
    clip: float
    mean: Array
    variance: Array
    weights: Array


def start_of(graph: Graph) -> Start:
    """The network of ``graph``.

    Raises:
        UnsupportedOpError: it is not ``normalise → (Linear → [LayerNorm →] ReLU)* → Linear`` of floats.
    """
    kind = graph.obs_type
    if kind.qtype != FLOAT32 or len(kind.shape) != 1:
        raise _refused(f"a {kind} observation")
    scale, shift, clip = np.ones(kind.size), np.zeros(kind.size), np.inf
    widths, parts, norms, normalises = [kind.size], list[Array](), list[bool](), False
    relu, tensor = True, graph.obs_name
    for node in graph.nodes:
        if isinstance(node.op, ops.Choice):
            continue
        if node.inputs != (tensor,):
            raise _refused("layers side by side")
        match node.op:
            case ops.Affine() if not parts and np.isinf(clip):
                gain, offset = (graph.weights[name].astype(np.float64) for name in (node.op.scale, node.op.shift))
                scale, shift, normalises = scale * gain, shift * gain + offset, True
            case ops.Activation(function="clip") if not parts and -node.op.low == node.op.high:
                clip = node.op.high
            case ops.Flatten():
                pass
            case ops.Linear() if relu and graph.weights[node.op.weight].dtype == np.float32:
                weight = graph.weights[node.op.weight]
                bias = np.zeros(len(weight)) if node.op.bias is None else graph.weights[node.op.bias]
                parts += [weight.T.reshape(-1), bias]
                widths.append(len(weight))
                norms.append(False)
                relu = False
            case ops.LayerNorm(weight=None, bias=None, eps=1e-5) if not relu and not norms[-1]:
                norms[-1] = True
            case ops.Activation(function="relu") if not relu:
                relu = True
            case _:
                raise _refused(node.op.kind)
        tensor = node.output
    if tensor != Q or relu or norms[-1] or len(set(norms[:-1])) > 1:
        raise _refused("these layers in this order")
    varies = scale > 0
    if normalises and (scale < 0).any():
        raise _refused("an observation that is turned round")
    return Start(
        widths=tuple(widths),
        normalises=normalises,
        layer_norm=any(norms),
        clip=float(min(clip, 1e30)),
        mean=np.where(varies, -shift / np.where(varies, scale, 1), 0).astype(np.float32),
        variance=np.where(varies, 1 / np.square(np.where(varies, scale, 1)), 0).astype(np.float32),
        weights=np.concatenate(parts).astype(np.float32),
    )


def _refused(what: str) -> UnsupportedOpError:
    return UnsupportedOpError(
        what, "c.learn", "it learns fully connected float networks of nimbleq train --preset stream"
    )


_HOLDS: Mapping[str, Callable[[float], bool]] = {
    "gamma": lambda value: 0 <= value <= 1,
    "decay": lambda value: 0 <= value <= 1,
    "step": lambda value: value > 0,
    "bound": lambda value: value > 0,
    "epsilon": lambda value: 0 <= value <= 1,
    "observations": lambda value: 0 <= value <= 1 << 24,
}
"""Option → whether a learner can have that value."""


def emit_learn(graph: Graph, name: str, options: LearnOptions) -> dict[str, str]:
    """``{"<name>_learn.c": text, "<name>_learn.h": text}``.

    Raises:
        UnsupportedOpError: see `start_of`.
        ConfigError: an option is out of range, or neither given nor known from a run.
    """
    for field, holds in _HOLDS.items():
        value = getattr(options, field)
        if value is None:
            raise ConfigError(f"no run of --preset stream says how this policy learnt: give --c.learning.{field}, too")
        if not holds(value):
            raise ConfigError(f"--c.learning.{field} cannot be {value}")
    start = start_of(graph)
    made = {"c": _source(graph, start, options), "h": _header(graph, start)}
    return {
        f"{name}_learn.{ending}": c_text.renamed(text, name).replace("_NQ_LEARN_H", f"_{name.upper()}_LEARN_H")
        for ending, text in made.items()
    }


def _sizes(start: Start) -> tuple[int, int]:
    """Floats of state and of scratch."""
    size, widths = start.widths[0], start.widths
    return 5 + 2 * size + 2 * len(start.weights), 2 * size + sum(2 * w + 1 for w in widths[1:]) + 2 * max(widths)


def _header(graph: Graph, start: Start) -> str:
    state, work = _sizes(start)
    given, later = (", const uint8_t *legal", ", const uint8_t *next_legal") if graph.masked else ("", "")
    masked = "\n   `legal` and `next_legal`: not 0 where an action is legal." if graph.masked else ""
    return f"""/* The policy goes on learning: stream Q(lambda) [2410.14606], one update for every step, no replay.

   static nq_learner learner;
   nq_learn_start(&learner, seed);
   for each episode:
       action = nq_learn_begin(&learner, obs);
       while it lasts: act, then action = nq_learn_step(&learner, reward, obs, terminated, truncated);

   No allocation, no library, no static variables; {4 * (state + work)} bytes in the caller's hands.{masked} */
#ifndef NIMBLEQ_NQ_LEARN_H
#define NIMBLEQ_NQ_LEARN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

typedef struct {{
    float state[{state}]; /* statistics, weights, traces: to keep what is learnt, keep these */
    float work[{work}];
    float obs[{start.widths[0]}];
    float epsilon;        /* share of random actions; yours to change */
    uint32_t random;
    int32_t action;
    uint8_t legal[{graph.actions}];
}} nq_learner;

/* What was exported; nothing has been learnt since. */
void nq_learn_start(nq_learner *learner, uint32_t seed);

/* An episode begins: the action for its first observation, or -1 when that is not finite. */
int nq_learn_begin(nq_learner *learner, const float *obs{given});

/* What the last action led to: learn from that, and the action for `obs`. A step with a value that is not finite is not
   learnt from, and the answer is -1; after the end of an episode the answer means nothing. */
int nq_learn_step(
    nq_learner *learner, float reward, const float *obs, int terminated, int truncated{later});

/* The best action by what has been learnt so far, or -1; nothing is learnt. */
int nq_learn_act(nq_learner *learner, const float *obs{given});

/* One update by itself, from any step; the TD error before it. */
float nq_learn_update(
    nq_learner *learner, const float *obs, int action, float reward, int terminated, int truncated,
    const float *next_obs{given}{later});

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(graph: Graph, start: Start, options: LearnOptions) -> str:
    state, _ = _sizes(start)
    size, actions, widths = start.widths[0], graph.actions, start.widths
    given, later = (", const uint8_t *legal", ", const uint8_t *next_legal") if graph.masked else ("", "")
    legal, next_legal = ("legal", "next_legal") if graph.masked else ("NULL", "NULL")
    held = "learner->legal" if graph.masked else "NULL"
    keep = f"    for (int a = 0; a < {actions}; ++a) learner->legal[a] = {legal}[a];\n" if graph.masked else ""
    keep_next = keep.replace("= legal[a]", "= next_legal[a]")
    numbers = ", ".join(map(str, widths))
    how = cast(tuple[float, ...], (start.clip, options.gamma, options.decay, options.step, options.bound))
    settings = ", ".join(
        [
            f"nq_widths, {len(widths) - 1}, {int(start.normalises)}, {int(start.layer_norm)}",
            *map(c_text.number, how),
        ]
    )
    return f"""/* Stream Q(lambda): see nq_learn.h. */
#include "nq_learn.h"

#include <stddef.h>
{needs_int(state)}
{c_text.kernels({"finite", "stream"})}
static const int nq_widths[{len(widths)}] = {{{numbers}}};
static const nq_stream nq_net = {{{settings}}};
{c_text.array("nq_start_mean", start.mean, False)}
{c_text.array("nq_start_variance", start.variance, False)}
{c_text.array("nq_start_weights", start.weights, False)}
/* 0 up to, but without, `count`, from a generator of 32 bits (Steele & Vigna's mixing of a counter). */
static uint32_t nq_draw(nq_learner *learner, const uint32_t count)
{{
    uint32_t z = learner->random += 0x9e3779b9u;
    z = (z ^ (z >> 16)) * 0x21f0aaadu;
    z = (z ^ (z >> 15)) * 0x735a2d97u;
    z ^= z >> 15;
    return (uint32_t)(((uint64_t)z * count) >> 32);
}}

void nq_learn_start(nq_learner *learner, uint32_t seed)
{{
    float *const weights = learner->state + {5 + 2 * size};
    for (int i = 0; i < {state}; ++i) learner->state[i] = 0.0f;
    learner->state[0] = {c_text.number(float(options.observations))};
    for (int i = 0; i < {size}; ++i) {{
        learner->state[1 + i] = nq_start_mean[i];
        learner->state[{1 + size} + i] = nq_start_variance[i];
    }}
    for (int i = 0; i < {len(start.weights)}; ++i) weights[i] = nq_start_weights[i];
    learner->epsilon = {c_text.number(options.epsilon)};
    learner->random = seed;
    learner->action = -1;
}}

int nq_learn_act(nq_learner *learner, const float *obs{given})
{{
    if (!nq_finite(obs, {size})) return -1;
    nq_stream_normal(&nq_net, learner->state, obs, learner->work);
    const float *const q =
        nq_stream_forward(&nq_net, learner->state + {5 + 2 * size}, learner->work, learner->work + {2 * size});
    return nq_stream_best(q, {legal}, {actions});
}}

/* The next action, which explores. */
static int nq_choose(nq_learner *learner)
{{
    const uint32_t share = (uint32_t)(learner->epsilon * 65536.0f);
    if (nq_draw(learner, 65536) >= share)
        return learner->action = nq_learn_act(learner, learner->obs{f", {held}" if graph.masked else ""});
    int left = 0;
    for (int a = 0; a < {actions}; ++a) left += {"learner->legal[a] != 0" if graph.masked else "1"};
    if (left == 0) return learner->action = -1;
    left = (int)nq_draw(learner, (uint32_t)left);
    for (int a = 0; a < {actions}; ++a)
        if ({"learner->legal[a] && " if graph.masked else ""}left-- == 0) return learner->action = a;
    return learner->action = -1;
}}

int nq_learn_begin(nq_learner *learner, const float *obs{given})
{{
    learner->action = -1;
    if (!nq_finite(obs, {size})) return -1;
    for (int i = 0; i < {size}; ++i) learner->obs[i] = obs[i];
{keep}    return nq_choose(learner);
}}

int nq_learn_step(
    nq_learner *learner, float reward, const float *obs, int terminated, int truncated{later})
{{
    if (!nq_finite(obs, {size}) || !nq_finite(&reward, 1)) {{
        learner->action = -1;
        return -1;
    }}
    if (learner->action >= 0)
        nq_learn_update(
            learner, learner->obs, learner->action, reward, terminated, truncated, obs{
        f", {held}, next_legal" if graph.masked else ""
    });
    for (int i = 0; i < {size}; ++i) learner->obs[i] = obs[i];
{keep_next}    return nq_choose(learner);
}}

float nq_learn_update(
    nq_learner *learner, const float *obs, int action, float reward, int terminated, int truncated,
    const float *next_obs{given}{later})
{{
    return nq_stream_learn(
        &nq_net, learner->state, learner->work, obs, action, reward, terminated, terminated || truncated, next_obs,
        {legal}, {next_legal});
}}
"""
