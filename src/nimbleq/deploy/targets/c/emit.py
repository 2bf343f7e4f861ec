"""A policy as one freestanding C99 file and its header: constants, a planned arena, no allocation, no library.

Images are stored as ``(H, W, C)`` inside; the caller's observation is ``(C, H, W)``, as everywhere. Integer graphs give
the interpreter's integers with every compiler and on every processor; float graphs may differ by rounding.

Two passes: `plan` decides steps, constants, scratch and places; `write` puts the text together. Inside, C names begin
with ``nq_``; the last step puts the policy's name in their place, so that any number of policies fit one program, and
one translation unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nimbleq.deploy.identity import BYTES, mark
from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.header import header, title
from nimbleq.deploy.targets.c.isa import ISAS, Isa
from nimbleq.deploy.targets.c.plan import Plan, plan
from nimbleq.deploy.targets.c.write import write
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interface import Interface
from nimbleq.graph.rewrite import with_action
from nimbleq.graph.tensor import FLOAT32, UINT8

INT_MAX = 32767
"""What every C compiler's ``int`` holds."""


def emit_c(
    graph: Graph,
    name: str = "policy",
    source: str = "",
    q_meaning: str = "",
    interface: Interface | None = None,
    isas: Sequence[Isa] = ISAS,
    digest: str = "",
    skips: bool = True,
) -> dict[str, str]:
    """C source and header of a policy.

    Args:
        graph: one float32 or uint8 observation in (and a mask of the legal actions, where the graph takes one), outputs
            ``q`` and ``action`` (an ArgMax of ``q`` is added if missing).
        name: prefix of all C names and of the files.
        source: where the graph comes from (artefact and digest), for the comment on top.
        q_meaning: what the action values are, for the header; see `nimbleq.graph.artefact.Artefact.q_meaning`.
        interface: what the environment gives and takes, for the header; where it says that an observation is binary,
            the first layer passes over the zeros in it.
        isas: instruction sets to write code for; the compiler takes the first that it has.
        digest: of the artefact, for the mark by which `nimbleq identify` knows a binary; empty: no mark.
        skips: whether inputs of a layer that are zero are passed over; without, vector code takes the same steps for
            every observation.

    Returns:
        ``{"<name>.c": text, "<name>.h": text}``; see the header's text for the functions.

    Raises:
        UnsupportedOpError: an op or number format has no C form.
        GraphError: there is no ``q``, or not one observation.
        ConfigError: the name is not a C identifier, or a weight is not finite.
    """
    c_text.identifier(name)
    graph = _with_outputs(graph)
    binary = interface is not None and interface.obs.mostly_bits
    plans = _different([plan(graph, isa, skips, binary) for isa in isas])
    top = title(graph, name, source, plans)
    body = needs_int(max(each.largest_index for each in plans)) + _mark(digest, name)
    body += _alternatives(plans, name, bool(digest))
    return {
        f"{name}.c": f'{top}\n#include "{name}.h"\n{body}',
        f"{name}.h": header(graph, name, top, q_meaning, interface, plans, digest),
    }


def _with_outputs(graph: Graph) -> Graph:
    if Q not in graph.outputs or graph.types[Q].qtype != FLOAT32 or len(graph.types[Q].shape) != 1:
        raise GraphError(f"C needs an output {Q!r} of type float32[A]")
    if graph.obs_type.qtype not in (FLOAT32, UINT8):
        raise UnsupportedOpError(f"of a {graph.obs_type} observation", "c", "use float32 or uint8 observations")
    if ACTION not in graph.outputs:
        graph = with_action(replace(graph, outputs=(Q,)))
    producer = graph.producer(ACTION)
    if producer is None or not isinstance(producer.op, ops.Choice):
        raise GraphError(f"C needs {ACTION!r} to be made by ArgMax")
    return graph


def _different(plans: Sequence[Plan]) -> list[Plan]:
    """Without those that are the same code as the next one, whose processors can do less."""
    codes = [[(block.code.lines, block.code.kernels) for block in each.blocks] for each in plans]
    last = len(plans) - 1
    return [each for index, each in enumerate(plans) if index == last or codes[index] != codes[index + 1]]


def needs_int(largest: int) -> str:
    """Lines that stop the compiler where an ``int`` cannot count that far."""
    if largest <= INT_MAX:
        return ""
    return f'\n#include <limits.h>\n#if INT_MAX < {largest}\n#error "this policy needs an int of 32 bits"\n#endif\n'


def _mark(digest: str, name: str) -> str:
    """The bytes that name the artefact, and an empty relocation which keeps them where the policy is linked."""
    if not digest:
        return ""
    numbers = ",".join(map(str, mark(digest)))
    return f"""
/* ---- the artefact: nimbleq identify FILE names it ---- */
#if defined(__GNUC__)
__attribute__((used))
#endif
const unsigned char {name}_identity[{BYTES}] = {{{numbers}}};
#if defined(__GNUC__) && defined(__ELF__)
#define {name.upper()}_KEEP __asm__ volatile(".reloc ., BFD_RELOC_NONE, {name}_identity"); /* no bytes */
#else
#define {name.upper()}_KEEP
#endif
"""


def _alternatives(plans: Sequence[Plan], name: str, marked: bool) -> str:
    """The code for each instruction set, of which the preprocessor takes the first that fits."""
    lines, opened = [], False
    for each in plans:
        condition = each.isa.condition
        if condition:
            lines.append(f"\n#{'el' if opened else ''}if {condition}")
            opened = True
        elif opened:
            lines.append("\n#else")
        lines.append(write(each, name, marked))
        if not condition:
            break
    else:
        lines.append('#else\n#error "this policy was written for other processors"')
    return "\n".join([*lines, *(["#endif", ""] if opened else [])])
