"""A log and a map in, a folder of poses out: what `bevfusion track` does."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bevfusion import __version__
from bevfusion.datasets.drive import Drive, FrameSelection
from bevfusion.direction.guide import Guide
from bevfusion.files import atomic_folder, uninterrupted, write_text
from bevfusion.filters.settings import FilterConfig
from bevfusion.heads.map_error import MAP_ERROR_M
from bevfusion.maps.source import MapSource, first_covering
from bevfusion.progress import frame_progress
from bevfusion.sequence import log_search_progress
from bevfusion.structures import DataError, Locator
from bevfusion.tracking import outputs
from bevfusion.tracking.directions import write_directions
from bevfusion.tracking.follow import Start, TrackedFrame, track_drive
from bevfusion.tracking.report import counts, headline, write_report

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of a log."""

    frames: list[TrackedFrame]  # in order
    start: str  # where it began and how wide the window was, in words
    interrupted: bool


def chosen_indices(count: int, start: int, frames: int | None, every: int) -> range:
    """Which frames of a log to take: from `start` on, every so many, at most `frames` of them.

    Raises:
        DataError: if there is none.
    """
    chosen = FrameSelection(start, frames, every).indices(count)
    if not chosen:
        raise DataError(f"no frame is left of {count}: from {start} on, every {every}")
    return chosen


def first_map(drive: Drive, indices: Sequence[int], sources: Sequence[MapSource]) -> MapSource:
    """The map that the log begins on: the first that covers one of its GNSS fixes, or the only one.

    Raises:
        DataError: if several maps are given and no fix tells which.
    """
    if len(sources) == 1:
        return sources[0]
    for index in indices:
        try:
            fix = drive[index].gnss
        except DataError:
            continue
        found = None if fix is None else first_covering(sources, fix)
        if found is not None:
            return sources[found[0]]
    raise DataError("no GNSS fix says which of the maps the log begins on: give one map, or --near LAT,LON")


def follow(
    drive: Drive,
    locator: Locator,
    source: MapSource,
    *,
    start: Start | None,
    fix_offset_m: float | None = None,
    indices: Sequence[int],
    smooth: bool,
    config: FilterConfig | None,
    map_error_m: float,
) -> "Followed":
    """Follow a log, arguments as of `track_drive`; what is known when it is interrupted is kept."""
    frames: list[TrackedFrame] = []
    began: list[Start] = []
    interrupted = False

    def on_start(start: Start) -> None:
        began.append(start)
        log.info("start: %s", start.told)

    with frame_progress("frames", len(indices)) as show:
        try:
            frames.extend(
                frame
                for frame in track_drive(
                    drive,
                    locator,
                    source,
                    start=start,
                    fix_offset_m=fix_offset_m,
                    indices=indices,
                    smooth=smooth,
                    config=config,
                    map_error_m=map_error_m,
                    on_frame=show,
                    on_step=log_search_progress,
                    on_start=on_start,
                )
            )
        except KeyboardInterrupt:
            interrupted = True
    in_order = sorted(frames, key=lambda frame: frame.index)
    return Followed(in_order, began[0].told if began else "none: no frame had a GNSS fix on the map", interrupted)


def write_all(
    folder: Path,
    drive: Drive,
    frames: Sequence[TrackedFrame],
    source: MapSource,
    *,
    start: str = "",
    map_error_m: float = MAP_ERROR_M,
    mcap: bool = False,
    plots: bool = True,
    guide: Guide | None = None,
) -> None:
    """Write poses.csv, poses.tum, track.geojson, track.gpx, summary.json; if asked for poses.mcap and the report.

    With a guide also directions.geojson. All of them appear at once; the report, which takes longest, after them.
    """
    notes = [drive.summary, source.summary]
    with uninterrupted(), atomic_folder(folder) as staged:
        ways = None if guide is None else write_directions(staged / "directions.geojson", frames, guide, source)
        about = {
            "version": __version__,
            "log": drive.name,
            "odometry": drive.odometry,
            "map": source.name,
            "origin": [source.frame.origin_lat_deg, source.frame.origin_lon_deg],
            "start": start,
            "map_error_m": map_error_m,
            "frames": counts(frames),
            "headline": headline(frames),
            "directions": ways,
            "input": [summary.as_dict() for summary in notes],
            "attribution": outputs.ATTRIBUTION,
        }
        outputs.write_csv(staged / "poses.csv", frames, source)
        outputs.write_tum(staged / "poses.tum", frames)
        outputs.write_geojson(staged / "track.geojson", frames, source)
        outputs.write_gpx(staged / "track.gpx", frames, source, drive.name)
        write_text(staged / "summary.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        if mcap:
            outputs.write_mcap(staged / "poses.mcap", frames, source)
    if plots:
        log.info("drawing the report")
        write_report(
            folder / "report.html", drive.name, frames, source, notes, map_error_m, drive.odometry, start, guide
        )
