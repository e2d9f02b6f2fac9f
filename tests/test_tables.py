"""Numbers and tables for people."""

import math

from bevfusion.tables import escaped, is_number, markdown_table, number


def test_numbers() -> None:
    assert [number(value, 1) for value in (2, 1.25, -0.04)] == ["2.0", "1.2", "-0.0"]
    assert number(1.0, 2, sign=True) == "+1.00"
    assert {number(value, 1, unknown="-") for value in (None, math.nan, math.inf, "3")} == {"-"}
    assert [is_number(value) for value in (0, 1.5, math.nan, None)] == [True, True, False, False]


def test_markdown() -> None:
    lines = markdown_table(["", "a | b"], [["`x`", "1"], ["y", "2"]], align="---:")
    assert lines == ["|  | a | b |", "| --- | ---: |", "| `x` | 1 |", "| y | 2 |"]
    assert escaped("a_b|c") == r"a\_b\|c"
