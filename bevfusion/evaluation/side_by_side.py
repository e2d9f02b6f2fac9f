"""A comparison of two runs for people: on the terminal, as Markdown, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bevfusion.drawing import RUN_A, RUN_B, new_figure, save_figure
from bevfusion.evaluation import bootstrap
from bevfusion.evaluation.compare import Comparison, Line, finite
from bevfusion.files import write_text
from bevfusion.tables import escaped, markdown_table

TITLES = ("", "A", "B", "B - A", "95 % interval", "better")
INTERVALS = (
    f"Intervals: paired bootstrap over {{blocks}} stretches of at least {bootstrap.BLOCK_M:g} m of a drive (a shorter "
    "drive is one). Of twenty figures without any difference, one lies outside its interval by chance."
)


def cells(line: Line) -> tuple[str, ...]:
    """A line as text: name, A, B, difference, interval, verdict."""
    digits = 2 if line.statistic == "median" else 1
    quantity, _, unit = line.quantity.rpartition("_")
    shown = f"{quantity} median ({unit})" if line.statistic == "median" else f"{quantity} {line.statistic} {unit} (%)"
    interval = "-" if line.interval is None else " to ".join(finite(end, digits, "+") for end in line.interval)
    values = finite(line.a, digits), finite(line.b, digits), finite(line.difference, digits, "+")
    return shown, *values, interval, line.verdict


def about(comparison: Comparison) -> list[str]:
    """What the table is made of, in sentences."""
    return [
        f"A is {comparison.name_a}, B is {comparison.name_b}: {comparison.pairs} answers to {comparison.frames} frames "
        "that both runs gave.",
        *([INTERVALS.format(blocks=comparison.blocks)] if comparison.lines[0].interval is not None else []),
        *comparison.notes,
    ]


def rich_table(comparison: Comparison) -> Table:
    """For the terminal."""
    table = Table(title=f"A: {comparison.name_a}    B: {comparison.name_b}")
    for title in TITLES:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for line in comparison.lines:
        table.add_row(*cells(line), end_section=line.statistic == "median")
    return table


def markdown(comparison: Comparison) -> str:
    """For a file: what it is, the table, and one more for each drive where there are several."""
    parts = [f"# {escaped(comparison.name_a)} and {escaped(comparison.name_b)}", ""]
    parts += [f"- {escaped(sentence)}" for sentence in about(comparison)]
    parts += ["", *_table(comparison.lines)]
    if len(comparison.per_drive) > 1:
        for drive, lines in comparison.per_drive.items():
            parts += ["", f"## {escaped(drive)}", "", *_table(lines)]
    return "\n".join(parts) + "\n"


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write comparison.md and comparison.png into a folder, made if missing; earlier ones are replaced."""
    write_text(folder / "comparison.md", markdown(comparison))
    save_figure(picture(comparison), folder / "comparison.png")


def picture(comparison: Comparison) -> Any:
    """Above the error curves of both runs, below the differences of recalls and of medians with their intervals."""
    figure, axes = new_figure(14.0, 8.0, rows=2, columns=len(comparison.errors_a))
    columns = len(comparison.errors_a)
    for axis, below, quantity in zip(axes[:columns], axes[columns:], comparison.errors_a, strict=True):
        runs = (
            ("A", comparison.errors_a, RUN_A, comparison.name_a),
            ("B", comparison.errors_b, RUN_B, comparison.name_b),
        )
        for letter, errors, colour, name in runs:
            size = np.sort(errors[quantity])
            percent = 100.0 * np.arange(1, len(size) + 1) / len(size)
            axis.step([0.0, *size, 1e6], [0.0, *percent, 100.0], where="post", color=colour, label=f"{letter}: {name}")
        axis.set_xlim(0.0, 10.0)
        axis.set_ylim(0.0, 101.0)
        title, _, unit = quantity.rpartition("_")
        axis.set_xlabel(f"{title} error ({unit})")
        axis.grid(alpha=0.3)
        _differences(below, [line for line in comparison.lines if line.quantity == quantity])
        below.set_xlabel("recall, B - A (percentage points)")
    axes[0].set_ylabel("answers within (%)")
    axes[columns - 1].legend(loc="lower right", fontsize=8)
    return figure


def _differences(axis: Any, lines: Sequence[Line]) -> None:
    """Dots with bars of the recalls; the median has another unit and is told in the title."""
    recalls = [line for line in lines if line.statistic != "median"]
    (median,) = (line for line in lines if line.statistic == "median")
    axis.axvline(0.0, color="0.4", linewidth=0.8)
    for height, line in enumerate(reversed(recalls)):
        if line.interval is not None:
            axis.plot(line.interval, (height, height), "-", color="black", linewidth=2)
        colour = {"A": RUN_A, "B": RUN_B, "": "0.3"}[line.verdict]
        axis.plot(line.difference, height, "o", color=colour, markersize=8)
    reach = max(5.0, *(abs(end) for end in axis.get_xlim()))  # nothing looks large that is not
    axis.set_xlim(-reach, reach)
    axis.set_yticks(range(len(recalls)), [line.statistic for line in reversed(recalls)])
    axis.set_ylim(-0.6, len(recalls) - 0.4)
    _, _, _, difference, interval, _ = cells(median)
    axis.set_title(f"median, B - A: {difference}" + ("" if interval == "-" else f" ({interval})"), fontsize=10)
    axis.grid(alpha=0.3)


def _table(lines: Sequence[Line]) -> list[str]:
    return markdown_table(TITLES, ([escaped(cell) for cell in cells(line)] for line in lines), align="---:")
