"""The drawing kit: figures, files and colours of every picture that the package makes.

matplotlib is imported when the first figure is made (figures and axes are `Any` in signatures for that reason). Its
global state stays untouched: pyplot is never imported. Margins are set in inches rather than sought by a layout engine,
which draws every figure twice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.extras import needs
from bevfusion.files import atomic_file

TRUTH, ESTIMATE, PRIOR = "#0050c8", "#d81b60", "#f0a000"  # blue, red and yellow, apart for colour-blind readers, too
RUN_A, RUN_B = TRUTH, ESTIMATE
LIDAR, MAP = ESTIMATE, TRUTH
PANEL_IN = 5.0  # width of a figure whose words are still read on a phone; two stand side by side elsewhere
_DOTS_PER_INCH = 110
_RIGHT_IN, _BOTTOM_IN, _TOP_IN = 0.25, 0.6, 0.45


def new_figure(
    width_in: float,
    height_in: float,
    *,
    rows: int = 1,
    columns: int = 1,
    sharex: bool = False,
    projections: Sequence[str] | None = None,
    spans: Sequence[tuple[int, int, int]] | None = None,
    left_in: float = 0.75,
    gap_in: float = 0.75,
    top_in: float = _TOP_IN,
) -> Any:
    """A figure that pyplot does not know of, and its axes as a flat list.

    Args:
        width_in: inches.
        height_in: the same.
        rows: of axes.
        columns: of axes.
        sharex: all axes have one range along x.
        projections: of each of the axes, row by row, where they are not all rectilinear.
        spans: (row, first column, columns) of each of the axes, where they are not one a column.
        left_in: margin on the left, for names.
        gap_in: between columns and between rows.
        top_in: margin above, for a title.
    """
    with needs("report", "drawing"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in))
    wide_in, high_in = width_in - left_in - _RIGHT_IN, height_in - _BOTTOM_IN - top_in
    between_in = 0.15 if sharex else gap_in
    spacing = figure.add_gridspec(
        rows,
        columns,
        left=left_in / width_in,
        right=1.0 - _RIGHT_IN / width_in,
        bottom=_BOTTOM_IN / height_in,
        top=1.0 - top_in / height_in,
        # gaps are told in shares of the axes' size, which is what the gaps leave
        wspace=gap_in * columns / (wide_in - gap_in * (columns - 1)),
        hspace=between_in * rows / (high_in - between_in * (rows - 1)),
    )
    if spans is not None:
        return figure, [figure.add_subplot(spacing[row, first : first + wide]) for row, first, wide in spans]
    if projections is not None:
        return figure, [figure.add_subplot(spacing[i], projection=kind) for i, kind in enumerate(projections)]
    return figure, list(spacing.subplots(squeeze=False, sharex=sharex).flat)


def save_figure(figure: Any, path: Path, dots_per_inch: int = _DOTS_PER_INCH) -> None:
    """Write a figure in the format that the file's suffix names; an earlier file is replaced."""
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=dots_per_inch)


def cumulative(axis: Any, sizes: Float[np.ndarray, " n"], label: str, colour: str | None = None) -> None:
    """The share of values that are no larger than so much: from 0 %, and at 100 % up to the right border."""
    percent = 100.0 * np.arange(1, len(sizes) + 1) / len(sizes)
    axis.step([0.0, *np.sort(sizes), 1e6], [0.0, *percent, 100.0], where="post", color=colour, label=label)
    axis.set_ylim(0.0, 101.0)
    axis.grid(alpha=0.3)


def coloured_lines(
    figure: Any, axis: Any, lines_xy: Sequence[Float[np.ndarray, "n 2"]], values: Float[np.ndarray, " k"], most: float
) -> None:
    """Lines in colours from 0 to `most`, a value each, with a bar below the axis that says which is which."""
    with needs("report", "drawing"):
        from matplotlib.collections import LineCollection

    lines = LineCollection(lines_xy, cmap="viridis_r", linewidths=2.0)
    lines.set_array(values)
    lines.set_clim(0.0, most)
    axis.add_collection(lines)
    figure.colorbar(lines, ax=axis, orientation="horizontal", fraction=0.045, pad=0.12, extend="max")
