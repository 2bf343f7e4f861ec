"""The guard of a policy in C: ``NAME_guard.c`` beside ``NAME.c``, and a C file for each network that the guard asks.

Its verdicts and actions are those of `nimbleq.graph.guard_state`, period by period.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.emit import emit_c, needs_int
from nimbleq.deploy.targets.c.entries import mask_member
from nimbleq.deploy.targets.c.isa import ISAS, Isa
from nimbleq.deploy.targets.c.layout import c_type
from nimbleq.deploy.targets.c.raw import action_type, has_action, has_raw
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import COUNTERS, FAULTS, MAX_AGE, VECTORS, Guard, describe_guard
from nimbleq.graph.interface import Interface


def emit_guard(
    graph: Graph, name: str, guard: Guard | None, interface: Interface | None = None, source: str = "",
    digest: str = "", isas: Sequence[Isa] = ISAS,
) -> dict[str, str]:  # fmt: skip
    """``{"<name>_guard.c": text, "<name>_guard.h": text}`` and the guard's networks; nothing without a guard."""
    if guard is None:
        return {}
    texts: dict[str, str] = {}
    for part, network in (("larger", guard.larger), ("backup", guard.backup)):
        if network is not None:
            texts |= emit_c(network, f"{name}_{part}", source, isas=isas, digest=digest)
    raw = interface if has_raw(interface) else None
    made = {"c": _source(graph, guard, raw, any(isa.flash for isa in isas)), "h": _header(graph, guard, raw)}
    for ending, text in made.items():
        named = c_text.renamed(text, name).replace('"nq', f'"{name}').replace("_NQ_GUARD_H", f"_{name.upper()}_GUARD_H")
        texts[f"{name}_guard.{ending}"] = named
    return texts


def guard_bytes(graph: Graph, guard: Guard) -> int:
    """What the guard takes of memory that holds constants, too: its state, its envelope and the legal actions."""
    size, actions, envelope = graph.obs_type.size, graph.actions, guard.envelope is not None
    state = 4 * (len(COUNTERS) + 4) + 2 + actions
    vectors = len(VECTORS) + 3 if envelope else 1 if guard.backup is not None else 0  # and last, seen, run
    return state + actions + 4 * size * vectors


def guard_files(files: Collection[str], name: str) -> list[str]:
    """Those of ``files`` that `emit_guard` wrote."""
    stems = [f"{name}_{part}" for part in ("guard", "larger", "backup")]
    return [file for file in files if file.rpartition(".")[0] in stems]


def _mask(graph: Graph, raw: Interface | None = None) -> tuple[str, str]:
    """The mask as a parameter and as an argument; neither where there is none."""
    return (", const uint8_t *mask", ", mask") if graph.masked and not (raw and mask_member(raw)) else ("", "")


def _act_raw(graph: Graph, raw: Interface) -> str:
    action = f", {action_type(raw)} *action" if has_action(raw) else ""
    return f"int nq_guard_act_raw(nq_guard *guard, nq_state *state, const nq_raw *raw{_mask(graph, raw)[0]}{action})"


def _members(graph: Graph, guard: Guard) -> list[str]:
    element, size = c_type(graph.obs_type), graph.obs_type.size
    members = [("uint32_t", f"counts[{len(COUNTERS)}]", "see NQ_GUARD_COUNTS; they wrap around")]
    members.append(("uint32_t", "faults", "of the last period; see NQ_FAULT_"))
    if guard.envelope is not None or guard.backup is not None:
        members.append((element, f"last[{size}]", "the last observation that was let through"))
    if guard.envelope is not None:
        members.append((element, f"seen[{size}]", "the last one that came"))
        members.append(("int32_t", f"run[{size}]", "how often in a row an entry was the same"))
    members += [
        ("int32_t", "age", "periods since `last`; 0: there is none"),
        ("int32_t", "bad", "faulty periods in a row"),
        ("int32_t", "decided", "the policy's last action; -1: none yet"),
        ("uint8_t", "any_seen", "an observation came"),
        ("uint8_t", "latched", "the fallback stays"),
        ("uint8_t", f"legal[{graph.actions}]", "not 0 where an action is legal"),
    ]
    return [f"    {f'{kind} {member};':<32} /* {why} */" for kind, member, why in members]


def _header(graph: Graph, guard: Guard, raw: Interface | None) -> str:
    element, (mask, _) = c_type(graph.obs_type), _mask(graph)
    words = "\n".join(f"   {c_text.comment_safe(line)}" for line in describe_guard(guard))
    faults = "\n".join(f"#define NQ_FAULT_{fault.upper()} {1 << place}u" for place, fault in enumerate(FAULTS))
    counts = "\n".join(f"#define NQ_GUARD_{one.upper()} {place}" for place, one in enumerate(COUNTERS))
    masked = (
        "\n   mask: a flag for each action, not 0 where it is legal; NULL: as in the period before." if mask else ""
    )
    of_raw = ""
    if raw is not None:
        out = "\n   `action` gets the action as the environment takes it." if has_action(raw) else ""
        of_raw = f"""
/* The same of an observation as the environment gives it; one that is NULL or outside of its space is missing.{out} */
{_act_raw(graph, raw)};
"""
    return f"""/* The guard of the policy: what was certified is nq_guard_act, the policy behind its guard.
{words} */
#ifndef NIMBLEQ_NQ_GUARD_H
#define NIMBLEQ_NQ_GUARD_H

#include <stdint.h>
{f'{chr(10)}#include "nq_raw.h"{chr(10)}' if raw is not None else ""}
#ifdef __cplusplus
extern "C" {{
#endif

/* One control loop. No allocation, no static variables. */
typedef struct {{
{chr(10).join(_members(graph, guard))}
}} nq_guard;

/* Bits of `faults`. */
{faults}

/* Places in `counts`: periods, those with each fault, those that got the fallback, decisions that came too late (the
   loop counts them), and those that the larger network took. */
{counts}
#define NQ_GUARD_COUNTS {len(COUNTERS)}

/* Before the first period. */
void nq_guard_init(nq_guard *guard);

/* Before the first period of a further episode: the counters go on. */
void nq_guard_reset(nq_guard *guard);

/* One period: the policy's action, or the fallback where there is a fault. Always an action, 0..{graph.actions - 1}.
   obs: what the network reads; NULL: none came in time.{masked} */
int nq_guard_act(nq_guard *guard, const {element} *obs{mask});

/* The action of this period if nothing else comes in time: ask before nq_guard_act, deliver when that is late. */
int nq_guard_standby(const nq_guard *guard);

/* That of a later period, in which the last action is no longer repeated. */
int nq_guard_standby_later(const nq_guard *guard);
{of_raw}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(graph: Graph, guard: Guard, raw: Interface | None, flash: bool) -> str:
    element, (mask, given) = c_type(graph.obs_type), _mask(graph)
    actions, size, real = graph.actions, graph.obs_type.size, not graph.obs_type.qtype.is_integer
    envelope = guard.envelope
    parts = ["larger"] * (guard.larger is not None) + ["backup"] * (guard.backup is not None)
    includes = "".join(f'#include "nq_{part}.h"\n' for part in parts)
    constants = c_text.FLASH_MACRO if flash else ""
    if envelope is not None:
        vectors = [(name, getattr(envelope, name)) for name in VECTORS]
        constants += "".join(c_text.array(f"nq_guard_{what}", values, False, flash) for what, values in vectors)
    allowed = guard.allowed(actions).astype("uint8")
    constants += c_text.array("nq_guard_allowed", allowed, False, flash)
    new_mask = ""
    if mask:
        new_mask = f"""
    if (mask) {{
        for (int a = 0; a < {actions}; ++a) guard->legal[a] = (uint8_t)(mask[a] && nq_guard_allowed[a]);
    }}"""
    finite = f"\n    else if (!nq_finite(obs, {size})) faults = NQ_FAULT_NOT_FINITE;" if real else ""
    outside = "\n    else faults = nq_guard_outside(guard, obs);" if envelope is not None else ""
    latch = f"\n    if (guard->bad >= {guard.latch}) guard->latched = 1;" if guard.latch else ""
    keep = ""
    if envelope is not None or guard.backup is not None:
        keep = f"\n        for (int i = 0; i < {size}; ++i) guard->last[i] = obs[i];"
    clear = f"    for (int i = 0; i < {size}; ++i) guard->run[i] = 0;\n" if envelope is not None else ""
    return f"""/* The guard of the policy: see nq_guard.h. */
#include "nq_guard.h"

#include "nq.h"
{includes}{needs_int(max(size, actions))}
{c_text.kernels({"finite"} if real else set())}
{constants}
{_best(graph, guard)}{_outside(graph) if envelope is not None else ""}
static int nq_guard_any(const nq_guard *guard)
{{
    int any = 0;
    for (int a = 0; a < {actions}; ++a) any |= guard->legal[a];
    return any;
}}

void nq_guard_reset(nq_guard *guard)
{{
{clear}    for (int a = 0; a < {actions}; ++a) guard->legal[a] = nq_guard_allowed[a];
    guard->age = 0;
    guard->bad = 0;
    guard->decided = -1;
    guard->any_seen = 0;
    guard->latched = 0;
}}

void nq_guard_init(nq_guard *guard)
{{
    for (int i = 0; i < NQ_GUARD_COUNTS; ++i) guard->counts[i] = 0;
    guard->faults = 0;
    nq_guard_reset(guard);
}}

static int nq_guard_legal(const nq_guard *guard, int action)
{{
    if (guard->legal[action] || !nq_guard_any(guard)) return action;
    for (action = 0; !guard->legal[action]; ++action) {{}}
    return action;
}}

int nq_guard_standby_later(const nq_guard *guard)
{{
    int action = {guard.fallback};
{_backup(graph, guard)}    return nq_guard_legal(guard, action);
}}

int nq_guard_standby(const nq_guard *guard)
{{
{_held(guard)}    return nq_guard_standby_later(guard);
}}

{_policy(graph, guard)}
int nq_guard_act(nq_guard *guard, const {element} *obs{mask})
{{
    uint32_t faults = 0;
    int action;{new_mask}
    if (!obs) faults = NQ_FAULT_MISSING;{finite}{outside}
    if (!nq_guard_any(guard)) faults |= NQ_FAULT_ILLEGAL;
    if (guard->latched) faults |= NQ_FAULT_LATCHED;
    guard->faults = faults;
    ++guard->counts[NQ_GUARD_DECISIONS];
    for (int i = 0; i < {len(FAULTS)}; ++i) guard->counts[NQ_GUARD_MISSING + i] += faults >> i & 1u;
    if (faults == 0) {{
        guard->age = 1;
        guard->bad = 0;{keep}
        action = nq_guard_decide(guard, obs);
        guard->decided = action;
        return action;
    }}
    action = nq_guard_standby(guard);
    if (guard->age > 0 && guard->age < {MAX_AGE}) ++guard->age;
    if (guard->bad < {MAX_AGE}) ++guard->bad;{latch}
    ++guard->counts[NQ_GUARD_FALLBACK];
    return action;
}}
{_raw(graph, raw, given)}"""


def _outside(graph: Graph) -> str:
    size = graph.obs_type.size
    return f"""
/* Faults of the envelope; the runs of equal values are brought up to date. */
static uint32_t nq_guard_outside(nq_guard *guard, const float *obs)
{{
    uint32_t faults = 0;
    for (int i = 0; i < {size}; ++i) {{
        const float x = obs[i], last = guard->last[i], seen = guard->seen[i];
        const float moved = x > last ? x - last : last - x, limit = nq_guard_rate[i] * (float)guard->age;
        if (x < nq_guard_low[i] || x > nq_guard_high[i]) faults |= NQ_FAULT_RANGE;
        if (guard->age > 0 && moved > limit) faults |= NQ_FAULT_RATE;
        if (!guard->any_seen || x < seen || x > seen) guard->run[i] = 0;
        else {{
            const int32_t j = nq_guard_partner[i];
            const float beside = obs[j] > guard->seen[j] ? obs[j] - guard->seen[j] : guard->seen[j] - obs[j];
            if (guard->run[i] < {MAX_AGE}) ++guard->run[i];
            if (beside > nq_guard_still[i]) faults |= NQ_FAULT_STUCK;
        }}
        if (nq_guard_repeats[i] > 0 && guard->run[i] >= nq_guard_repeats[i]) faults |= NQ_FAULT_STUCK;
    }}
    for (int i = 0; i < {size}; ++i) guard->seen[i] = obs[i];
    guard->any_seen = 1;
    return faults;
}}
"""


def _best(graph: Graph, guard: Guard) -> str:
    """The best legal action by values, where a network cannot give it."""
    networks = [graph if guard.larger is None else None, guard.larger, guard.backup]
    by_values = bool(guard.forbidden) and any(one is not None and not one.masked for one in networks)
    if guard.larger is None and not by_values:
        return ""
    return f"""/* The lowest index of the best legal value. */
static int nq_guard_best(const float *q, const uint8_t *legal)
{{
    int best = 0;
    while (!legal[best]) ++best;
    for (int a = best + 1; a < {graph.actions}; ++a)
        if (legal[a] && q[a] > q[best]) best = a;
    return best;
}}
"""


def _asked(network: Graph, name: str, guard: Guard, obs: str) -> Sequence[str]:
    """Lines that put the best legal action of a network into ``action``."""
    if network.masked:
        return [f"action = {name}_act_masked({obs}, guard->legal);"]
    if guard.forbidden:
        return [f"{name}_q({obs}, q);", "action = nq_guard_best(q, guard->legal);"]
    return [f"action = {name}_act({obs});"]


def _backup(graph: Graph, guard: Guard) -> str:
    if guard.backup is None:
        return ""
    asked = _asked(guard.backup, "nq_backup", guard, "guard->last")
    room = [f"float q[{graph.actions}];"] if len(asked) > 1 else []
    lines = ["if (guard->age > 0 && nq_guard_any(guard)) {", *(f"    {line}" for line in [*room, *asked]), "}"]
    return "".join(f"    {line}\n" for line in lines)


def _held(guard: Guard) -> str:
    if not guard.hold:
        return ""
    condition = f"guard->decided >= 0 && guard->bad < {guard.hold}"
    return f"    if ({condition}) return nq_guard_legal(guard, (int)guard->decided);\n"


def _policy(graph: Graph, guard: Guard) -> str:
    """The function that decides on an observation that was let through."""
    if guard.larger is None:
        body = list(_asked(graph, "nq", guard, "obs"))
        room = [f"float q[{graph.actions}];"] if len(body) > 1 else []
        body = ["int action;", *room, *([] if graph.masked or guard.forbidden else ["(void)guard;"]), *body]
    else:
        larger = _asked(guard.larger, "nq_larger", guard, "obs")
        body = [
            f"float q[{graph.actions}];",
            "int action, close = 0;",
            "nq_q(obs, q);",
            "action = nq_guard_best(q, guard->legal);",
            f"for (int a = 0; a < {graph.actions}; ++a) {{",
            "    const float margin = q[action] - q[a];",
            f"    if (guard->legal[a] && a != action && margin < {c_text.number(guard.margin)}) close = 1;",
            "}",
            "if (close) {",
            *(f"    {line}" for line in larger),
            "    ++guard->counts[NQ_GUARD_LARGER];",
            "}",
        ]
    lines = "\n".join(f"    {line}" for line in [*body, "return action;"])
    return f"static int nq_guard_decide(nq_guard *guard, const {c_type(graph.obs_type)} *obs)\n{{\n{lines}\n}}\n"


def _raw(graph: Graph, raw: Interface | None, given: str) -> str:
    if raw is None:
        return ""
    if mask_member(raw):
        given = ", raw ? raw->action_mask : 0"
    lines = [
        f"const int index = nq_guard_act(guard, raw && nq_read(state, raw) == 0 ? state->obs : 0{given});",
        *(["nq_environment_action(index, action);"] if has_action(raw) else []),
        "return index;",
    ]
    body = "\n".join(f"    {line}" for line in lines)
    return f"\n{_act_raw(graph, raw)}\n{{\n{body}\n}}\n"
