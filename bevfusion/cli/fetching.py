"""The subcommand `map`, and maps that are fetched where --map says `auto`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bevfusion.cli.options import AUTO, parse_near

if TYPE_CHECKING:
    from bevfusion.datasets.logged import LogOptions
    from bevfusion.geometry.geodesy import GeoPose

MARGIN_M = 500.0  # around all places of a drive: more than a tile and a search reach
_LOOKS = 65  # frames of a drive that are asked for their place

Overpass = Annotated[
    str | None,
    typer.Option(
        "--overpass",
        metavar="URL",
        show_default="the public one",
        help="Overpass server that --map auto asks; answers are kept in the user's cache folder.",
    ),
]


def fetch_map(
    place: Annotated[
        str, typer.Argument(metavar="LAT,LON", help="The middle, in degrees; south and west are negative.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", dir_okay=False, help="File to write: .osm.pbf, .osm, .osm.gz.")
    ],
    radius_m: Annotated[float, typer.Option(min=10.0, help="The extract reaches so far each way.")] = 500.0,
    overpass: Overpass = None,
    timeout_s: Annotated[float, typer.Option(min=1.0, help="Of the query on the server.")] = 180.0,
) -> None:
    """Fetch an OpenStreetMap extract from an Overpass server: a square about a place."""
    lat_deg, lon_deg, heading_deg = parse_near(place, "LAT,LON")
    if heading_deg is not None:
        raise typer.BadParameter(f"a place is LAT,LON, got {place!r}")
    from bevfusion.geometry.geodesy import GeoPose
    from bevfusion.maps.overpass import ATTRIBUTION, PUBLIC_SERVER, Box, fetch_extract

    box = Box.around([GeoPose(lat_deg, lon_deg)], radius_m)
    data_date = fetch_extract(box, output, overpass or PUBLIC_SERVER, timeout_s=timeout_s)
    typer.echo(f"{output}: OpenStreetMap of {data_date[:10]}, {output.stat().st_size / 1e6:.2f} MB; {ATTRIBUTION}")


def with_fetched(
    maps: Sequence[Path], overpass: str | None, needed: Callable[[], Sequence[Sequence["GeoPose"]]]
) -> list[Path]:
    """The maps of a command, each `auto` replaced by the extracts that are needed, from the cache or the server.

    Args:
        maps: as given.
        overpass: address of the server; None: the public one.
        needed: gives the places that each extract must hold; called only where a map is `auto`.

    Raises:
        DataError: if an extract cannot be had.
    """
    if Path(AUTO) not in maps:
        return list(maps)
    from bevfusion.maps.overpass import PUBLIC_SERVER, Box, cached_extract

    boxes: list[Box] = []
    for box in (Box.around(places, MARGIN_M) for places in needed()):
        if not any(other.holds(box) for other in boxes):
            boxes = [*(other for other in boxes if not box.holds(other)), box]
    fetched = [cached_extract(box, overpass or PUBLIC_SERVER) for box in boxes]
    return [path for given in maps for path in (fetched if given == Path(AUTO) else [given])]


def places_of(drives: Sequence[Path], options: "LogOptions") -> list[list["GeoPose"]]:
    """Where drives go, by GNSS or, where they have none, by their true poses; some frames of each, evenly spread.

    Drives that cannot be opened or hold no place are left to those who report them, unless all are of that kind.

    Raises:
        DataError: if no drive knows of a place.
    """
    from bevfusion.datasets.open import open_drive
    from bevfusion.structures import DataError

    found: list[list[GeoPose]] = []
    reasons: list[DataError] = []
    for path in drives:
        try:
            drive = open_drive(path, options)
            frames = (drive[at] for at in sorted({round(i * (len(drive) - 1) / (_LOOKS - 1)) for i in range(_LOOKS)}))
            places = [place for frame in frames if (place := frame.gnss or frame.truth) is not None]
            if not places:
                raise DataError(f"{path} holds no GNSS fix and no true pose: --map auto cannot know where it is")
            found.append(places)
        except DataError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return found
