"""The layout of DESIGN: who may import whom, no circles, and what must not import torch.

Every import counts: also those inside functions, under ``TYPE_CHECKING``, by ``import_module("nimbleq…")`` and by the
rows of a `Table`.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from nimbleq.cli import EXTRAS

SRC = Path(__file__).parents[1] / "src" / "nimbleq"

SHARED = {"errors", "types", "files", "version", "seeds", "stopping", "table", "cma", "figures"}
"""Files that every room may import. What these may import themselves stands in `ALLOWED`, like every other file."""
ALLOWED: dict[str, set[str]] = {
    "graph": SHARED,
    "native": SHARED,
    "config": SHARED,
    "bridge": SHARED | {"graph"},
    "compress": SHARED | {"bridge", "native", "graph"},
    "deploy": SHARED | {"graph", "native"},
    "serve": SHARED | {"deploy", "graph"},
    "report": SHARED | {"graph", "rundir"},
    "rl": SHARED | {"config", "log", "wandb_log", "native", "graph", "bridge", "rundir"},
    "errors": set(),
    "version": set(),
    "types": set(),
    "stopping": set(),
    "table": set(),
    "figures": set(),
    "streams": set(),
    "files": {"errors"},
    "seeds": {"types"},
    "cma": {"types"},
    "console": {"types"},
    "rundir": {"errors", "files"},
    "wandb_log": {"errors", "files", "config"},
    "log": {"errors", "wandb_log"},
}
"""Room, or file that is in none → what it may import besides itself."""
TOP = {"__init__", "__main__", "cli", "verbs"}
"""These may import everything."""
ALSO_ALLOWED = {"nimbleq.deploy.targets.executorch": {"bridge"}}
"""Folder of a room → rooms that it may import besides."""
TORCH_ROOMS = {"rl", "bridge"}
TORCH_FILES = {
    "compress/passes/fit_torch.py", "compress/passes/hint_torch.py",
    "deploy/targets/executorch/module.py", "deploy/targets/executorch/emit.py",
    "deploy/targets/executorch/target.py",
    "compress/passes/qat_torch.py", "compress/passes/finetune.py",
    "compress/passes/gradients.py", "compress/passes/slim.py", "compress/passes/climb.py", "log.py",
}  # fmt: skip
JAX_PLACES = {"rl/learners/xla", "rl/envs/jax_env.py", "rl/envs/gymnax.py"}
"""The engine ``xla``, and environments in JAX."""


def name_of(path: Path) -> str:
    """``nimbleq.graph.ops`` of ``…/graph/ops/__init__.py``."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(SRC.rglob("*.py"))
MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports; of ``from a import b`` it is ``a.b`` where that is one of ours, else ``a``."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, 0) if module:
                yield from (full if (full := f"{module}.{alias.name}") in MODULES else module for alias in names)
            case ast.ImportFrom():
                raise AssertionError(f"{path}: write imports in full, not relative")
            case ast.Call(
                ast.Name("import_module") | ast.Attribute(_, "import_module"), [ast.Constant(str() as name), *_]
            ):
                yield name
            case ast.Call(ast.Name("Table"), [ast.Dict(_, values)]):
                yield from (place.value.partition(":")[0] for place in values)  # type: ignore[attr-defined]


def room_of(module: str) -> str:
    """``graph`` of ``nimbleq.graph.ops.base``."""
    return module.split(".")[1] if "." in module else "__init__"


def folder_of(module: str) -> str:
    """``rl/envs`` of ``nimbleq.rl.masks``; a file that lies in a room itself stands for itself."""
    return "/".join(MODULES[module].relative_to(SRC).parts[:2])


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules that one of ours imports."""
    return frozenset(imports(path))


@cache
def edges() -> dict[str, set[str]]:
    """The imports between modules of ours."""
    return {name: {used for used in imports_of(path) if used in MODULES} - {name} for name, path in MODULES.items()}


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for after in edges.get(node, ()):
            if after not in number:
                visit(after)
                low[node] = min(low[node], low[after])
            elif after in stack:
                low[node] = min(low[node], number[after])
        if low[node] == number[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            found.extend([sorted(component)] if len(component) > 1 else [])

    for node in edges:
        if node not in number:
            visit(node)
    return found


def merged(group: Mapping[str, str]) -> dict[str, set[str]]:
    """The imports between groups of modules."""
    found: dict[str, set[str]] = {}
    for module, used in edges().items():
        found.setdefault(group[module], set()).update(group[other] for other in used)
    return {name: used - {name} for name, used in found.items()}


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"d", "a"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_kind_of_import_counts(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from nimbleq.graph import ops\n"
        "def f():\n    import nimbleq.cli\n    import_module('nimbleq.types')\n"
        "ROWS = Table({'row': 'nimbleq.rl.masks:ROW'})\n"
    )
    assert sorted(imports(path)) == ["nimbleq.cli", "nimbleq.graph.ops", "nimbleq.rl.masks", "nimbleq.types", "typing"]


def test_no_circle_between_files() -> None:
    assert circles(edges()) == []


def test_no_circle_between_rooms() -> None:
    assert circles(merged({module: room_of(module) for module in MODULES})) == []


def test_no_circle_between_folders_of_a_room() -> None:
    assert circles(merged({module: folder_of(module) for module in MODULES})) == []


def test_a_room_imports_only_the_rooms_below_it() -> None:
    for module, path in MODULES.items():
        room = room_of(module)
        if room in TOP:
            continue
        used = {room_of(name) for name in imports_of(path) if name.split(".")[0] == "nimbleq"} - {room}
        used -= next((more for folder, more in ALSO_ALLOWED.items() if module.startswith(folder)), set())
        assert used <= ALLOWED[room], f"{module}: {room} may not import {used - ALLOWED[room]}"


def importers(*packages: str) -> list[Path]:
    """The files, from `SRC`, that import one of ``packages``."""
    found = [path for path in FILES if {name.split(".")[0] for name in imports_of(path)} & {*packages}]
    return [path.relative_to(SRC) for path in found]


def test_torch_lives_in_its_rooms() -> None:
    for path in importers("torch"):
        assert path.parts[0] in TORCH_ROOMS or path.as_posix() in TORCH_FILES, path


def test_jax_lives_in_its_places() -> None:
    for path in importers("jax", "gymnax"):
        assert {path.as_posix(), path.parent.as_posix()} & JAX_PLACES, path


@pytest.mark.parametrize(
    "code",
    [
        "import nimbleq",
        "import nimbleq.cli; nimbleq.cli.main(['--help'])",
        "import nimbleq.cli; nimbleq.cli.main(['train', '--help'])",
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


def test_every_optional_package_that_is_imported_names_its_extra() -> None:
    project = tomllib.loads((SRC.parents[1] / "pyproject.toml").read_text())["project"]
    always = {re.split(r"[>=\[]", each)[0] for each in project["dependencies"]}
    modules = {name for path in sorted(SRC.rglob("*.py")) for name in _imported(path)}
    optional = {name for name in modules - always - {"nimbleq"} if name not in sys.stdlib_module_names}
    assert optional <= set(EXTRAS), "add it to nimbleq.cli.EXTRAS"
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
