"""The drawing kit: figures, files and colours of every picture that the package makes.

matplotlib is imported when the first figure is made (figures and axes are `Any` in signatures for that reason). Its
global state stays untouched: pyplot is never imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bevfusion.files import atomic_file

TRUTH, ESTIMATE, PRIOR = "#0050c8", "#d81b60", "#f0a000"  # blue, red and yellow, apart for colour-blind readers, too
RUN_A, RUN_B = TRUTH, ESTIMATE
LIDAR, MAP = ESTIMATE, TRUTH
_DOTS_PER_INCH = 110


def new_figure(
    width_in: float,
    height_in: float,
    *,
    rows: int = 1,
    columns: int = 1,
    sharex: bool = False,
    projections: Sequence[str] | None = None,
) -> Any:
    """A figure that pyplot does not know of, and its axes as a flat list, row by row, in given projections."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    if projections is None:
        return figure, list(figure.subplots(rows, columns, squeeze=False, sharex=sharex).flat)
    return figure, [figure.add_subplot(rows, columns, i, projection=p) for i, p in enumerate(projections, start=1)]


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format that the file's suffix names; an earlier file is replaced."""
    with atomic_file(path) as draft:
        figure.savefig(draft, dpi=_DOTS_PER_INCH)
