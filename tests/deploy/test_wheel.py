"""One wheel for every processor: built, installed, run here, and on a processor without AVX in an emulator."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nimbleq.deploy.toolchain import find_compiler
from nimbleq.native import EXTENSIONS

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.targets,
    pytest.mark.skipif(
        platform.machine() != "x86_64" or find_compiler() is None, reason="needs a C compiler for x86-64"
    ),
]
PROGRAM = """
import importlib
import numpy as np
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.interpret import interpret
from nimbleq.native import EXTENSIONS, _cpu, _runtime
from tests.deploy.nets import int_conv, int_mlp, mlp
from tests.strategies import random_obs
print(",".join(_cpu.levels()) or "none", _runtime.isas()[0])
for graph in (mlp(4, 64, 64, 2), int_mlp(4, 64, 64, 2), int_conv()):
    obs = random_obs(np.random.default_rng(0), graph, 30)
    policy, want = Runtime(graph, "prebuilt"), interpret(graph, obs)
    actions, q = policy.decider.run(obs)
    assert (actions == want["action"]).all() and np.allclose(q, want["q"], atol=1e-4), policy.status
for name in EXTENSIONS:
    print(name, importlib.import_module(f"nimbleq.native.{name}").__file__.split("native/")[1].split(".")[0])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, alone."""
    folder = tmp_path_factory.mktemp("wheel")
    pip, quiet = [sys.executable, "-m", "pip"], ["--quiet", "--disable-pip-version-check", "--no-deps"]
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "runs", "*.so", "*.egg-info"))
    subprocess.run([*pip, "wheel", *quiet, "--no-build-isolation", "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *quiet, "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def run(installed: Path, *emulator: str) -> dict[str, str]:
    """The first words of the program's lines → the second ones."""
    numpy = Path(np.__file__).parents[1]
    path = os.pathsep.join(map(str, (installed, ROOT, numpy)))
    python = str(Path(sys.executable).resolve())
    command = [*emulator, python, "-c", f"import sys; sys.path[:0] = {path.split(os.pathsep)!r}\n{PROGRAM}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HOME": os.environ.get("HOME", "/")}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split() for line in done.stdout.splitlines())


def test_it_takes_the_best_that_this_processor_can_run(installed: Path) -> None:
    from nimbleq.native import _cpu

    said = run(installed)
    best = _cpu.levels()[:1]
    assert (",".join(_cpu.levels()) or "none") in said
    for name in ("_learner", "_distill", "_replay", "_robust", "_envs"):
        assert said[name] == "/".join([*best, name])


@pytest.mark.parametrize("processor", ["Nehalem", "SandyBridge"])
def test_it_runs_on_a_processor_without_avx2(processor: str, installed: Path) -> None:
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("needs qemu-user")
    said = run(installed, "qemu-x86_64", "-cpu", processor)
    assert said.pop("none") == "portable"
    assert said == {name: name for name in EXTENSIONS}


def test_it_takes_the_middle_one_on_a_processor_of_2013(installed: Path) -> None:
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("needs qemu-user")
    said = run(installed, "qemu-x86_64", "-cpu", "Haswell")
    assert said["x86_64_v3"] == "avx2"
    assert said["_learner"] == "x86_64_v3/_learner"
