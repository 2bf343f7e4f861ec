"""Golden vectors as C: a function that tries them where the policy lives, and says the result in one line."""

from __future__ import annotations

import numpy as np

from nimbleq.deploy.agreement import is_integer, tolerance
from nimbleq.deploy.periods import clear_of_rounding
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.c import text
from nimbleq.deploy.targets.c.raw_vectors import RawVectors
from nimbleq.graph.branches import parts
from nimbleq.graph.golden import Golden
from nimbleq.graph.guard_state import GuardState
from nimbleq.types import Array

MOST, MOST_BYTES = 16, 2048
"""Golden vectors of a self-test, and bytes of their observations: they lie in flash."""
LINE = 120
"""Bytes of the line, its end included."""


def selftest(source: Source, name: str, raw: bool = False) -> dict[str, str]:
    """``<name>_selftest.c`` and ``.h``; nothing without golden vectors.

    A policy of floats rounds by itself: its vectors are those whose best action is clear, and the action values may
    differ by `tolerance`.

    Args:
        raw: whether `emit_raw`'s files are there, so that observations are tried as the environment gives them.
    """
    if source.golden is None or source.graph.units:  # of a policy that remembers, the vectors belong together
        return {}
    exact = is_integer(source.graph)
    golden = _few(source, source.golden, exact)
    if not len(golden.obs):
        return {}
    tried = RawVectors.of(source, golden) if raw else None
    golden = golden if tried is None else tried.golden
    masked, real = golden.mask is not None, not source.graph.obs_type.qtype.is_integer
    element = "float" if real else "uint8_t"
    limit = 0.0 if exact else float(tolerance(golden.q).max(initial=1e-4))
    arrays = [
        *([text.array("observations", golden.obs, False)] if tried is None else tried.arrays),
        *([] if golden.mask is None else [text.array("masks", golden.mask, False)]),
        text.array("actions", golden.action.astype(np.int16 if source.graph.choices <= 1 << 15 else np.int32), False),
        text.array("values", golden.q, False),
        *([] if source.guard is None else [text.array("guarded", _guarded(source, golden), False)]),
    ]
    legal = f", masks + i * {name.upper()}_ACTIONS" if masked else ""
    if tried is None:
        lines = [
            f"const {element} *const observation = observations + i * {name.upper()}_OBS_SIZE;",
            f"const int action = {name}_{'act_masked' if masked else 'act'}(observation{legal});",
        ]
    else:
        lines = tried.lines(name, legal)
    begin, behind = _behind(name, legal, masked) if source.guard is not None else ("", "")
    kind = "golden vectors" if source.guard is None else "guarded golden vectors"
    who = f"{name} {source.digest[:12]}".strip()
    same = "same_bits(q[a], want[a])" if exact else f"q[a] - want[a] <= {limit:.9g}f && want[a] - q[a] <= {limit:.9g}f"
    note = "bit for bit" if exact else f"action values within {limit:.3g}"
    if source.guard is not None:
        note += (
            "; and behind the guard: action and faults,\n   as the first of an episode, and when nothing comes after it"
        )
    headers = [f"{name}{'' if tried is None else '_raw'}.h", *([] if tried is None else [f"{name}.h"])]
    headers += [] if source.guard is None else [f"{name}_guard.h"]
    includes = "".join(f'#include "{file}"\n' for file in headers)
    code = f"""/* Golden vectors of {text.comment_safe(who)}: {len(golden.obs)} observations
   and the reference's answers, {note}. */
#include "{name}_selftest.h"

{includes}
{chr(10).join(arrays)}
{_SAME_BITS if exact else ""}static char *put_text(char *to, const char *from)
{{
    while (*from) *to++ = *from++;
    return to;
}}

static char *put_number(char *to, unsigned int number)
{{
    char digits[10];
    int count = 0;
    do {{
        digits[count++] = (char)('0' + number % 10u);
        number /= 10u;
    }} while (number > 0);
    while (count > 0) *to++ = digits[--count];
    return to;
}}

int {name}_selftest(char *line)
{{
    int wrong = 0;
{begin}    for (int i = 0; i < {len(golden.obs)}; ++i) {{
{chr(10).join(f"        {line}" for line in lines)}
        const float *const want = values + i * {name.upper()}_ACTIONS;
        float q[{name.upper()}_ACTIONS];
        int good = action == actions[i] && {name}_q(observation, q) == 0;
        for (int a = 0; good && a < {name.upper()}_ACTIONS; ++a) good = {same};
{behind}        wrong += !good;
    }}
    char *to = put_text(line, "{text.comment_safe(who)}: {len(golden.obs)} {kind}, ");
    to = put_number(to, (unsigned int)wrong);
    *put_text(to, " mismatches") = 0;
    return wrong;
}}
"""
    return {f"{name}_selftest.c": code, f"{name}_selftest.h": _header(name)}


_SAME_BITS = """static int same_bits(float one, float other)
{
    union { float real; uint32_t bits; } a, b;
    a.real = one;
    b.real = other;
    return a.bits == b.bits;
}

"""


def _header(name: str) -> str:
    upper = name.upper()
    return f"""#ifndef NIMBLEQ_{upper}_SELFTEST_H
#define NIMBLEQ_{upper}_SELFTEST_H

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_SELFTEST_LINE {LINE}

/* Try the golden vectors: how many the policy answers otherwise than the reference; says so in `line`. */
int {name}_selftest(char *line);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _guarded(source: Source, golden: Golden) -> Array:
    """``int16[N, 4]`` action and faults of the guard, of each observation and of none after it."""
    assert source.guard is not None
    count = len(golden.obs)
    state, rows = GuardState(source.guard, source.graph, count), np.arange(count)
    mask = None if golden.mask is None else golden.mask != 0
    first = state.step(rows, golden.obs, np.ones(count, bool), mask)
    none = state.step(rows, golden.obs, np.zeros(count, bool))
    return np.stack([*first, *none], axis=1).astype(np.int16)


def _behind(name: str, legal: str, masked: bool) -> tuple[str, str]:
    """C that declares a guard, and that tries it on ``observation``."""
    begin = f"    {name}_guard guard;\n    {name}_guard_init(&guard);\n"
    calls = []
    for at, given in ((0, f"observation{legal}"), (2, "0, 0" if masked else "0")):
        calls += [
            f"good = good && {name}_guard_act(&guard, {given}) == want_guarded[{at}]",
            f"    && guard.faults == (uint32_t)want_guarded[{at + 1}];",
        ]
    lines = ["const int16_t *const want_guarded = guarded + i * 4;", f"{name}_guard_reset(&guard);", *calls]
    return begin, "".join(f"        {line}\n" for line in lines)


def _gap(q: Array) -> Array:
    """``[N]`` between the best two."""
    best = np.sort(q, axis=1)
    return best[:, -1] - best[:, -2] if best.shape[1] > 1 else np.full(len(best), np.inf)


def _few(source: Source, golden: Golden, exact: bool) -> Golden:
    """The first that fit; for floats of those whose best action no rounding changes."""
    legal = golden.q if golden.mask is None else np.where(golden.mask != 0, golden.q, -np.inf)
    gap = np.min([_gap(legal[:, part]) for part in parts(source.graph.branches or legal.shape[1:])], axis=0)
    clear = np.flatnonzero((gap > 4 * tolerance(golden.q)[:, 0]) | exact)
    count = max(1, min(MOST, MOST_BYTES // max(golden.obs[0].nbytes, 1)))
    if source.guard is not None:
        clear = clear[clear_of_rounding(source.graph, source.guard, golden.obs[clear])]
    take = clear[:count]
    return Golden(
        golden.obs[take], golden.q[take], golden.action[take], None if golden.mask is None else golden.mask[take]
    )
