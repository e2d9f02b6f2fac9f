"""What several subcommands share."""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bevfusion.cli import completion
from bevfusion.tables import printable

if TYPE_CHECKING:
    from rich.console import Console

    from bevfusion.datasets.logged import LogOptions
    from bevfusion.geometry.geodesy import GeoPose

BAD_INPUT = 2
AUTO = "auto"
"""As a map: fetch the extract that is needed."""

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        autocompletion=completion.checkpoints,
        help="A .safetensors file, the folder of a training run, default (the weights that ship), or "
        "classical (the training-free matcher).",
    ),
]


def _known(maps: list[Path]) -> list[Path]:
    """The maps, all of which are there or are to be fetched."""
    for path in maps:
        if path != Path(AUTO) and not path.exists():
            raise typer.BadParameter(f"Path '{path}' does not exist.")
    return maps


Maps = Annotated[
    list[Path],
    typer.Option(
        "--map",
        callback=_known,
        help="An OpenStreetMap extract (.osm, .osm.gz, .osm.bz2, .osm.pbf), the .tiles that `tile` made of one, or "
        "a georeferenced image, GeoJSON, GeoPackage or GeoParquet, or a folder of those; auto: fetched from an "
        "Overpass server (--overpass). May be given several times: a frame takes the first that covers it.",
    ),
]
Topics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        metavar="PART=NAME",
        help="ROS topic of a part (lidar, gnss, imu, odometry) that is not unique.",
    ),
]
Extrinsics = Annotated[
    str | None,
    typer.Option(
        metavar="'X Y Z ROLL PITCH YAW'",
        help="Of bags: where the LiDAR sits on the vehicle, in m and radians, or x y z qx qy qz qw, as the ROS node's "
        "parameter; instead of the transforms of the bag.",
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="True poses of the LiDAR, instead of the log's: CSV (stamp_ns, lat, lon, yaw_rad), or TUM or KITTI poses, "
        "which are laid onto the GNSS of the log.",
    ),
]
MapError = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=20.0,
        help="How far the map may be off as a whole, in m (standard deviation): added to the doubt of every answer.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run has written there.")]
PrecisionChoice = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|float32|bfloat16",
        autocompletion=completion.precisions,
        help="In which the network computes; auto: bfloat16 on processors that have it (AVX-512 BF16, AMX), "
        "where a scan takes about a fifth less time; else float32.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="x,y,z,intensity,...",
        help="What the numbers of .bin and .npy scans are, where they do not tell themselves: NAME or NAME:TYPE (f4, "
        "f8, u2, ...) for each column, _ for one that is not used.",
    ),
]
RouteFile = Annotated[
    Path | None,
    typer.Option(
        "--route",
        exists=True,
        dir_okay=False,
        help="The route to follow: GeoJSON or GPX, or a graph of nav2's route server (with --to: the shortest way over "
        "it).",
    ),
]
Goal = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="LAT,LON",
        help="Where to go: the shortest way on the roads of the map, one-way streets and turn restrictions respected. "
        "Without --route and --to every branch ahead is told, with its probability.",
    ),
]
ODOMETRIES, PARTS = ("log", "kiss-icp", "truth"), ("lidar", "gnss", "imu", "odometry")


def parse_columns(text: str | None) -> tuple[str, ...]:
    """The columns that `--columns` names; what they mean is checked where scans are read."""
    return () if text is None else tuple(word.strip() for word in text.split(","))


def wide_console(width: int = 120) -> "Console":
    """Standard output through rich; files and pipes get room for the whole table."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def refuse_to_replace(paths: Iterable[Path], overwrite: bool) -> None:
    """Nothing that lies where output goes is overwritten unasked.

    Raises:
        typer.BadParameter: if one of the paths is there and `overwrite` is not given.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise typer.BadParameter(f"{path} is there already; name another folder, or give --overwrite")


def fail(message: str, status: int = BAD_INPUT) -> int:
    """Say what is wrong in one line on standard error; the result is the exit status."""
    typer.echo("error: " + printable(" ".join(message.split())), err=True)
    return status


def log_options(
    topics: Sequence[str] | None,
    extrinsics: str | None,
    truth: Path | None,
    columns: str | None = None,
    *,
    deskew: bool = True,
) -> "LogOptions":
    """How a log is to be read, from the words of a command line.

    Raises:
        typer.BadParameter: if they are malformed.
    """
    from bevfusion.datasets.logged import LogOptions

    return LogOptions(
        deskew=deskew,
        topics=parse_topics(topics or []),
        extrinsics=parse_extrinsics(extrinsics or ""),
        truth=truth,
        columns=parse_columns(columns),
    )


def parse_extrinsics(text: str) -> tuple[float, ...]:
    """The numbers of X Y Z ROLL PITCH YAW or X Y Z QX QY QZ QW, with blanks or commas between; none of an empty text.

    Raises:
        typer.BadParameter: if it is not that.
    """
    from bevfusion.datasets.rigid import extrinsics_matrix
    from bevfusion.structures import DataError

    try:
        numbers = tuple(float(word) for word in text.replace(",", " ").split())
        if numbers:
            extrinsics_matrix(numbers)
    except DataError as error:
        raise typer.BadParameter(f"--extrinsics: {error}") from error
    except ValueError as error:
        raise typer.BadParameter(f"--extrinsics expects six or seven numbers, got {text!r}") from error
    return numbers


def parse_topics(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(part, topic) of each PART=NAME.

    Raises:
        typer.BadParameter: if one is not that.
    """
    pairs = [tuple(word.split("=", 1)) for word in words]
    for word, pair in zip(words, pairs, strict=True):
        if len(pair) != 2 or pair[0] not in PARTS or not pair[1]:
            raise typer.BadParameter(f"--topic expects PART=NAME with a part of {', '.join(PARTS)}, got {word!r}")
    return tuple((pair[0], pair[1]) for pair in pairs)


def parse_goal(text: str | None) -> "GeoPose | None":
    """The place of `--to`.

    Raises:
        typer.BadParameter: if it is not LAT,LON.
    """
    if text is None:
        return None
    lat_deg, lon_deg, heading_deg = parse_near(text, "--to")
    if heading_deg is not None:
        raise typer.BadParameter(f"--to expects LAT,LON in degrees, without a heading, got {text!r}")
    from bevfusion.geometry.geodesy import GeoPose

    return GeoPose(lat_deg, lon_deg)


def parse_near(text: str, name: str = "--near") -> tuple[float, float, float | None]:
    """Latitude, longitude and, if given, heading of LAT,LON[,HEADING_DEG]: degrees, counter-clockwise from east.

    Args:
        text: as typed.
        name: of the option, for messages.

    Raises:
        typer.BadParameter: if it is not that.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not all(math.isfinite(number) for number in numbers):
        wanted = "LAT,LON in degrees, e.g. 49.01,8.42"
        if name != "--to":
            wanted = "LAT,LON[,HEADING_DEG] in degrees, e.g. 49.01,8.42,90"
        raise typer.BadParameter(f"{name} expects {wanted}, got {text!r}")
    if abs(numbers[0]) > 90.0 or abs(numbers[1]) > 180.0:
        raise typer.BadParameter(f"{name}: latitude lies in -90 to 90, longitude in -180 to 180, got {text!r}")
    return numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None
