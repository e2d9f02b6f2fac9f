"""Recordings in the rerun viewer: the subcommand `view`."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", exists=True, help="A folder that evaluate --viewer has written, or an .rrd file."
        ),
    ],
) -> None:
    """Open recordings in the rerun viewer: scan, map, belief and attention over time."""
    from bevfusion.evaluation.viewer import show

    show(paths)
