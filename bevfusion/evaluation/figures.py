"""Figures as people read them."""

import math

_UNKNOWN = "–"  # noqa: RUF001 (an en dash is meant)


def number(value: object, digits: int, *, sign: bool = False, unknown: str = _UNKNOWN) -> str:
    """A number for people; a dash for what is not known."""
    if not is_number(value):
        return unknown
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def is_number(value: object) -> bool:
    """Whether it can be counted with: neither None nor NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)
