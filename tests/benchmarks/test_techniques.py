"""docs/techniques.md: it shows what the results say now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.techniques import EXCERPTS, PAGE, Excerpt, excerpt

TEXT = PAGE.read_text()


@pytest.mark.parametrize("name", EXCERPTS)
def test_the_page_is_up_to_date(name: str) -> None:
    [shown] = re.findall(rf"<!-- {name}: .*?-->\n(.*?)\n<!-- /{name} -->", TEXT, re.DOTALL)
    assert shown == excerpt(EXCERPTS[name]), "run: python -m benchmarks.run --tables"


def test_every_mark_is_written() -> None:
    assert set(re.findall(r"<!-- (\w+):", TEXT)) == set(EXCERPTS)


def test_every_technique_has_a_command_and_a_result() -> None:
    for section in TEXT.split("\n## ")[1:]:
        title = section.split("\n")[0]
        assert re.search(r"^ {4}nimbleq ", section, re.MULTILINE), f"{title}: no command"
        assert "<!-- /" in section, f"{title}: no result"


RESULT = """# Times

| a | b | c |
|---|---|---|
| top | 1 | 2 |

## Second of them

| name | µs | bytes |
|---|---|---|
| one | 3 | 4 |
| two | not measured yet | |
| three | 5 | 6 |

## Third

Nothing here.
"""


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Excerpt("times"), "| a | b | c |\n|---|---|---|\n| top | 1 | 2 |"),
        (
            Excerpt("times", ("three", "one"), ("bytes",), "Second"),
            "| name | bytes |\n|---|---|\n| three | 6 |\n| one | 4 |",
        ),
        (
            Excerpt("times", ("one", "two", "four"), (), "Second"),
            "| name | µs | bytes |\n|---|---|---|\n| one | 3 | 4 |\n| two | not measured yet |  |\n"
            "| four | not measured yet |  |",
        ),
        (Excerpt("times", ("two",), (), "Second"), "not measured yet: `python -m benchmarks.run times`"),
        (Excerpt("times", section="Third"), "not measured yet: `python -m benchmarks.run times`"),
        (Excerpt("times", section="Fourth"), "not measured yet: `python -m benchmarks.run times`"),
        (Excerpt("none"), "not measured yet: `python -m benchmarks.run none`"),
    ],
)
def test_rows_of_a_table(wanted: Excerpt, shown: str, tmp_path: Path) -> None:
    (tmp_path / "times.md").write_text(RESULT)
    source = "" if shown.startswith("not") else "\n\nFrom [times.md](../benchmarks/results/times.md)."
    assert excerpt(wanted, tmp_path) == shown + source


def test_columns_and_rows_of_one_name(tmp_path: Path) -> None:
    table = "| a | b | b |\n|---|---|---|\n| x | 1 | 2 |\n| x | 3 | 4 |"
    (tmp_path / "twice.md").write_text(table)
    assert excerpt(Excerpt("twice"), tmp_path).startswith(f"{table}\n\nFrom")
    with pytest.raises(ValueError, match="2 columns are called 'b'"):
        excerpt(Excerpt("twice", columns=("b",)), tmp_path)
    with pytest.raises(ValueError, match="2 rows are called 'x'"):
        excerpt(Excerpt("twice", rows=("x",)), tmp_path)
