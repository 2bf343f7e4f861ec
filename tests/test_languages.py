"""README.md and docs/*.md, and the same pages in Chinese: what needs no translation is the same, block by block."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

from benchmarks.chinese import chinese_page, in_chinese
from benchmarks.tables import into_page

ROOT = Path(__file__).parents[1]
ENGLISH = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BOTH = [page for page in ENGLISH if chinese_page(page).exists()]

LINK = re.compile(r"(!?)\[(?:[^\]]*)\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`]+)`")
FIGURE = re.compile(r"\d(?:[\d,.]*\d)?")
COMMENT = re.compile(r"/\*.*?\*/|(?:^|\s)#.*$")


@dataclass(frozen=True)
class Block:
    """Lines of a page between two blank ones, a heading, a piece of code, or what a benchmark writes.

    Attributes:
        kind: ``heading 2``, ``code``, ``table``, ``written``, ``list of 3`` or ``text``.
        under: the heading above.
        line: number of the first line in its file.
    """

    kind: str
    under: str
    line: int
    text: str


def blocks(text: str) -> Iterator[Block]:
    """Of a page, from top to bottom."""
    lines, at, under = text.split("\n"), 0, "(top)"

    def until(end: int) -> str:
        return "\n".join(lines[at:end])

    while at < len(lines):
        line, end = lines[at], at + 1
        if not line.strip():
            at = end
            continue
        if heading := re.match(r"(#+) ", line):
            kind, under = f"heading {len(heading[1])}", line.lstrip("# ")
        elif mark := re.match(r"<!-- (\w+):", line):
            kind, end = "written", lines.index(f"<!-- /{mark[1]} -->", at) + 1
        elif line.startswith("```"):
            kind, end = "code", lines.index("```", end) + 1
        elif line.startswith("    "):
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end]):
                end += 1
            kind = "code"
        else:
            while end < len(lines) and lines[end].strip() and not lines[end].startswith(("```", "<!--", "#")):
                end += 1
            items = len(re.findall(r"^(?:- |\d+\. )", until(end), re.MULTILINE))
            kind = "table" if line.startswith("|") else f"list of {items}" if items else "text"
        yield Block(kind, under, at + 1, until(end))
        at = end


def code(text: str) -> list[str]:
    """Its lines without comments."""
    return [COMMENT.sub("", line).rstrip() for line in text.strip().split("\n")]


def cells(table: str) -> list[list[str]]:
    """Rows of cells; a bar inside of a code span is none."""
    rows = [SPAN.sub(lambda span: span[0].replace("|", "¦"), row) for row in table.split("\n")]
    return [row.strip("|").split("|") for row in rows]


def facts(text: str, page: Path) -> dict[str, Counter[str]]:
    """What a piece of text holds that is the same in every language; links as files and addresses."""
    links = [(bool(image), target) for image, target in LINK.findall(text)]
    plain = LINK.sub(lambda link: link[0].split("](")[0], text)
    return {
        "inline code": Counter(" ".join(span.split()) for span in SPAN.findall(plain)),
        "figures": Counter(FIGURE.findall(SPAN.sub("", plain))),
        "links": Counter(place(target, page) for image, target in links if not image),
        "images": Counter(place(target, page) for image, target in links if image),
    }


def place(target: str, page: Path) -> str:
    """An address as it is; of a file, its English form from the root of the repository."""
    if "://" in target:
        return target
    file = (page.parent / target).resolve()
    assert file.exists(), f"{page.relative_to(ROOT)}: no file {target}"
    english = {chinese_page(other).resolve(): other for other in ENGLISH}
    return str(english.get(file, file).relative_to(ROOT))


def differences(page: Path, english: str, chinese: str) -> Iterator[str]:
    """What does not correspond, a line each; up to the first block of another kind."""
    other = chinese_page(page)
    where_english = page.relative_to(ROOT)
    for one, two in zip_longest(blocks(english), blocks(chinese)):
        if one is None or two is None:
            left, name = (one, where_english) if one else (two, other.relative_to(ROOT))
            yield f"{name}:{left.line}: {left.kind} under “{left.under}” is in this page only"
            return
        where = f"{other.relative_to(ROOT)}:{two.line} (“{two.under}”), for {where_english}:{one.line}"
        if one.kind != two.kind:
            yield f"{where}: {two.kind}, should be {one.kind}"
            return
        if one.kind == "code" and code(one.text) != code(two.text):
            pairs = zip_longest(code(one.text), code(two.text))
            yield f"{where}: code differs: " + next(f"{b!r}, should be {a!r}" for a, b in pairs if a != b)
        elif one.kind == "written" and in_chinese(one.text) != two.text:
            yield f"{where}: not what the benchmark wrote into the English page; `python -m benchmarks.run --tables`"
        elif one.kind == "table":
            yield from table_differences(where, one.text, two.text, page)
        elif one.kind not in ("code", "written"):
            yield from fact_differences(where, one.text, two.text, page)


def table_differences(where: str, english: str, chinese: str, page: Path) -> Iterator[str]:
    """Of two tables, cell by cell."""
    ones, twos = cells(english), cells(chinese)
    shapes = [[len(row) for row in rows] for rows in (ones, twos)]
    if shapes[0] != shapes[1]:
        yield f"{where}: columns of each row {shapes[1]}, should be {shapes[0]}"
        return
    for number, (row, other) in enumerate(zip(ones, twos, strict=True), 1):
        for a, b in zip(row, other, strict=True):
            yield from fact_differences(f"{where}, row {number}", a, b, page)


def fact_differences(where: str, english: str, chinese: str, page: Path) -> Iterator[str]:
    """Of two pieces of text."""
    ones, twos = facts(english, page), facts(chinese, chinese_page(page))
    for what in ones:
        lost, more = ones[what] - twos[what], twos[what] - ones[what]
        if what == "figures":  # English writes small numbers as words
            more = Counter({figure: count for figure, count in more.items() if len(figure) > 1})
        if lost or more:
            yield f"{where}: {what}: lost {sorted(lost)}, added {sorted(more)}"


def body(page: Path) -> str:
    """Of the README without the line that leads to the other language (which stays a line)."""
    text = page.read_text()
    return "\n" + text.split("\n", 1)[1] if page.stem.startswith("README") else text


def test_every_page_is_in_both_languages() -> None:
    missing = {page.name for page in ENGLISH if page not in BOTH}
    assert not missing, f"not in Chinese (docs/zh/NAME.md): {sorted(missing)}"
    lost = {page.name for page in (ROOT / "docs" / "zh").glob("*.md")} - {page.name for page in ENGLISH}
    assert not lost, f"Chinese pages without an English one: {sorted(lost)}"


def test_the_readmes_lead_to_each_other() -> None:
    assert (ROOT / "README.md").read_text().startswith("English | [中文](README.zh.md)\n")
    assert (ROOT / "README.zh.md").read_text().startswith("[English](README.md) | 中文\n")


@pytest.mark.parametrize("page", BOTH, ids=lambda page: page.stem)
def test_a_page_says_the_same_in_both_languages(page: Path) -> None:
    found = list(differences(page, body(page), body(chinese_page(page))))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("page", BOTH, ids=lambda page: page.stem)
def test_a_chinese_page_is_in_chinese(page: Path) -> None:
    """Every heading and every paragraph."""
    for block in blocks(body(chinese_page(page))):
        if block.kind in ("code", "written", "table") or LINK.sub("", block.text).strip() in ("", "# nimbleq"):
            continue
        assert re.search(r"[\u4e00-\u9fff]", block.text), f"{chinese_page(page).name}:{block.line}: {block.text[:60]}"


ORIGINAL = """# Title

Takes `--keep 0.99` and 20 seeds ([words](words.md)).

    nimbleq compress runs/ll   # go

| a | `b` |
|---|---|
| 1 | 2.5 |
"""
TRANSLATED = """# 标题

20 个种子，`--keep 0.99`（[术语](words.md)）。

    nimbleq compress runs/ll   # 开始

| 甲 | `b` |
|---|---|
| 1 | 2.5 |
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("标题", "标题", None),
        ("# 标题", "## 标题", "heading 2, should be heading 1"),
        ("--keep 0.99", "--keep 0.9", "inline code: lost ['--keep 0.99'], added ['--keep 0.9']"),
        ("20 个", "30 个", "figures: lost ['20'], added ['30']"),
        ("words.md", "tune.md", "links: lost ['docs/words.md'], added ['docs/tune.md']"),
        ("compress", "certify", "code differs"),
        ("| 1 | 2.5 |", "| 1 | 3.5 |", "row 3: figures: lost ['2.5'], added ['3.5']"),
        ("| 1 | 2.5 |\n", "", "columns of each row [2, 2], should be [2, 2, 2]"),
        ("2.5 |\n", "2.5 |\n\n多余的一段。", "is in this page only"),
    ],
)
def test_a_difference_is_told(old: str, new: str, told: str | None) -> None:
    found = list(differences(ROOT / "docs" / "compress.md", ORIGINAL, TRANSLATED.replace(old, new)))
    assert (told is None and not found) or (told is not None and [told in line for line in found] == [True]), found


def test_what_a_benchmark_writes_is_put_into_both_pages(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    chinese_page(page).parent.mkdir(parents=True)
    for each in (page, chinese_page(page)):
        each.write_text("# 1\n<!-- cost: written by x -->\nold\n<!-- /cost -->\n# 2\n")
    into_page(page, "cost", "| size | MACs |\n")
    for each, word in ((page, "size"), (chinese_page(page), "大小")):
        text = f"# 1\n<!-- cost: written by x -->\n| {word} | MACs |\n<!-- /cost -->\n# 2\n"
        assert each.read_text() == text


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("| network | x |\n|---|---|", "| 网络 | x |\n|---|---|"),
        ("| not measured yet | a network | |", "| 尚未测量 | a network | |"),
        ("| CartPole-v1 to 475, stepping envpool |", "| CartPole-v1 达到 475，用 envpool 步进 |"),
        ("| SB3 DQN 14.3 s (4 of 5 seeds) | 1 |", "| SB3 DQN 14.3 s（5 个种子中 4 个达到） | 1 |"),
        ("| teacher, seed0 | 0.8 |  |", "| 教师，种子 0 | 0.8 |  |"),
        ("| 97.9% (96.4% to 98.8%) | 10.0 of 10 |", "| 97.9%（96.4% 到 98.8%） | 10.0/10 |"),
        (
            "merge-v0, always faster: 9.51 in highway-env, 9.48 in envpool, -0.4 standard errors apart.",
            "merge-v0，始终加速：highway-env 中为 9.51，envpool 中为 9.48，相差 -0.4 个标准误。",
        ),
        (
            "NASDAQ: 0 of 5 policies are better than holding beyond chance, 1 are worse; probability of overfitting "
            "(the best) 0.50.",
            "NASDAQ：5 个策略中，0 个显著优于持有，1 个显著劣于持有；过拟合概率"
            "（在一半交易日上最好的种子，在另一半上处于或低于中位数）为 0.50。",
        ),
        ("From [a.md](../benchmarks/results/a.md).", "取自 [a.md](../../benchmarks/results/a.md)。"),
        ("Published, not measured here:", "已发表、未在此测量的数据："),
    ],
)
def test_a_table_in_chinese(english: str, chinese: str) -> None:
    assert in_chinese(english) == chinese
