"""What a log and a map are made of, and how much the map can tell there: the subcommand `info`."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bevfusion.cli.fetching import Overpass, places_of, with_fetched
from bevfusion.cli.options import AUTO, Columns, Extrinsics, Overwrite, Topics, Truth, log_options, refuse_to_replace
from bevfusion.tables import printable

if TYPE_CHECKING:
    from bevfusion.datasets.drive import Drive
    from bevfusion.geometry.geodesy import GeoPose
    from bevfusion.maps.source import MapSource
    from bevfusion.streets import Pieces
    from bevfusion.summary import InputSummary

log = logging.getLogger(__name__)

HEADINGS = {
    "used": "taken",
    "assumed": "assumed",
    "ignored": "left on purpose",
    "lost": "lost",
    "warning": "looks wrong",
}
_LOOKS = 60  # frames of a log that are placed on the map
_WORST = 5  # streets that are named


def info(
    drive: Annotated[Path | None, typer.Argument(metavar="[DRIVE]", help="Any drive that evaluate takes.")] = None,
    maps: Annotated[
        list[Path] | None,
        typer.Option(
            "--map",
            help="A map as of `evaluate`: how much of the drive it covers, and how well scans could be placed on its "
            "streets, on those that the drive passes where there is one.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --map: streets.geojson and streets.png of each map go there."),
    ] = None,
    overwrite: Overwrite = False,
    topic: Topics = None,
    extrinsics: Extrinsics = None,
    truth: Truth = None,
    columns: Columns = None,
    overpass: Overpass = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what a drive is made of, whether a map covers it, and how much the map can tell on each street.

    Of a drive: topics or files, frames, clock, rate, shares with truth, GNSS and odometry. Of a map: the spread that
    scans on its streets would have along, across and in heading, predicted from the map alone.
    """
    if drive is None and not maps:
        raise typer.BadParameter("expected a drive, or --map, or both")
    if output is not None and not maps:
        raise typer.BadParameter("--output is for what --map brings")
    for path in maps or []:
        if path != Path(AUTO) and not path.exists():
            raise typer.BadParameter(f"Path '{path}' does not exist.")
    if drive is None and Path(AUTO) in (maps or []):
        raise typer.BadParameter("--map auto fetches the map of a drive: name one")
    from bevfusion.datasets.open import open_drive
    from bevfusion.maps.source import open_map

    options = log_options(topic, extrinsics, truth, columns)
    told: dict[str, Any] = {}
    places: list[GeoPose] | None = None
    if drive is not None:
        opened = open_drive(drive, options)
        summary = opened.summary
        told |= {"frames": len(opened), "odometry": opened.odometry, **summary.as_dict()}
        if not as_json:
            typer.echo(f"{summary.source}: {len(opened)} frames, odometry: {opened.odometry}")
            _print_notes(summary)
        places = _places(opened) if maps else None
    paths = with_fetched(maps or [], overpass, lambda: places_of([drive] if drive is not None else [], options))
    for number, path in enumerate(paths):
        source = open_map(path)
        folder = None if output is None else output if len(paths) == 1 else output / f"{number + 1}-{source.name}"
        if folder is not None:
            refuse_to_replace([folder / "streets.geojson", folder / "streets.png"], overwrite)
        about = _about_map(source, places, folder, quiet=as_json)
        told.setdefault("maps", []).append({"map": str(path), **about})
    if as_json:
        typer.echo(json.dumps(told, indent=2))


def _about_map(
    source: "MapSource", places: "list[GeoPose] | None", folder: Path | None, *, quiet: bool
) -> dict[str, Any]:
    """Say what there is to say of a map; the same for JSON."""
    import numpy as np

    from bevfusion.extras import is_installed
    from bevfusion.maps.render import OsmRenderer
    from bevfusion.progress import frame_progress
    from bevfusion.streets import as_dict, predict_streets, write_streets

    x0, y0, x1, y1 = source.bounds_m
    south, west = source.frame.degrees_from_metres(x0, y0)
    north, east = source.frame.degrees_from_metres(x1, y1)
    box = [round(value, 6) for value in (south, west, north, east)]
    told: dict[str, Any] = {"box": box, **source.summary.as_dict()}
    lines = [
        "",
        f"map {source.name}: lat {south:.5f} to {north:.5f}, lon {west:.5f} to {east:.5f} "
        f"({(x1 - x0) / 1000:.1f} by {(y1 - y0) / 1000:.1f} km)",
    ]
    near_m = None
    if places is not None:
        poses = [source.frame.map_from_ego(place) for place in places]
        covered = [pose for pose in poses if source.covers(pose.x_m, pose.y_m)]
        told["covered"] = {"places": len(places), "covered": len(covered)}
        lines.append(_coverage(source, places, len(covered)))
        near_m = np.array([(pose.x_m, pose.y_m) for pose in covered]).reshape(-1, 2)
    if not quiet:
        typer.echo("\n".join(lines))  # what it is made of was logged as it was opened
    if not isinstance(source, OsmRenderer):
        if not quiet:
            typer.echo("\nstreets: only vector maps have them; give the extract to hear how much the map can tell")
        return told
    with frame_progress("streets", 1) as show:
        pieces = predict_streets(source, near_m, show)
    told["expected_spread"] = as_dict(pieces)
    if not quiet:
        _print_streets(pieces, source, passed=places is not None)
    if folder is not None and pieces:
        picture = is_installed("matplotlib")
        if not picture:
            log.warning("no streets.png: it needs matplotlib: pip install 'bevfusion[report]'")
        for path in write_streets(folder, pieces, source, picture=picture):
            log.info("wrote %s", path)
    return told


def _places(drive: "Drive") -> "list[GeoPose]":
    """Where some frames, evenly spread, were recorded: by the truth, else by GNSS; what cannot be read is left."""
    from bevfusion.structures import DataError

    positions = sorted({round(i * (len(drive) - 1) / (_LOOKS - 1)) for i in range(_LOOKS)}) if len(drive) else []
    found = []
    for position in positions:
        try:
            frame = drive[position]
        except DataError:
            continue
        place = frame.truth or frame.gnss
        if place is not None:
            found.append(place)
    return found


def _coverage(source: "MapSource", places: "list[GeoPose]", covered: int) -> str:
    if not places:
        return "coverage: not known, for the drive has neither GNSS nor truth"
    if covered:
        return f"coverage: {covered} of {len(places)} places of the drive that were looked at lie on the map"
    from bevfusion.maps.source import off_all_maps

    return (
        f"coverage: none of {len(places)} places of the drive lies on the map: "
        f"{off_all_maps([source], places[0], 'the first,')}"
    )


def _print_notes(summary: "InputSummary") -> None:
    for kind, heading in HEADINGS.items():
        notes = [note for note in summary.notes if note.kind == kind]
        if notes:
            typer.echo(f"\n{heading}:")
        for note in notes:
            typer.echo(f"  {printable(note.line())}")


def _print_streets(pieces: "Pieces", source: "MapSource", *, passed: bool) -> None:
    from bevfusion.maps.expected_spread import WINDOW_DEG, WINDOW_M
    from bevfusion.streets import median_spread, streets_of

    where = "streets that the drive passes" if passed else "streets"
    if not pieces:
        typer.echo(f"\n{where}: none on {source.name}")
        return
    middle, streets = median_spread(pieces), streets_of(pieces)
    typer.echo(
        f"\n{where}: {len(pieces)} pieces. Expected spread (standard deviation) of a scan that is looked for within "
        f"{WINDOW_M:g} m and {WINDOW_DEG:g} degrees, from the map alone, median:"
    )
    typer.echo(
        f"  along {middle.along_m:.2f} m, across {middle.across_m:.2f} m, heading {middle.heading_deg:.2f} degrees"
    )
    for heading, some in (("least is known along", streets[:_WORST]), ("most", streets[: -_WORST - 1 : -1])):
        if len(streets) > 2 * _WORST or heading != "most":
            typer.echo(f"  {heading}:")
            for street in some:
                told = street.spread
                typer.echo(
                    f"    {printable(street.name)} ({street.length_m:.0f} m): along {told.along_m:.2f} m, across "
                    f"{told.across_m:.2f} m, heading {told.heading_deg:.2f} degrees"
                )
