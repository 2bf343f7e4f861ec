"""C for other processors: compiled, run by an emulator, measured. One line per processor is one test each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbleq import cli
from nimbleq.deploy.export import export, load_build
from nimbleq.deploy.footprint import exceeded, footprint, footprints
from nimbleq.deploy.target import Footprint, Source
from nimbleq.deploy.targets import TARGETS
from nimbleq.deploy.targets.cross import emulator
from nimbleq.deploy.targets.cross.processor import Processor
from nimbleq.deploy.targets.cross.processors import PROCESSORS
from nimbleq.deploy.targets.cross.row import row as made
from nimbleq.deploy.toolchain import CompileError, NoCompilerError, find_compiler
from nimbleq.deploy.verify import verify, verify_build
from nimbleq.errors import ConfigError, FileError, UnsupportedOpError
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.golden import make_golden
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.types import Array
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs

QUICK = {"aarch64", "cortex-m4"}
ROWS = [
    pytest.param(row, id=row.name, marks=[] if row.name in QUICK else [pytest.mark.targets])
    for row in PROCESSORS
    if row.emulator is not None
]
OBS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def policies() -> list[Graph]:
    return [with_mask(int_mlp(4, 40, 3)), mlp(3, 17, 5), int_conv(5, (1, 1))]


def skip_without(name: str) -> None:
    if why := TARGETS[name].cannot_open():
        pytest.skip(why)


@pytest.mark.parametrize("row", ROWS)
def test_a_processor_gives_the_same_integers(row: Processor, tmp_path: Path) -> None:
    name = row.name
    skip_without(name)
    target = TARGETS[name]
    for index, graph in enumerate(policies()):
        source, folder = Source(graph), tmp_path / str(index)
        folder.mkdir()
        runs = target.open(source, target.emit(source, "net", target.options()), "net", folder)
        golden = make_golden(graph, random_obs(np.random.default_rng(index), graph, 40))
        result = verify(graph, golden, runs, observations=200)
        assert (result.checked, result.mismatches) == (240 * len(runs), 0), result


def narrowest(array: Array) -> int:
    """Bytes of an array in the smallest type of C that holds it: firmware keeps small numbers so."""
    if array.dtype.kind == "f":
        return int(array.nbytes)
    bits = next(bits for bits in (8, 16, 32) if -(1 << bits - 1) <= array.min() and array.max() < 1 << bits - 1)
    return array.size * bits // 8


@pytest.mark.parametrize("row", ROWS)
def test_flash_ram_stack_and_instructions_are_measured(row: Processor) -> None:
    skip_without(row.name)
    small, large = int_mlp(8, 4), int_mlp(8, 64, 64, 4)
    rng = np.random.default_rng(1)
    one, other = (footprint(row.name, graph, random_obs(rng, graph, 8)) for graph in (small, large))
    weights = sum(array.nbytes for array in large.weights.values()) - sum(a.nbytes for a in small.weights.values())
    least = sum(map(narrowest, large.weights.values())) - sum(map(narrowest, small.weights.values()))
    more = other.text_bytes + other.data_bytes - one.text_bytes - one.data_bytes
    assert least <= more <= weights + 800  # the code of requantize, loops
    assert one.ram_bytes <= 16
    assert other.stack_bytes - one.stack_bytes >= 2 * 64 - 40
    assert one.stack_bytes < 300
    macs = 8 * 64 + 64 * 64 + 64 * 4 - 8 * 4
    most = 50 if row.unit == "cycles" else 20  # an AVR: 25 for a product from flash, and 64-bit sums to requantize
    assert 0.2 * macs < other.instructions - one.instructions < most * macs
    if row.consumption is None:
        assert (one.energy_nj, one.energy_by) == (None, "")
    else:
        assert one.energy_nj == pytest.approx(one.instructions * row.consumption.nj_per_cycle)
        assert "µA/MHz at" in one.energy_by


def test_a_changed_weight_is_found_out(tmp_path: Path) -> None:
    """The exported source is what runs."""
    skip_without("aarch64")
    row, graph = TARGETS["aarch64"], int_mlp(4, 8, 3)
    files = dict(row.emit(Source(graph), "net", row.options()))
    files["aarch64/net.c"] = files["aarch64/net.c"].replace(b"_bias[3] = {\n    ", b"_bias[3] = {\n    9")
    golden = make_golden(graph, OBS)
    result = verify(graph, golden, row.open(Source(graph), files, "net", tmp_path), observations=0)
    assert result.mismatches == len(OBS)


def test_limits_of_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skip_without("cortex-m4")
    save_artefact(tmp_path / "small", int_mlp(4, 8, 3), OBS, {})
    build = tmp_path / "build"
    words = ["export", str(tmp_path / "small"), "--to", "c", "cortex-m4", "--out", str(build), "--json"]
    assert cli.main([*words, "--max-flash", "100"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert "of flash, more than 100" in said["exceeded"]
    assert not build.exists()
    assert cli.main([*words, "--max-flash", "9000", "--max-ram", "2000"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["exceeded"] is None
    assert said["flash"][0]["target"] == "cortex-m4"
    assert {"policy.c", "cortex-m4/policy.c"} <= said["files"].keys()
    assert cli.main(["export", str(tmp_path / "small"), "--to", "c", "--out", str(build), "--max-ram", "9"]) == 2
    assert "not measured for 'c'" in capsys.readouterr().err


def test_limits_in_words() -> None:
    one = Footprint("m", 90, 10, 20, 30, 5, "instructions", "gcc")
    assert exceeded([one], 100, 50) is None
    assert exceeded([one], 99, None) == "m needs 100 bytes of flash, more than 99"
    assert exceeded([one], None, 49) == "m needs 50 bytes of RAM and stack, more than 49"


def test_without_toolchains_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_artefact(tmp_path / "small", int_mlp(4, 8, 3), OBS, {})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for row in PROCESSORS:
        assert f"{row.name} needs a compiler: " in (row.lacks_compiler() or "")
    export(tmp_path / "small", ("aarch64", "cortex-m4"), tmp_path / "build")
    skipped = verify_build(tmp_path / "build", observations=0).skipped
    assert "apt install gcc-arm-none-eabi" in skipped["cortex-m4"]
    found, missing = footprints(int_mlp(4, 8, 3), OBS)
    assert not found
    assert "pip install ziglang" in missing["aarch64"]
    with pytest.raises(NoCompilerError):
        footprint("aarch64", int_mlp(4, 8, 3), OBS)
    with pytest.raises(ConfigError, match="not measured for 'c'"):
        footprint("c", int_mlp(4, 8, 3), OBS)


def test_code_that_does_not_compile_is_said_in_one_line(tmp_path: Path) -> None:
    skip_without("aarch64")
    row, graph = TARGETS["aarch64"], int_mlp(4, 8, 3)
    files = {name: data + b"\nnonsense" for name, data in row.emit(Source(graph), "net", row.options()).items()}
    with pytest.raises(CompileError, match=r"refused the code: .*error"):
        row.open(Source(graph), files, "net", tmp_path)


def test_a_folder_of_a_build_is_renewed_and_leaves_nothing(tmp_path: Path) -> None:
    save_artefact(tmp_path / "small", int_mlp(4, 8, 3), OBS, {})
    build = tmp_path / "build"
    export(tmp_path / "small", ("aarch64", "cortex-m4"), build)
    export(tmp_path / "small", ("cortex-m4",), build)
    assert not (build / "aarch64").exists()
    (build / "cortex-m4" / "policy.c").write_text("")
    with pytest.raises(FileError, match="was changed after the export"):
        load_build(build)


@pytest.mark.parametrize("file", ["../policy.c", "a/../policy.c", "a//b", "/tmp/policy.c", "a/..", ".a/b"])
def test_a_manifest_cannot_name_files_outside(file: str, tmp_path: Path) -> None:
    save_artefact(tmp_path / "small", int_mlp(4, 8, 3), OBS, {})
    export(tmp_path / "small", ("aarch64",), tmp_path / "build")
    manifest = tmp_path / "build" / "build.json"
    content = json.loads(manifest.read_text())
    content["files"] = {file: ""}
    manifest.write_text(json.dumps(content))
    with pytest.raises(FileError, match="outside the build"):
        load_build(tmp_path / "build")


@pytest.mark.targets
@pytest.mark.parametrize(("name", "magic"), [("windows", b"\x64\x86"), ("macos", b"\xcf\xfa\xed\xfe")])
def test_objects_for_systems_that_are_not_run(name: str, magic: bytes, tmp_path: Path) -> None:
    [row] = [row for row in PROCESSORS if row.name == name]
    if why := row.lacks_compiler():
        pytest.skip(why)
    save_artefact(tmp_path / "small", int_mlp(4, 8, 3), OBS, {})
    export(tmp_path / "small", (name,), tmp_path / "build")
    assert (tmp_path / "build" / name / "policy.o").read_bytes().startswith(magic)
    assert "compiled only" in verify_build(tmp_path / "build", observations=0).skipped[name]


@pytest.mark.targets
@pytest.mark.parametrize(
    "row", [row for row in PROCESSORS if row.emulator and len(row.compilers) > 1], ids=lambda row: row.name
)
def test_zig_alone_suffices(row: Processor, tmp_path: Path) -> None:
    if row.emulator is None or not row.emulator.here or not row.compilers[1].here:
        pytest.skip("needs ziglang and the emulator")
    target, graph = made(replace(row, compilers=row.compilers[1:])), int_mlp(4, 40, 3)
    runs = target.open(Source(graph), target.emit(Source(graph), "net", target.options()), "net", tmp_path)
    result = verify(graph, make_golden(graph, OBS), runs, observations=500)
    assert (result.checked, result.mismatches) == (530, 0), result
    assert target.footprint is not None
    measured = target.footprint(graph, None, OBS, tmp_path)
    assert measured.compiler.startswith("zig cc")
    assert 300 < measured.text_bytes < 6000


@pytest.mark.parametrize(
    ("graph", "flash", "ram"), [(mlp(4, 2), 250, 64), (mlp(8, 4), 400, 96), (int_mlp(8, 4), 500, 128)]
)
def test_small_policies_stay_small_on_a_cortex_m4(graph: Graph, flash: int, ram: int) -> None:
    """Linear policies of CartPole and LunarLander, mark included; double in software alone took 1.7 kB."""
    skip_without("cortex-m4")
    found = footprint("cortex-m4", graph, random_obs(np.random.default_rng(0), graph, 8))
    assert exceeded([found], flash, ram) is None


def test_a_compiler_that_comes_later_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missing once is looked for again."""
    if find_compiler() is None:
        pytest.skip("needs a C compiler")
    with monkeypatch.context() as without:
        without.setattr(emulator, "find_compiler", lambda: None)
        assert emulator.qemu_counter() is None
    assert emulator.qemu_counter() is not None


def test_an_avr_has_to_hold_the_action_values_beside_the_policy() -> None:
    """Activations of 10 kB would fit into its 16 kB alone; a program that asks for 2,500 floats would run wild."""
    graph, row = mlp(2, 1, 2_500), TARGETS["avr"]
    with pytest.raises(UnsupportedOpError, match=r"avr .*takes 21,040 bytes of RAM"):
        row.emit(Source(graph), "policy", row.options())


def test_an_arduino_library_runs_on_the_boards_that_hold_it(tmp_path: Path) -> None:
    skip_without("avr")
    skip_without("cortex-m4")
    arduino = TARGETS["arduino"]
    for graph, boards in ((mlp(2, 1, 3), 2), (mlp(2, 1, 2_500), 1)):
        place = tmp_path / str(boards)
        place.mkdir()
        runs = arduino.open(Source(graph), arduino.emit(Source(graph), "policy", arduino.options()), "policy", place)
        assert len(runs) == boards, list(runs)
