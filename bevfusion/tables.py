"""Numbers and tables as people read them, in reports, on the terminal and in Markdown."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

_UNKNOWN = "–"  # noqa: RUF001 (an en dash is meant)


def number(value: object, digits: int, *, sign: bool = False, unknown: str = _UNKNOWN) -> str:
    """A number with so many digits after the point; `unknown` for None, NaN, infinity and what is no number."""
    if not is_number(value):
        return unknown
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether it can be counted with: neither None nor NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def no_formula(text: str) -> str:
    """Text for a cell of a CSV file that no spreadsheet takes for a formula, wherever the text came from."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def printable(text: str) -> str:
    """Text for a terminal, which obeys control characters: those that are none of white space become `?`."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "---") -> list[str]:
    """The lines of a Markdown table.

    Args:
        titles: of the columns.
        rows: cells as Markdown, as many as there are titles.
        align: rule under all titles but the first; `---:` sets them to the right.
    """
    rule = "| --- |" + f" {align} |" * (len(titles) - 1)
    return ["| " + " | ".join(titles) + " |", rule] + ["| " + " | ".join(cells) + " |" for cells in rows]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{char}" if char in r"\`*_[]<>|#" else char for char in text)
