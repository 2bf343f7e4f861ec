"""The C learners on their own: every vector width computes the same; sanitizers find nothing."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

NATIVE = Path(__file__).parents[2] / "src" / "nimbleq" / "native"
LINES = {"learner": 40, "distill": 40}
"""Folder of `NATIVE`, compiled without its module.c, with a driver here → lines that the driver prints."""
COMPILER = shutil.which("gcc") or shutil.which("cc")
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unknown-pragmas", "-Werror"]
WIDTHS = {"x86-64-v3": "avx2", "x86-64-v4": "avx512f"}  # 8 and 16 lanes, and what runs them; x86-64 has 4

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the -march names are x86's"),
]


def cpu_has(flag: str) -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and flag in info.read_text()


def build(folder: str, tmp_path: Path, march: str, *flags: str) -> Path:
    program = tmp_path / march
    driver = Path(__file__).parent / f"{folder}_driver.c"
    sources = [str(path) for path in (NATIVE / folder).glob("*.c") if path.name != "module.c"]
    command = [
        str(COMPILER),
        f"-march={march}",
        *WARNINGS,
        *flags,
        f"-I{NATIVE / folder}",
        *sources,
        driver,
        "-pthread",
        "-lm",
        "-o",
        program,
    ]
    subprocess.run(command, check=True)
    return program


def run(program: Path) -> np.ndarray:
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    return np.array([line.split() for line in done.stdout.splitlines()], np.float64)


@pytest.mark.long
@pytest.mark.parametrize("folder", LINES)
def test_all_vector_widths_agree(folder: str, tmp_path: Path) -> None:
    plain = run(build(folder, tmp_path, "x86-64", "-O1"))
    assert plain.shape == (LINES[folder], 2)
    assert np.isfinite(plain).all()
    for march, needs in WIDTHS.items():
        program = build(folder, tmp_path, march, "-O1")
        if cpu_has(needs):
            assert run(program) == pytest.approx(plain, rel=1e-4, abs=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("folder", LINES)
def test_sanitizers_are_silent(folder: str, tmp_path: Path) -> None:
    """Unoptimised: unrolled code under sanitizers takes minutes to compile."""
    run(build(folder, tmp_path, "x86-64", "-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"))
