"""The hooks of mkdocs: the README is the home page, and what pages link to in the repository is part of the site.

A file of ``docs/`` stands in the site where it stands there, every other one where it stands in the repository; so
links work in both. A linked page is a page of the site; any other linked file is copied as it is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
HOMES = ("README.md", "README.zh.md")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
"""The file of a link; not an address, and not a place in the same page."""
CHINESE = {"Start": "入门", "Train": "训练", "Compress": "压缩", "Run": "运行", "Fields": "领域", "Reference": "参考"}


def in_site(path: str) -> str:
    """Where a file of the repository stands in the site."""
    return path.removeprefix("docs/")


def in_repository(uri: str) -> str:
    """Where a file of the site stands in the repository."""
    return f"docs/{uri}" if (ROOT / "docs" / uri).exists() else uri


def target(page: str, link: str) -> str:
    """The file of the repository that ``page``, also a path in the repository, links to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def linked(page: str) -> Iterator[str]:
    """Files of the repository that a page of it links to."""
    for link in LINK.findall((ROOT / page).read_text()):
        path = target(page, link)
        if not (ROOT / path).is_file():
            raise PluginError(f"{page}: no file {link}")
        yield path


def chinese(nav: Iterable[Any]) -> Iterator[Any]:
    """The same pages in Chinese, those that there are."""
    for entry in nav:
        if isinstance(entry, dict):
            for title, pages in entry.items():
                if found := list(chinese(pages)):
                    yield {CHINESE[title]: found}
        elif (ROOT / "docs" / "zh" / entry).exists():
            yield f"zh/{entry}"


def generated(path: str, config: MkDocsConfig, inclusion: InclusionLevel = InclusionLevel.UNDEFINED) -> File:
    """A file of the repository that is not in ``docs/``."""
    return File.generated(config, in_site(path), abs_src_path=str(ROOT / path), inclusion=inclusion)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the Chinese pages to the navigation."""
    home = [{"首页": page} for page in HOMES[1:] if (ROOT / page).exists()]
    if pages := home + list(chinese(config.nav or [])):
        config.nav = [*(config.nav or []), {"中文": pages}]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the home pages, and what pages link to, what these link to, and so on."""
    waiting = [page for page in HOMES if (ROOT / page).exists()]
    for page in waiting:
        files.append(generated(page, config))
    waiting += [in_repository(file.src_uri) for file in files.documentation_pages() if file.src_uri not in HOMES]
    while waiting:
        for path in linked(waiting.pop()):
            if files.get_file_from_path(in_site(path)) is None:
                files.append(generated(path, config, InclusionLevel.NOT_IN_NAV))
                if PurePosixPath(path).suffix == ".md":
                    waiting.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between files of the site."""
    here = in_repository(page.file.src_uri)
    start = posixpath.dirname(page.file.src_uri) or "."
    return LINK.sub(lambda link: posixpath.relpath(in_site(target(here, link[0])), start), markdown)
