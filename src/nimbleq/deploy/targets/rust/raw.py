"""The environment's side of a policy in Rust: a safe type around the C that reads observations."""

from __future__ import annotations

from nimbleq.deploy.targets.c.entries import mask_member
from nimbleq.deploy.targets.c.raw import action_type, has_action
from nimbleq.deploy.targets.c.raw_harness import Given, action_width, given_parts
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface

RUST = {
    "int8_t": "i8", "uint8_t": "u8", "int16_t": "i16", "uint16_t": "u16", "int32_t": "i32", "uint32_t": "u32",
    "int64_t": "i64", "uint64_t": "u64", "float": "f32", "double": "f64",
}  # fmt: skip
"""C type → type of Rust."""
_WORDS = frozenset((
    "abstract", "as", "async", "await", "become", "box", "const", "crate", "dyn", "enum", "extern", "false", "final",
    "fn", "gen", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "self", "Self", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where",
    "yield",
))  # fmt: skip


def field(name: str) -> str:
    """A member's name in Rust: words of the language get an underscore."""
    return f"{name}_" if name in _WORDS else name


def answer(interface: Interface) -> str:
    """Type of the environment's action."""
    kind = RUST[action_type(interface)]
    return kind if interface.commands is None else f"[{kind}; {action_width(interface)}]"


def raw_externs(interface: Interface, name: str) -> str:
    """Functions of C."""
    lines = [
        f"    fn {name}_reset(state: *mut CState);",
        f"    fn {name}_read(state: *mut CState, raw: *const CRaw) -> i32;",
    ]
    if has_action(interface):
        lines.append(f"    fn {name}_environment_action(index: i32, action: *mut {RUST[action_type(interface)]});")
    return "\n".join(lines) + "\n"


def raw_types(interface: Interface, name: str) -> str:
    """The observation and the state."""
    parts, inside = given_parts(interface), mask_member(interface)
    element = RUST["uint8_t" if interface.obs.dtype == "uint8" else "float"]
    own = [f"    pub {field(part.name)}: {_given(part)}," for part in parts]
    c = [f"    {field(part.name)}: {_pointed(part)}," for part in parts]
    if inside:
        own.append(f"    pub {field(inside)}: &'a [bool; ACTIONS],")
        c.append(f"    {field(inside)}: *const u8,")
    borrowed = any(not part.single for part in parts) or inside
    life = "<'a>" if borrowed else ""
    return f"""#[repr(C)]
#[allow(non_snake_case)]
struct CRaw {{
{chr(10).join(c)}
}}

#[repr(C)]
struct CState {{
    obs: [{element}; OBS_SIZE],
}}

/// An observation, as the environment gives it: arrays in C order.
#[allow(non_snake_case)]
pub struct Raw{life} {{
{chr(10).join(own)}
}}

/// What is kept between the decisions of one episode.
pub struct State(CState);

impl State {{
    pub const fn new() -> Self {{
        State(CState {{ obs: [0{".0" if element == "f32" else ""}; OBS_SIZE] }})
    }}

    /// An episode starts.
    pub fn reset(&mut self) {{
        unsafe {{ {name}_reset(addr_of_mut!(self.0)) }}
    }}

    /// What the network read last.
    pub fn obs(&self) -> &[{element}; OBS_SIZE] {{
        &self.0.obs
    }}
}}

impl Default for State {{
    fn default() -> Self {{
        Self::new()
    }}
}}

"""


def raw_method(graph: Graph, interface: Interface, name: str) -> str:
    """The function that decides."""
    parts, inside = given_parts(interface), mask_member(interface)
    members = [
        f"            {field(part.name)}: raw.{field(part.name)}{'' if part.single else '.as_ptr()'}," for part in parts
    ]
    members += [f"            {field(inside)}: raw.{field(inside)}.as_ptr().cast(),"] if inside else []
    outside = ", mask: &[bool; ACTIONS]" if graph.masked and not inside else ""
    given = "" if not graph.masked else f", raw.{field(inside)}" if inside else ", mask"
    result, taken = "usize", "        Some(index)"
    if has_action(interface):
        kind = RUST[action_type(interface)]
        zero = "0.0" if kind[0] == "f" else "0"
        start = zero if interface.commands is None else f"[{zero}; {action_width(interface)}]"
        result = f"(usize, {answer(interface)})"
        taken = f"""        let mut action: {answer(interface)} = {start};
        unsafe {{ {name}_environment_action(index as i32, addr_of_mut!(action).cast()) }};
        Some((index, action))"""
    what = "its index, and it as the environment takes it" if has_action(interface) else "its index"
    return f"""
    /// The action for what the environment gives: {what}; None if the observation is refused.
    pub fn act_raw(&mut self, state: &mut State, raw: &Raw{outside}) -> Option<{result}> {{
        let given = CRaw {{
{chr(10).join(members)}
        }};
        if unsafe {{ {name}_read(addr_of_mut!(state.0), addr_of!(given)) }} < 0 {{
            return None;
        }}
        let index = self.act(&state.0.obs{given})?;
{taken}
    }}
"""


def raw_harness(graph: Graph, interface: Interface, name: str) -> str:
    """``main`` of a program that answers observations of the environment."""
    parts, inside, frames = given_parts(interface), mask_member(interface), interface.frames is not None
    reads, members, sizes = [], [], []
    for part in parts:
        kind = RUST[part.c_type]
        one = f"{kind}::from_le_bytes(take::<{{ core::mem::size_of::<{kind}>() }}>(&mut row))"
        value = one if part.single else f"std::array::from_fn::<{kind}, {part.count}, _>(|_| {one})"
        reads.append(f"        let {field(part.name)} = {value};")
        members.append(f"{field(part.name)}: {'' if part.single else '&'}{field(part.name)}")
        sizes.append(f"{part.count} * core::mem::size_of::<{kind}>()")
    given = ""
    if graph.masked:
        reads.append("        let flags: [bool; ACTIONS] = std::array::from_fn(|_| take::<1>(&mut row)[0] != 0);")
        sizes.append("ACTIONS")
        members += [f"{field(inside)}: &flags"] if inside else []
        given = "" if inside else ", &flags"
    first = "        if take::<1>(&mut row)[0] != 0 {\n            state.reset();\n        }\n" if frames else ""
    sizes += ["1"] if frames else []
    taken = "let index = found.map_or(-1, |index| index as i32);"
    write = ""
    if has_action(interface):
        zero = "0.0" if RUST[action_type(interface)][0] == "f" else "0"
        start = zero if interface.commands is None else f"[{zero}; {action_width(interface)}]"
        taken = f"let (index, action) = found.map_or((-1, {start}), |(index, action)| (index as i32, action));"
        each = "[action]" if interface.commands is None else "action"
        write = f"\n        {each}.iter().for_each(|value| out.extend(value.to_le_bytes()));"
    return f"""use std::io::{{Read, Write}};
use {name}::{{Policy, Raw, State{", ACTIONS" if graph.masked else ""}}};

fn take<const N: usize>(row: &mut &[u8]) -> [u8; N] {{
    let (head, rest) = row.split_at(N);
    *row = rest;
    head.try_into().unwrap()
}}

fn main() {{
    let (mut data, mut out) = (Vec::new(), Vec::new());
    std::io::stdin().read_to_end(&mut data).unwrap();
    let (mut policy, mut state) = (Policy::new(), State::new());
    for mut row in data.chunks_exact({" + ".join(sizes)}) {{
{first}{chr(10).join(reads)}
        let found = policy.act_raw(&mut state, &Raw {{ {", ".join(members)} }}{given});
        {taken}
        out.extend(index.to_le_bytes());
        state.obs().iter().for_each(|value| out.extend(value.to_le_bytes()));{write}
    }}
    std::io::stdout().write_all(&out).unwrap();
}}
"""


def _given(part: Given) -> str:
    return RUST[part.c_type] if part.single else f"&'a [{RUST[part.c_type]}; {part.count}]"


def _pointed(part: Given) -> str:
    return RUST[part.c_type] if part.single else f"*const {RUST[part.c_type]}"
