"""The second pass: a plan as text."""

from __future__ import annotations

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.layout import ALIGNMENT, c_type
from nimbleq.deploy.targets.c.ops.dots import KERNELS as DOT_KERNELS
from nimbleq.deploy.targets.c.plan import Block, Plan
from nimbleq.deploy.targets.c.steps import Stage
from nimbleq.graph.graph import ACTION, NEXT_STATE, Graph, Q

_NEEDS_FLOAT_H = {"quantize", "real", "exact_double"}
"""Kernels that ask about the compiler's floating point."""


def write(plan: Plan, name: str, marked: bool = False) -> str:
    """Includes, kernels, constants and functions, under the policy's name; ``marked`` keeps the artefact's mark."""
    used = {kernel for block in plan.blocks for kernel in block.code.kernels}
    if not plan.graph.obs_type.qtype.is_integer:
        used.add(_finite(plan))
    forms = [(dot.condition, dot.include, dot.folder) for dot in plan.isa.dots]
    code = _functions(plan, marked)
    kernels = c_text.used(c_text.kernels(used - DOT_KERNELS), code) + c_text.chosen(used & DOT_KERNELS, forms)
    aligned, flash = plan.isa.alignment > ALIGNMENT, plan.isa.flash
    arrays = [c_text.array(each.name, each.values, aligned, flash and not each.near) for each in plan.constants]
    notes = [f"/* {c_text.comment_safe(each.note)} */\n" if each.note else "" for each in plan.constants]
    heads_and_numbers = [text.split("\n", 1) for text in arrays]
    macros = c_text.macros("\n".join([kernels, code, *(head for head, _ in heads_and_numbers)]))
    includes = [*plan.isa.includes, *(["float.h"] if _NEEDS_FLOAT_H & used else [])]
    lines = "".join(f"#include <{file}>\n" for file in sorted(includes))
    flash_macro = c_text.FLASH_MACRO if flash and any(not each.near for each in plan.constants) else ""
    singly_macro = c_text.SINGLY_MACRO if c_text.SINGLY in code else ""
    top = "\n".join(part for part in (lines, macros.lstrip("\n"), flash_macro, singly_macro, kernels) if part)
    if not flash:
        top, code = (text.replace(c_text.FLASH, "") for text in (top, code))
    # Names are put in here and not in the numbers, of which there may be millions.
    return "\n".join(
        [
            c_text.renamed(top, name),
            "/* ---- weights ---- */",
            *(
                f"{note}{c_text.renamed(head, name)}\n{numbers}"
                for note, (head, numbers) in zip(notes, heads_and_numbers, strict=True)
            ),
            "/* ---- the network ---- */",
            c_text.renamed(code, name),
        ]
    )


def _finite(plan: Plan) -> str:
    """The kernel that looks for NaN and infinity."""
    return "finite_many" if plan.graph.obs_type.size > 64 else "finite"


def _functions(plan: Plan, marked: bool) -> str:
    keep = "    NQ_KEEP\n" if marked else ""
    graph, element = plan.graph, c_type(plan.graph.obs_type)
    check = f"    if (!nq_{_finite(plan)}(obs, {graph.obs_type.size})) return -1;\n"
    check = "" if graph.obs_type.qtype.is_integer else check
    aligned = " NQ_ALIGN" if plan.isa.alignment > ALIGNMENT else ""
    arena = f"union {{ double align; unsigned char bytes[{max(plan.arena_bytes, 1)}]; }} nq_arena{aligned};"
    own, shared = (f"    {arena}\n", "") if plan.on_stack else ("", f"\nstatic {arena}\n")
    act, mask, given = ("act_masked", ", const uint8_t *mask", ", mask") if graph.masked else ("act", "", "")
    held = ", state" if graph.units else ""
    state, kept = (", float *state", ", const float *state") if graph.units else ("", "")
    return f"""{shared}
/* What both the action and the action values need. */
static void nq_trunk(unsigned char *const arena, const {element} *const obs{kept})
{{
{_body(plan, "both")}
}}

int nq_{act}_with(void *workspace, const {element} *obs{state}{mask})
{{
    unsigned char *const arena = (unsigned char *)workspace;
    int action = 0;
{keep}{check}    nq_trunk(arena, obs{held});
{_body(plan, "action")}
    return action;
}}

int nq_q_with(void *workspace, const {element} *obs{kept}, float *q)
{{
    unsigned char *const arena = (unsigned char *)workspace;
{check}    nq_trunk(arena, obs{held});
{_body(plan, "q")}
    return 0;
}}

{_reset(graph)}{_choices(graph)}int nq_{act}(const {element} *obs{state}{mask})
{{
{own}    return nq_{act}_with(nq_arena.bytes, obs{held}{given});
}}

int nq_q(const {element} *obs{kept}, float *q)
{{
{own}    return nq_q_with(nq_arena.bytes, obs{held}, q);
}}
"""


def _reset(graph: Graph) -> str:
    """The function that clears what is remembered."""
    if not graph.units:
        return ""
    return f"void nq_reset(float *state)\n{{\n    for (int i = 0; i < {graph.units}; ++i) state[i] = 0.0f;\n}}\n\n"


def _choices(graph: Graph) -> str:
    """The function that takes an action of several dimensions apart."""
    if not graph.branches:
        return ""
    lines = []
    for at in reversed(range(1, len(graph.branches))):
        lines += [f"choices[{at}] = index % {graph.branches[at]};", f"index /= {graph.branches[at]};"]
    body = "\n".join(f"    {line}" for line in [*lines, "choices[0] = index;"])
    return f"void nq_choices(int index, int32_t *choices)\n{{\n{body}\n}}\n\n"


def _body(plan: Plan, stage: Stage) -> str:
    """Declarations of the tensors that a stage touches, and its blocks."""
    layout, blocks = plan.layout, plan.of(stage)
    touched = [name for block in blocks for name in (*block.step.node.inputs, block.step.output)]
    lines = [line for block in blocks for line in _block(plan, block)]
    if stage == "both" and layout.raw_obs is None:
        touched.insert(0, plan.graph.obs_name)
        lines = _load_obs(plan) + lines
    if stage == "q":
        touched.append(Q)
        lines.append(f"for (int i = 0; i < {plan.graph.actions}; ++i) q[i] = {layout.variables[Q]}[i];")
    if stage == "action" and plan.graph.units:
        touched.append(NEXT_STATE)
        lines.append(f"for (int i = 0; i < {plan.graph.units}; ++i) state[i] = {layout.variables[NEXT_STATE]}[i];")
    roots = dict.fromkeys(layout.roots[name] for name in touched if name != ACTION and layout.in_arena(name))
    declared = [_pointer(layout.variables[root], layout.element(root), plan.slots[root].offset) for root in roots]
    return "\n".join(f"    {line}" for line in [*declared, *lines])


def _block(plan: Plan, block: Block) -> list[str]:
    kinds = ", ".join(node.op.kind for node in (block.step.node, block.step.epilogue) if node is not None)
    label = f"{kinds} -> {block.step.output}: {plan.graph.types[block.step.output]}"
    scratch = [_pointer(buffer.name, buffer.c_type, offset) for buffer, offset in block.scratch]
    return [f"{{ /* {c_text.comment_safe(label)} */", *(f"    {line}" for line in [*scratch, *block.code.lines]), "}"]


def _pointer(variable: str, element: str, offset: int) -> str:
    return f"{element} *const {variable} = ({element} *)(void *)(arena + {offset});"


def _load_obs(plan: Plan) -> list[str]:
    """Lines that bring the observation into the arena's layout."""
    kind, x = plan.graph.obs_type, plan.layout.variables[plan.graph.obs_name]
    channels = kind.shape[0] if len(kind.shape) == 3 else 1
    pixels = kind.size // channels
    return [
        f"for (int p = 0; p < {pixels}; ++p)",
        f"    for (int c = 0; c < {channels}; ++c) {x}[p * {channels} + c] = obs[c * {pixels} + p];",
    ]
