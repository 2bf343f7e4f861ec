"""The files of the crate: the policy in C, and safe Rust around it."""

from __future__ import annotations

import json

from nimbleq.deploy.target import Source
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import portable
from nimbleq.deploy.targets.c.ops.dots import DSP, NEON
from nimbleq.deploy.targets.c.raw import emit_raw, has_raw
from nimbleq.deploy.targets.rust.raw import raw_externs, raw_method, raw_types


def crate(source: Source, name: str) -> dict[str, str]:
    """``Cargo.toml``, ``build.rs``, ``lib.rs`` and the C that they compile; no dependencies."""
    graph = source.graph
    files = emit_c(
        graph, name, source.origin, source.q_meaning, source.interface, (portable(NEON, DSP),), source.digest
    )
    element = "u8" if graph.obs_type.qtype.is_integer else "f32"
    act, mask, parameter, given = "act", "", "", ""
    if graph.masked:
        act, mask, parameter = "act_masked", ", mask: *const u8", ", mask: &[bool; ACTIONS]"
        given = ", mask.as_ptr().cast()"  # a bool is 0 or 1
    interface, externs, types, method, sources = source.interface, "", "", "", [name]
    if interface is not None and has_raw(interface):
        files |= emit_raw(graph, name, interface)
        externs, types = raw_externs(interface, name), raw_types(interface, name)
        method, sources = raw_method(graph, interface, name), [name, f"{name}_raw"]
    workspace = next(line for line in files[f"{name}.h"].splitlines() if "WORKSPACE_BYTES" in line).split()[-1]
    why = "None if no action is legal" if element == "u8" else "None if an entry is NaN or infinite"
    return files | {
        "Cargo.toml": f"""[package]
name = "{name}"
version = "0.1.0"
edition = "2021"
build = "build.rs"
links = "{name}_c"

[lib]
path = "lib.rs"
""",
        "build.rs": _BUILD.replace("NAMES", json.dumps(sources)).replace("NAME", name),
        "lib.rs": f"""//! {name}: a policy of {source.origin or "a graph in memory"}, written by nimbleq.
//! The decision itself is C (`{name}.c`, freestanding, compiled by `build.rs`); this is a safe way to call it.
#![no_std]

use core::ptr::{"{addr_of, addr_of_mut}" if method else "addr_of_mut"};

/// Entries of an observation, in C order.
pub const OBS_SIZE: usize = {graph.obs_type.size};
/// Actions: 0 .. ACTIONS - 1.
pub const ACTIONS: usize = {graph.actions};

#[repr(C, align(64))]
struct Workspace([u8; {workspace}]);

extern "C" {{
    fn {name}_{act}_with(workspace: *mut Workspace, obs: *const {element}{mask}) -> i32;
    fn {name}_q_with(workspace: *mut Workspace, obs: *const {element}, q: *mut f32) -> i32;
{externs}}}

{types}/// The policy and the memory that it works in: each thread has its own.
pub struct Policy(Workspace);

impl Policy {{
    pub const fn new() -> Self {{
        Policy(Workspace([0; {workspace}]))
    }}

    /// The best {"legal " if graph.masked else ""}action; {why}.
    pub fn act(&mut self, obs: &[{element}; OBS_SIZE]{parameter}) -> Option<usize> {{
        let action = unsafe {{ {name}_{act}_with(addr_of_mut!(self.0), obs.as_ptr(){given}) }};
        usize::try_from(action).ok()
    }}

    /// All action values; None if the observation is refused.
    pub fn q(&mut self, obs: &[{element}; OBS_SIZE]) -> Option<[f32; ACTIONS]> {{
        let mut q = [0.0; ACTIONS];
        let code = unsafe {{ {name}_q_with(addr_of_mut!(self.0), obs.as_ptr(), q.as_mut_ptr()) }};
        if code < 0 {{ None }} else {{ Some(q) }}
    }}
{method}}}

impl Default for Policy {{
    fn default() -> Self {{
        Self::new()
    }}
}}
""",
    }


_BUILD = """//! Compiles the policy: the C compiler is $CC, else cc, with what $CFLAGS says; the archiver $AR, else ar.
use std::{env, path::Path, process::Command};

fn run(command: &mut Command) {
    let done = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.success(), "{command:?} failed");
}

fn main() {
    let out = env::var("OUT_DIR").unwrap();
    let cc = env::var("CC").unwrap_or_else(|_| "cc".into());
    let ar = env::var("AR").unwrap_or_else(|_| "ar".into());
    let flags = env::var("CFLAGS").unwrap_or_default();
    let mut archive = Command::new(ar);
    archive.arg("crs").arg(Path::new(&out).join("libNAME_c.a"));
    for source in NAMES {
        let object = Path::new(&out).join(format!("{source}.o"));
        let file = format!("{source}.c");
        let mut compile = Command::new(&cc);
        run(compile.args(["-std=c99", "-O2"]).args(flags.split_whitespace()).args(["-c", &file, "-o"]).arg(&object));
        archive.arg(object);
        println!("cargo:rerun-if-changed={file}");
    }
    run(&mut archive);
    for name in ["CC", "CFLAGS", "AR"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static=NAME_c");
}
"""
