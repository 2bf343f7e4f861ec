"""The guard on other processors: the reference's verdicts and actions, what it costs, and its self-test."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.export import export
from nimbleq.deploy.footprint import footprint
from nimbleq.deploy.periods import LENGTH, Periods, clear_of_rounding
from nimbleq.deploy.target import Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.guard import emit_guard
from nimbleq.deploy.targets.c.guard_call import CGuard
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.deploy.toolchain import compile_library
from nimbleq.deploy.verify import verify_build
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import FAULTS, Guard
from nimbleq.graph.rewrites.mask import with_mask
from tests.deploy.nets import int_conv, mlp
from tests.deploy.test_guard import COMPILER, ENVELOPE, KINDS, needs_compiler, network, swing

OBS = np.concatenate([swing(seed) for seed in range(4)])
SLOW = pytest.mark.targets


def masked(guard: Guard) -> Guard:
    return replace(
        guard, larger=guard.larger and with_mask(guard.larger), backup=guard.backup and with_mask(guard.backup)
    )


def build(folder: Path, graph: Graph, guard: Guard, *targets: str) -> Path:
    save_artefact(folder / "guarded", graph, OBS[:40], {}, guard=guard)
    export(folder / "guarded", targets, folder / "build")
    return folder / "build"


REST = (("action", True), ("hold", False), ("backup", False), ("larger", True), ("no envelope", False))


@pytest.mark.parametrize(
    ("target", "kind", "takes_mask"),
    [
        ("cortex-m4", "forbidden", False), pytest.param("c", "forbidden", True, marks=pytest.mark.long),
        pytest.param("aarch64", "action", True, marks=pytest.mark.long),
        *(pytest.param(name, kind, mask, marks=SLOW)
          for name in ("riscv64", "x86-32", "cortex-m4", "cortex-m7", "cortex-m55", "avr")
          for kind, mask in REST),
    ],
)  # fmt: skip
def test_the_references_verdicts_and_actions(target: str, kind: str, takes_mask: bool, tmp_path: Path) -> None:
    if why := TARGETS[target].cannot_open():
        pytest.skip(why)
    graph, guard = (with_mask(network()), masked(KINDS[kind])) if takes_mask else (network(), KINDS[kind])
    result = verify_build(build(tmp_path, graph, guard, target), observations=40)
    tried = {one.target: one for one in result.targets if "guard" in one.target}
    assert tried
    assert all(one.observations == 40 and one.mismatches == 0 for one in tried.values())


@needs_compiler
def test_a_changed_guard_is_found_out(tmp_path: Path) -> None:
    graph, guard = network(), KINDS["hold"]
    texts = emit_c(graph, "policy", isas=(PORTABLE,)) | emit_guard(graph, "policy", guard)
    periods = Periods.of(np.random.default_rng(0), graph, guard, OBS, 1_000)
    changes = (
        ("", ""),
        ("guard->bad < 2", "guard->bad < 3"),
        ("x > last ?", "x < last ?"),
        ("last[i] = obs[i]", "last[i] = 0"),
    )
    for index, (old, new) in enumerate(changes):
        assert old in texts["policy_guard.c"]
        library, changed = tmp_path / f"{index}.so", texts["policy_guard.c"].replace(old, new)
        assert COMPILER is not None
        compile_library({**texts, "policy_guard.c": changed}, library, COMPILER, ("-O0",))
        found = CGuard(library, "policy", graph).run(periods)
        wanted = (periods.standby, periods.action, periods.faults)
        assert all(map(np.array_equal, found, wanted)) == (not old), new


def test_periods_hold_every_fault() -> None:
    guard = KINDS["hold"]
    made = Periods.of(np.random.default_rng(1), network(), guard, OBS, 2_000)
    assert len(made.obs) == 2_000
    assert made.begins.sum() == 2_000 // LENGTH
    for place, name in enumerate(FAULTS):
        assert (made.faults >> place & 1).any() or name == "illegal", name
    assert (made.faults == 0).mean() > 0.4
    assert set(made.action[made.faults == 0]) == {0, 1, 2}
    with_masks = Periods.of(np.random.default_rng(1), with_mask(network()), masked(guard), OBS, 2_000)
    assert (with_masks.faults >> FAULTS.index("illegal") & 1).any()
    pictures = Periods.of(
        np.random.default_rng(1), int_conv(5), Guard(0), np.zeros((3, *int_conv(5).obs_type.shape), np.uint8), 80
    )
    assert set(pictures.faults) == {0, 1}


def test_what_a_rounding_could_change_is_left_out() -> None:
    guard = Guard(2, ENVELOPE, larger=mlp(4, 32, 3, seed=3), margin=0.05)
    clear = clear_of_rounding(mlp(4, 16, 3), guard, OBS)
    assert clear.sum() > 0
    assert clear_of_rounding(network(), KINDS["hold"], OBS).all()
    nothing = mlp(4, 16, 3)
    flat = replace(nothing, weights={name: replace_zero(value) for name, value in nothing.weights.items()})
    assert not clear_of_rounding(flat, Guard(0), OBS).any()


def replace_zero(weights: np.ndarray) -> np.ndarray:
    return np.zeros_like(weights)


@pytest.mark.parametrize("target", ["cortex-m4", pytest.param("avr", marks=SLOW)])
def test_what_the_guard_costs(target: str) -> None:
    if why := TARGETS[target].cannot_open():
        pytest.skip(why)
    alone, guarded = (footprint(target, network(), OBS, guard) for guard in (None, KINDS["action"]))
    assert alone.text_bytes + 16 * 4 < guarded.text_bytes + guarded.data_bytes
    assert guarded.ram_bytes >= alone.ram_bytes + 4 * (11 + 3 * 4)
    assert alone.instructions
    assert guarded.instructions
    assert alone.instructions < guarded.instructions < alone.instructions + 4_000


def test_a_guarded_self_test_runs_on_its_board(tmp_path: Path) -> None:
    if why := TARGETS["cortex-m4"].cannot_open():
        pytest.skip(why)
    program = build(tmp_path, network(), KINDS["forbidden"], "cortex-m4") / "cortex-m4" / "selftest.elf"
    command = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-semihosting-config",
               "enable=on,target=native", "-kernel", str(program)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "16 guarded golden vectors, 0 mismatches" in done.stdout + done.stderr


def test_targets_that_cannot_run_it_refuse(tmp_path: Path) -> None:
    save_artefact(tmp_path / "guarded", network(), OBS[:40], {}, guard=KINDS["action"])
    with pytest.raises(ConfigError, match="has a guard, which wasm cannot run: give --to c "):
        export(tmp_path / "guarded", ["wasm"], tmp_path / "build")
    large = Guard(0, larger=mlp(4, 128, 64, 3), margin=1.0)
    with pytest.raises(UnsupportedOpError, match="bytes of constants"):
        TARGETS["avr"].emit(Source(network(), guard=large), "policy", TARGETS["avr"].options())
