"""The site: its API reference has every public name with its docstring, and it builds without a warning.

Building needs the extra ``docs``, which `make docs` installs.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import nimbleq
from nimbleq.compress import certify
from nimbleq.serve import loop

ROOT = Path(__file__).parents[1]
REFERENCE = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "api.md").read_text(), re.MULTILINE)
SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:")
VERSION = "nimbleq.__version__"
"""Text without a docstring; the page says what it is."""
INSIDE = ("nimbleq.cli.", "nimbleq.files.")
"""What examples use of the command line itself."""


def found(name: str) -> tuple[str, object] | None:
    """The module of a dotted name and what the name stands for in it; None: a module, or nothing."""
    module, _, last = name.rpartition(".")
    try:
        return module, getattr(importlib.import_module(module), last)
    except (ModuleNotFoundError, AttributeError):
        return None


def summary(name: str) -> str:
    """The first line of the docstring: of a class or function its own, of a value the text after its assignment."""
    place = found(name)
    assert place, f"docs/reference/api.md: there is no {name}"
    module, value = place
    if inspect.isclass(value) or inspect.isfunction(value):
        text = value.__doc__ or ""
        assert not text.startswith(f"{value.__name__}("), f"{name} has no docstring of its own"
    else:
        text = docstring_of_value(module, name.rpartition(".")[2])
    return inspect.cleandoc(text).split("\n")[0]


def docstring_of_value(module: str, name: str) -> str:
    """Of the module in which it is defined."""
    body = ast.parse(Path(importlib.import_module(module).__file__ or "").read_text()).body
    for one, two in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(one, ast.ImportFrom) and name in [alias.name for alias in one.names]:
            return docstring_of_value(str(one.module), name)
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        if name in [target.id for target in targets if isinstance(target, ast.Name)]:
            text = two.value.value if isinstance(two, ast.Expr) and isinstance(two.value, ast.Constant) else ""
            return str(text)
    return ""


def exported() -> set[str]:
    """By the package and by the rooms that the pages lead to."""
    rooms = {"nimbleq": nimbleq, "nimbleq.compress.certify": certify, "nimbleq.serve.loop": loop}
    return {f"{room}.{name}" for room, module in rooms.items() for name in module.__all__} - {VERSION}


def promised() -> set[str]:
    """Names that the pages and the examples use, and the classes behind them."""
    names: set[str] = set()
    for path in [*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.py")]:
        text = path.read_text()
        names.update(re.findall(r"\bnimbleq(?:\.\w+)+", text))
        for module, imported in re.findall(r"from (nimbleq[\w.]*) import ([\w, ]+)", text):
            names.update(f"{module}.{name.strip()}" for name in imported.split(","))
    return {name for name in names if not name.startswith(INSIDE) and documentable(name)} - {VERSION}


def documentable(name: str) -> bool:
    """A class, function or table; type aliases are explained where they are used."""
    place = found(name)
    return place is not None and (
        inspect.isfunction(place[1]) or inspect.isclass(place[1]) or isinstance(place[1], dict | tuple)
    )


def same(name: str) -> object:
    """What identifies a thing that has several names."""
    place = found(name)
    return None if place is None else id(place[1])


def test_the_reference_has_every_public_name() -> None:
    assert len(REFERENCE) == len(set(REFERENCE)), "a name is there twice"
    there = {same(name) for name in REFERENCE}
    missing = sorted(name for name in exported() | promised() if same(name) not in there)
    assert not missing, f"exported, or promised by a page or an example, but not in docs/reference/api.md: {missing}"


@pytest.mark.parametrize("name", REFERENCE)
def test_a_public_name_says_what_it_is(name: str) -> None:
    if name.startswith("nimbleq.serve.client."):
        pytest.importorskip("iceoryx2")
    line = summary(name)
    assert line, f"{name} has no docstring"
    assert line not in SECTIONS, f"{name}: its docstring begins without a line of purpose"


def plain(text: str) -> str:
    """A docstring, or the text of a page, without the marks of Markdown."""
    return " ".join(re.sub(r"[`*]", "", text).split())


def text_of(page: str) -> str:
    """What a person reads of a page."""
    return unescape(re.sub(r"<[^>]+>", "", page))


def test_the_site_builds_and_shows_every_docstring(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings_handlers.python")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "reference" / "api.html").read_text()
    for name in REFERENCE:
        _, _, after = page.partition(f'id="{name}"')
        assert plain(summary(name)) in plain(text_of(after[:20_000])), f"{name}: its docstring is not on the page"
    for html in tmp_path.rglob("*.html"):
        outside = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', html.read_text())
        assert not outside, f"{html.name} loads from the network: {outside}"
