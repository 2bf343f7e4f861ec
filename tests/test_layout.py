"""The layout of DESIGN: who may import whom, and what must not import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "nimbleq"

SHARED = {"errors", "types", "files", "version", "seeds", "stopping"}
ALLOWED = {
    "graph": {"graph"},
    "bridge": {"bridge", "graph"},
    "compress": {"compress", "bridge", "graph"},
    "deploy": {"deploy", "graph", "native"},
    "native": {"native"},
    "config": {"config"},
    "rl": {"rl", "bridge", "config", "log", "wandb_log", "native", "graph", "rundir"},
    "report": {"report", "graph", "rundir"},
}
TORCH_ROOMS = {"rl", "bridge"}
TORCH_FILES = {"compress/passes/fit.py", "compress/passes/finetune.py", "log.py"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "nimbleq")
    return names


FILES = sorted(SRC.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SRC).as_posix())
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    room = path.relative_to(SRC).parts[0].removesuffix(".py")
    if room not in ALLOWED:
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("nimbleq.")}
    assert used <= ALLOWED[room] | SHARED, f"{room} may not import {used - ALLOWED[room] - SHARED}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SRC).as_posix())
def test_torch_lives_in_its_rooms(path: Path) -> None:
    relative = path.relative_to(SRC)
    if any(name.split(".")[0] == "torch" for name in imports(path)):
        assert relative.parts[0] in TORCH_ROOMS or relative.as_posix() in TORCH_FILES


@pytest.mark.parametrize(
    "code",
    [
        "import nimbleq",
        "import nimbleq.cli; nimbleq.cli.main(['--help'])",
        "import nimbleq.deploy.runtime",
        "import nimbleq.graph.artefact",
        "import nimbleq.report.page",
        "import nimbleq.rl.envs.batch, nimbleq.rl.training.evaluate",
    ],
)
def test_no_torch_where_none_is_needed(code: str) -> None:
    program = f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_surface_is_narrow() -> None:
    import nimbleq

    assert len(nimbleq.__all__) <= 15
    for name in nimbleq.__all__:
        assert getattr(nimbleq, name).__doc__ or name == "__version__"
