"""Pages of the site that show what stands elsewhere in the repository, and links that lead there.

A line that is a link with the title "include" is replaced by the file, or by the section of it that its anchor names:

    [README.md](../README.md#results "include")

Where pages are read without the site it is a link as any other.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INCLUDE = re.compile(r'^\[[^\]]*\]\((\S+) "include"\)$', re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# which page shows a file of the repository
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "bevfusion/attention/README.md": "attention.md",
    "bevfusion/ros/README.md": "ros.md",
}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """What mkdocs asks of every page, before it is rendered."""
    return assembled(markdown, page.file.src_uri)


def assembled(markdown: str, page: str) -> str:
    """A page with what it includes.

    Args:
        markdown: as it is written.
        page: its path below docs/.

    Raises:
        ValueError: if a file or a section that it includes is not there.
    """
    source = posixpath.join("docs", page)
    parts, end = [], 0
    for found in INCLUDE.finditer(markdown):
        parts.append(relinked(markdown[end : found.start()], source, page))
        name, _, anchor = found[1].partition("#")
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), name))
        text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
        included = section(text, anchor) if anchor else text
        if not included:
            raise ValueError(f"{source}: nothing to include at {found[1]}")
        parts.append(relinked(included, path, page))
        end = found.end()
    return "".join([*parts, relinked(markdown[end:], source, page)])


def section(text: str, anchor: str) -> str:
    """From the heading with an anchor to the next of its level or above; empty if there is none."""
    lines, level, kept = text.splitlines(keepends=True), 0, []
    fenced = False
    for line in lines:
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) +(.+)", line)
        if heading and level and len(heading[1]) <= level:
            break
        if heading and not level and slug(heading[2]) == anchor:
            level = len(heading[1])
        if level:
            kept.append(line)
    return "".join(kept)


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def relinked(text: str, source: str, page: str) -> str:
    """Text of a file of the repository with links that work on a page; to files that no page shows there is none."""

    def replaced(found: re.Match[str]) -> str:
        image, label, target = found.groups()
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name)) if name else source
        shown = path.removeprefix("docs/") if path.startswith("docs/") else PAGES.get(path)
        if shown is None:
            return label if image else f"{label} (`{path}`)"
        there = posixpath.relpath(shown, posixpath.dirname(page) or ".") if shown != page else ""
        return f"{image}[{label}]({there}{'#' + anchor if anchor else ''})"

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(replaced, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(replaced, text[end:])])
