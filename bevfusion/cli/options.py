"""What several subcommands share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT = 2

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A .safetensors file, the folder of a training run, default (the weights that ship), or "
        "classical (the training-free matcher).",
    ),
]
Maps = Annotated[
    list[Path],
    typer.Option(
        "--map",
        exists=True,
        help="An OpenStreetMap extract (.osm, .osm.gz, .osm.bz2, .osm.pbf), the .tiles that `tile` made of one, or "
        "a georeferenced image. May be given several times: a frame takes the first that covers it.",
    ),
]
ODOMETRIES, PARTS = ("log", "kiss-icp", "truth"), ("lidar", "gnss", "imu", "odometry")


def wide_console(width: int = 120) -> "Console":
    """Standard output through rich; files and pipes get room for the whole table."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def fail(message: str, status: int = BAD_INPUT) -> int:
    """Say what is wrong in one line on standard error; the result is the exit status."""
    typer.echo("error: " + " ".join(message.split()), err=True)
    return status
