"""Tables between marks in the README."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def into_readme(name: str, table: str) -> None:
    """Put ``table`` between ``<!-- name: … -->`` and ``<!-- /name -->``."""
    text = README.read_text()
    before, rest = text.split(f"<!-- {name}:", 1)
    mark, rest = rest.split("\n", 1)
    _, after = rest.split(f"<!-- /{name} -->", 1)
    README.write_text(f"{before}<!-- {name}:{mark}\n{table.strip()}\n<!-- /{name} -->{after}")
