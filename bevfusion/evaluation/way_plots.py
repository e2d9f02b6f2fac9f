"""Pictures of the way ahead for some frames of an evaluation: field and path over scan and map, and what was driven."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bevfusion.api import draw_pose
from bevfusion.datasets.drive import Drive
from bevfusion.direction.field import field_of
from bevfusion.direction.matching import matched
from bevfusion.direction.path import path_along
from bevfusion.direction.picture import FIELD_GRID, draw_paths
from bevfusion.direction.road_graph import road_graph_of
from bevfusion.drawing import save_figure
from bevfusion.evaluation.direction import scored_track
from bevfusion.evaluation.protocol import evenly_spaced
from bevfusion.evaluation.results import DriveResult, ScoredEstimate
from bevfusion.files import file_name
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError, PoseEstimate

DRIVEN = "#000000"
MOST = 6
"""Pictures of an evaluation."""
_ABOUT = 150  # poses of the track before and after a frame by which its road is found: 45 m and more
_LOOK_BACK_M = 30.0  # an answer may lie so far behind the true place


def way_name(number: int, estimate: ScoredEstimate) -> str:
    """What a picture is called."""
    return f"way_{number}_{file_name(estimate.drive)}_{estimate.frame}"


def shown_frames(results: Sequence[DriveResult]) -> list[ScoredEstimate]:
    """The frames that may be drawn: the middle one of each drive, of evenly spread drives where there are many."""
    middles = [result.estimates[len(result.estimates) // 2] for result in results if result.estimates]
    return [middles[index] for index in evenly_spaced(len(middles), MOST)]


def write_way_plots(
    folder: Path, results: Sequence[DriveResult], drives: Sequence[Drive | None], maps: Sequence[MapSource]
) -> None:
    """Draw way_N_DRIVE_FRAME.png for `shown_frames`; none where the map has no road that was driven.

    Args:
        folder: exists.
        results: of the drives.
        drives: of which these are the results.
        maps: that the estimates count.
    """
    for number, estimate in enumerate(shown_frames(results), start=1):
        drive, source = drives[estimate.drive_index], maps[estimate.map_index]
        if drive is None:
            continue
        try:
            graph = road_graph_of(source)
            scan = drive[estimate.frame_index].scan
        except DataError:
            continue
        same = [other for other in results[estimate.drive_index].estimates if other.map_index == estimate.map_index]
        track, index_of = scored_track(same, drive, source.frame)
        index = index_of[estimate.frame]
        first = max(index - _ABOUT, 0)
        stretches = matched(graph, track.poses[first : index + _ABOUT])
        stretch = next((each for each in stretches if each.first <= index - first <= each.last), None)
        if stretch is None:
            continue
        found = estimate.estimate
        true_m = float(stretch.along_m[index - first - stretch.first])
        along_m = stretch.route.place_of(found, max(true_m - _LOOK_BACK_M, 0.0))[0]
        path = path_along(stretch.route, found, estimate.covariance, along_m=along_m)
        field = field_of(graph, FIELD_GRID, SE2(found.x_m, found.y_m), found, estimate.covariance, [path])
        heading_std_rad = float(np.sqrt(estimate.covariance[2, 2]))
        answer = PoseEstimate(found, estimate.covariance, heading_std_rad, estimate.confidence, estimate.prior)
        figure = draw_pose(scan, answer, source, [path], field)
        driven = track.path_from(estimate.truth, index)
        if driven is not None:
            draw_paths(figure.axes[0], estimate.truth, [driven], DRIVEN)
        save_figure(figure, folder / f"{way_name(number, estimate)}.png")
