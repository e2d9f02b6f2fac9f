"""Poses from a log without truth: the subcommand `track`."""

import logging
import math
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from bevfusion.choices import meant
from bevfusion.cli.fetching import Overpass, places_of, with_fetched
from bevfusion.cli.options import (
    ODOMETRIES,
    Columns,
    Extrinsics,
    Goal,
    MapError,
    Maps,
    PrecisionChoice,
    RouteFile,
    Topics,
    log_options,
    parse_goal,
    parse_near,
)

log = logging.getLogger(__name__)


def track(
    drive: Annotated[Path, typer.Argument(metavar="LOG", help="A log, known by its path, as DRIVE of `evaluate`.")],
    maps: Maps,
    checkpoint: Annotated[str, typer.Option(metavar="CHECKPOINT", help="As of `evaluate`.")] = "default",
    near: Annotated[
        str | None,
        typer.Option(
            metavar="LAT,LON[,HEADING_DEG]",
            help="Where the log begins: degrees, heading counter-clockwise from east. By default its first GNSS fix.",
        ),
    ] = None,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="It begins anywhere on the map: search all of it.")
    ] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Look back from the end of the log.")] = False,
    odometry: Annotated[
        str,
        typer.Option(
            metavar="log|kiss-icp", help="Of the log, or from the scans alone; log takes KISS-ICP where there is none."
        ),
    ] = "log",
    start: Annotated[int, typer.Option(min=0, help="First frame.")] = 0,
    frames: Annotated[int | None, typer.Option(min=1, help="Most frames.", show_default="all")] = None,
    every: Annotated[int, typer.Option(min=1, help="Take one frame in so many.")] = 1,
    offset_m: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=200.0,
            help="How far the start may be off, along east and north.",
            show_default="of a fix five times its standard deviation, 10 to 100; 20 where it has none, and of --near",
        ),
    ] = None,
    map_error_m: MapError = 1.0,
    mcap: Annotated[bool, typer.Option("--mcap", help="Also poses.mcap, for Foxglove.")] = False,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Write report.html.")] = True,
    output: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/track/NAME-DATE-TIME")] = None,
    topic: Topics = None,
    extrinsics: Extrinsics = None,
    columns: Columns = None,
    precision: PrecisionChoice = "auto",
    overpass: Overpass = None,
    route: RouteFile = None,
    to: Goal = None,
) -> None:
    """Poses from a log that holds no truth: one a frame, or the reason why there is none.

    Writes poses.csv, poses.tum, track.geojson, track.gpx, summary.json and report.html; and, where the map has roads,
    directions.geojson: the ways on from each pose, along --route or to --to if one is given.
    """
    if odometry not in ODOMETRIES[:2]:
        known = ODOMETRIES[:2]
        raise typer.BadParameter(f"--odometry is log or kiss-icp, got {odometry!r}{meant(odometry, known)}")
    if near is not None and anywhere:
        raise typer.BadParameter("--near and --anywhere exclude each other")
    from bevfusion.precision import precision_named

    computing = precision_named(precision)
    guess = None if near is None else parse_near(near)
    goal = parse_goal(to)
    from bevfusion.datasets.odometry import with_kiss_icp
    from bevfusion.datasets.open import open_drive
    from bevfusion.direction.guide import Guide
    from bevfusion.direction.route_files import read_route
    from bevfusion.extras import is_installed
    from bevfusion.files import check_writable, user_cache
    from bevfusion.geometry.geodesy import GeoPose
    from bevfusion.localizer import filter_config, open_locator
    from bevfusion.maps.source import first_covering, off_all_maps, open_map
    from bevfusion.progress import frame_progress
    from bevfusion.structures import DataError
    from bevfusion.tracking.follow import Start, start_near
    from bevfusion.tracking.report import headline
    from bevfusion.tracking.run import chosen_indices, first_map, follow, write_all

    folder = output or Path("runs/track") / f"{drive.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists already: choose another --output or remove it")
    check_writable(folder)
    options = log_options(topic, extrinsics, None, columns)
    opened = open_drive(drive, options)
    opened.summary.log(log)
    indices = chosen_indices(len(opened), start, frames, every)
    place = None if guess is None else GeoPose(guess[0], guess[1], math.radians(guess[2] or 0.0))
    paths = with_fetched(maps, overpass, lambda: places_of([drive], options) if place is None else [[place]])
    sources = [open_map(path) for path in paths]
    begin: Start | None = Start(None, told="anywhere on the map") if anywhere else None
    if guess is None or place is None:
        source = first_map(opened, indices, sources)
    else:
        found = first_covering(sources, place)
        if found is None:
            raise DataError(off_all_maps(sources, place, "--near"))
        source = sources[found[0]]
        begin = start_near(found[1], guess[2], offset_m)
    guide = Guide(source, None if route is None else read_route(route), goal)
    if guide.leads:
        guide.check_map()
    locator = open_locator(checkpoint, source, computing)  # a mistyped name is told before the minutes of KISS-ICP
    if odometry == "kiss-icp" or opened.odometry == "none":
        with frame_progress("odometry", len(opened)) as show:
            opened = with_kiss_icp(opened, user_cache("odometry"), show)
    followed = follow(
        opened,
        locator,
        source,
        start=begin,
        fix_offset_m=offset_m,
        indices=indices,
        smooth=smooth,
        config=filter_config(checkpoint),
        map_error_m=map_error_m,
    )
    if plots and not is_installed("matplotlib"):
        log.warning("no report.html: it needs matplotlib: pip install 'bevfusion[report]'")
        plots = False
    tracked, drawn = followed.frames, plots and not followed.interrupted
    guide_used = guide if guide.usable else None
    write_all(
        folder,
        opened,
        tracked,
        source,
        start=followed.start,
        map_error_m=map_error_m,
        mcap=mcap,
        plots=drawn,
        guide=guide_used,
    )
    typer.echo(f"{headline(tracked)}; in {folder}")
    if followed.interrupted:
        log.warning("interrupted: %d of %d frames are kept in %s", len(tracked), len(indices), folder)
        raise KeyboardInterrupt
