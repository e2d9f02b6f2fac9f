"""Single scans on a map: the subcommand `locate`."""

import json
import logging
import math
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from bevfusion.cli.fetching import Overpass, with_fetched
from bevfusion.cli.options import (
    Checkpoint,
    Columns,
    Goal,
    MapError,
    Maps,
    Overwrite,
    PrecisionChoice,
    RouteFile,
    fail,
    parse_columns,
    parse_goal,
    parse_near,
    refuse_to_replace,
    wide_console,
)

log = logging.getLogger(__name__)

WINDOW_M, WINDOW_DEG, ANY_HEADING_DEG = 20.0, 10.0, 180.0


class Backend(str, Enum):
    """What runs the network."""

    TORCH = "torch"
    ONNX = "onnx"


def locate(
    checkpoint: Checkpoint,
    scans: Annotated[list[Path], typer.Argument(metavar="SCAN", help="Single scans: .bin, .pcd, .ply, .npy, .las.")],
    maps: Maps,
    near: Annotated[
        str,
        typer.Option(
            metavar="LAT,LON[,HEADING_DEG]",
            help="Where to look: within 20 m along both axes. The heading counts counter-clockwise from east (0 east, "
            "90 north, -90 south; not a compass bearing) and is good to 10 degrees; without it every heading is "
            "tried. South and west are negative: --near=-33.9,18.4,90",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a scan on standard output.")] = False,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write pictures of attention, belief and the way ahead there.")
    ] = None,
    overwrite: Overwrite = False,
    backend: Annotated[
        Backend, typer.Option(help="onnx: CHECKPOINT is a file that tools/export.py wrote, run by onnxruntime.")
    ] = Backend.TORCH,
    map_error_m: MapError = 1.0,
    precision: PrecisionChoice = "auto",
    overpass: Overpass = None,
    columns: Columns = None,
    route: RouteFile = None,
    to: Goal = None,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of scan, map and the way ahead there.")
    ] = None,
) -> None:
    """Find scans on a map, given about where they were taken, and say which way the road goes from there.

    A scan that cannot be used is reported and costs no other its answer; the status is 2 then.
    """
    from bevfusion.precision import precision_named

    lat_deg, lon_deg, heading_deg = parse_near(near)
    goal = parse_goal(to)
    computing = precision_named(precision)
    if draw is not None:
        refuse_to_replace([draw / f"{path.stem}_way.png" for path in scans], overwrite)
    if backend is Backend.ONNX and computing == "bfloat16":
        raise typer.BadParameter("--precision: an exported file computes in float32")
    if explain is not None and backend is Backend.ONNX:
        raise typer.BadParameter("--explain looks into the network's parts: it needs --backend torch")
    if explain is not None:
        from bevfusion.evaluation.explain import files_of

        ways = [explain / f"{path.stem}_way.png" for path in scans]
        refuse_to_replace([file for path in scans for file in files_of(explain, path.stem)] + ways, overwrite)
    from bevfusion.datasets.scan_files import SingleScans
    from bevfusion.direction.guide import Guide, described, in_words
    from bevfusion.direction.route_files import read_route
    from bevfusion.geometry.geodesy import GeoPose
    from bevfusion.heads.map_error import with_map_error
    from bevfusion.localizer import open_locator
    from bevfusion.maps.source import first_covering, off_all_maps, open_map
    from bevfusion.structures import DataError, Locator

    guess = GeoPose(lat_deg, lon_deg, math.radians(heading_deg or 0.0))
    offset_deg = ANY_HEADING_DEG if heading_deg is None else WINDOW_DEG
    sources = [open_map(path) for path in with_fetched(maps, overpass, lambda: [[guess]])]
    covering = first_covering(sources, guess)
    if covering is None:
        raise DataError(off_all_maps(sources, guess, "--near"))
    source, prior = sources[covering[0]], covering[1]
    if explain is not None:
        from bevfusion.localizer import open_localizer

        network = open_localizer(checkpoint, source, computing)
    locator: Locator
    if backend is Backend.ONNX:
        from bevfusion.export.runtime import OnnxLocator

        locator = OnnxLocator(Path(checkpoint), source)
    else:
        locator = network if explain is not None else open_locator(checkpoint, source, computing)
    guide = Guide(source, None if route is None else read_route(route), goal)
    if guide.leads:
        guide.check_map()
    single_scans = SingleScans(scans, parse_columns(columns))
    answers: list[dict[str, Any]] = []
    failed: list[str] = []
    for path in scans:
        try:
            scan = single_scans.read(path)
            found = locator.locate(scan, prior, WINDOW_M, math.radians(offset_deg))
            estimate = with_map_error(found, map_error_m, locator.map_error_m)
        except DataError as error:  # one bad scan does not cost the answers of the others
            failed.append(str(error))
            continue
        if explain is not None:
            from bevfusion.evaluation.explain import explain as write_pictures

            write_pictures(network, scan, prior, WINDOW_M, math.radians(offset_deg), explain, path.stem)
        pose, place = estimate.map_from_ego, source.frame.geo_pose(estimate.map_from_ego)
        answer = {
            "scan": str(path),
            "map": source.name,
            "lat": place.lat_deg,
            "lon": place.lon_deg,
            "heading_deg": math.degrees(place.yaw_rad),
            "x_m": pose.x_m,
            "y_m": pose.y_m,
            "covariance": estimate.covariance.tolist(),
            "confidence": estimate.confidence,
        }
        guide.forget()
        try:
            paths, reason = guide.paths(pose, estimate.covariance, estimate.direction), ""
        except DataError as error:
            if guide.leads:  # a way was asked for: the pose is told, and that there is none
                failed.append(f"{path}: {error}")
            paths, reason = [], str(error)
        answer["way"] = in_words(paths)
        answer["paths"] = [described(one, pose, source) for one in paths]
        if reason:
            answer["no_path"] = reason
        pictures = [folder for folder in (draw, explain) if folder is not None]
        if pictures:
            from bevfusion.api import draw_pose
            from bevfusion.direction.picture import FIELD_GRID
            from bevfusion.drawing import save_figure
            from bevfusion.geometry.se2 import SE2

            field = guide.field(FIELD_GRID, SE2(pose.x_m, pose.y_m), pose, estimate.covariance, paths)
            for folder in pictures:
                folder.mkdir(parents=True, exist_ok=True)
                save_figure(draw_pose(scan, estimate, source, paths, field), folder / f"{path.stem}_way.png")
        answers.append(answer)
        if as_json:
            typer.echo(json.dumps(answer))
    single_scans.summary.log(log)
    if answers and not as_json:
        _print_answers(answers)
    if failed:
        told = "; ".join(failed)
        raise typer.Exit(fail(told if len(scans) == 1 else f"{len(failed)} of {len(scans)} scans failed: {told}"))


def _print_answers(answers: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    for title in ("scan", "lat", "lon", "heading (deg)", "x (m)", "y (m)", "std x, y (m), yaw (deg)", "confidence"):
        table.add_column(title, justify="left" if title == "scan" else "right")
    for answer in answers:
        std_x_m, std_y_m, std_rad = (math.sqrt(max(0.0, answer["covariance"][i][i])) for i in range(3))
        table.add_row(
            Path(answer["scan"]).name,
            f"{answer['lat']:.7f}",
            f"{answer['lon']:.7f}",
            f"{answer['heading_deg']:.1f}",
            f"{answer['x_m']:.2f}",
            f"{answer['y_m']:.2f}",
            f"{std_x_m:.2f}, {std_y_m:.2f}, {math.degrees(std_rad):.1f}",
            f"{answer['confidence']:.2f}",
        )
    wide_console().print(table)
    ways = Table(title="The way on, 16 m ahead: degrees to the left of the heading, ± what the pose leaves in doubt")
    for title in ("scan", "way"):
        ways.add_column(title, justify="left")
    for answer in answers:
        ways.add_row(Path(answer["scan"]).name, answer.get("no_path") or answer["way"])
    wide_console().print(ways)
