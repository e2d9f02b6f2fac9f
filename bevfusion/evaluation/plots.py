"""Pictures of an evaluation.

matplotlib is imported when the first is drawn (figures are `Any` in signatures for that reason), and its global state
stays untouched.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.predictions import Errors, Prediction, errors_of, pose_rows
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.pictures import paint
from bevfusion.maps.source import MapSource

WORST_FRAMES = 6
OVERVIEW_CELLS = 1200  # along the longer side of a trajectory's map
OVERVIEW_MARGIN_M = 40.0
CLOSE_UP_HALF_M = 45.0
CLOSE_UP_CELL_M = 0.25
TRUTH, ESTIMATE, PRIOR = "#0050c8", "#d81b60", "#f0a000"


def write_plots(
    folder: Path, predictions: Sequence[Prediction], drives: Sequence[Drive], maps: Sequence[MapSource]
) -> None:
    """Draw everything into a new folder: error curves, each drive's course and errors, and the worst frames."""
    folder.mkdir()
    _save(_cumulative(predictions), folder / "cumulative_errors.png")
    courses: dict[tuple[str, int], list[Prediction]] = {}
    for prediction in predictions:
        courses.setdefault((prediction.drive, prediction.map_index), []).append(prediction)
    for (drive, map_index), group in courses.items():
        several = sum(name == drive for name, _ in courses) > 1
        name = f"{_file_name(drive)}_map{map_index}" if several else _file_name(drive)
        _save(_trajectory(group, maps[map_index]), folder / f"trajectory_{name}.png")
        _save(_errors_over_time(group), folder / f"errors_{name}.png")
    for rank, prediction in enumerate(worst(predictions), start=1):
        figure = _close_up(prediction, drives[prediction.drive_index], maps[prediction.map_index])
        _save(figure, folder / f"worst_{rank}_{_file_name(prediction.drive)}_{prediction.frame}.png")


def worst(predictions: Sequence[Prediction], count: int = WORST_FRAMES) -> list[Prediction]:
    """The answers farthest from the truth, each frame once."""
    distances_m = errors_of(predictions).position_m
    chosen: dict[tuple[int, int], Prediction] = {}
    for i in np.argsort(-distances_m, kind="stable"):
        chosen.setdefault((predictions[i].drive_index, predictions[i].position), predictions[i])
        if len(chosen) == count:
            break
    return list(chosen.values())


def map_picture(
    source: MapSource, grid: Grid, centre_x_m: float, centre_y_m: float
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[float, float, float, float]]:
    """A map's area in colours, highest row first, and its extent (left, right, bottom, top) in map metres."""
    half_x_m, half_y_m = grid.half_extent_m
    extent = (centre_x_m - half_x_m, centre_x_m + half_x_m, centre_y_m - half_y_m, centre_y_m + half_y_m)
    return paint(source.draw(grid, SE2(centre_x_m, centre_y_m))), extent


def _cumulative(predictions: Sequence[Prediction]) -> Any:
    estimates = errors_of(predictions)
    truth = pose_rows([p.truth for p in predictions])
    chance = Errors.of(pose_rows([p.prior for p in predictions]), truth)
    figure, axes = _figure(13.0, 4.0, columns=4)
    titles = ("lateral_m", "longitudinal_m", "position_m", "heading_deg")
    for axis, title in zip(axes, titles, strict=True):
        for errors, label, colour in ((estimates, "estimate", ESTIMATE), (chance, "prior (chance)", PRIOR)):
            size = np.sort(np.abs(getattr(errors, title)))
            percent = 100.0 * np.arange(1, len(size) + 1) / len(size)
            # starts at 0 %, and stays at 100 % up to the right border
            axis.step([0.0, *size, 1e6], [0.0, *percent, 100.0], where="post", color=colour, label=label)
        quantity, unit = title.rsplit("_", 1)
        axis.set_xlabel(f"{quantity} error ({unit})")
        axis.set_xlim(0.0, 10.0)
        axis.set_ylim(0.0, 101.0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("answers within (%)")
    axes[-1].legend(loc="lower right")
    return figure


def _trajectory(predictions: Sequence[Prediction], source: MapSource) -> Any:
    truth = pose_rows([p.truth for p in predictions])
    estimate = pose_rows([p.estimate for p in predictions])
    low, high = truth[:, :2].min(axis=0) - OVERVIEW_MARGIN_M, truth[:, :2].max(axis=0) + OVERVIEW_MARGIN_M
    size_m = high - low
    cell_m = max(0.25, float(size_m.max()) / OVERVIEW_CELLS)
    grid = Grid(math.ceil(size_m[1] / cell_m), math.ceil(size_m[0] / cell_m), cell_m)
    picture, extent = map_picture(source, grid, *(0.5 * (low + high)).tolist())
    aspect = float(np.clip(size_m[1] / size_m[0], 0.4, 2.0))
    figure, (axis,) = _figure(9.0, 9.0 * aspect + 0.6)
    axis.imshow(picture, origin="upper", extent=extent)
    for start, end in zip(truth, estimate, strict=True):
        axis.plot([start[0], end[0]], [start[1], end[1]], color=ESTIMATE, linewidth=0.5, alpha=0.6)
    axis.plot(truth[:, 0], truth[:, 1], ".-", color=TRUTH, linewidth=1.5, markersize=4, label="truth")
    axis.plot(estimate[:, 0], estimate[:, 1], ".", color=ESTIMATE, markersize=4, label="estimate")
    axis.set_xlim(extent[:2])
    axis.set_ylim(extent[2:])
    axis.set_title(f"{predictions[0].drive} on {predictions[0].map_name}")
    axis.set_xlabel("east (m)")
    axis.set_ylabel("north (m)")
    axis.legend(loc="upper right")
    return figure


def _errors_over_time(predictions: Sequence[Prediction]) -> Any:
    ordered = sorted(predictions, key=lambda p: (p.stamp_ns, p.draw))
    errors = errors_of(ordered)
    seconds = np.array([p.stamp_ns - ordered[0].stamp_ns for p in ordered]) * 1e-9
    figure, axes = _figure(10.0, 6.0, rows=3, sharex=True)
    panels = (
        (errors.lateral_m, "lateral (m)"),
        (errors.longitudinal_m, "longitudinal (m)"),
        (errors.heading_deg, "heading (deg)"),
    )
    for axis, (values, label) in zip(axes, panels, strict=True):
        axis.axhline(0.0, color="0.6", linewidth=0.8)
        axis.plot(seconds, values, ".", color=ESTIMATE, markersize=4)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_title(f"{ordered[0].drive}: signed error of the estimate")
    axes[-1].set_xlabel("time (s)")
    return figure


def _close_up(prediction: Prediction, drive: Drive, source: MapSource) -> Any:
    """The scan laid on the map where the estimate puts it, and where it belongs."""
    scan = drive[prediction.position].scan
    near = np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]) < 1.5 * CLOSE_UP_HALF_M
    xyz_m = scan.xyz[near].astype(np.float64)
    grid = Grid.square(CLOSE_UP_HALF_M, CLOSE_UP_CELL_M)
    picture, extent = map_picture(source, grid, prediction.truth.x_m, prediction.truth.y_m)
    figure, axes = _figure(14.0, 7.4, columns=2)
    errors = errors_of([prediction])
    at_estimate = (
        f"estimate: lateral {errors.lateral_m[0]:+.1f} m, longitudinal {errors.longitudinal_m[0]:+.1f} m, "
        f"heading {errors.heading_deg[0]:+.1f} deg"
    )
    titles = (
        (at_estimate, prediction.estimate),
        (f"truth: {prediction.drive}, frame {prediction.frame}", prediction.truth),
    )
    for axis, (title, pose) in zip(axes, titles, strict=True):
        axis.imshow(picture, origin="upper", extent=extent)
        _draw_points(axis, pose.apply(xyz_m[:, :2]), xyz_m[:, 2])
        for shown, colour, label in (
            (prediction.prior, PRIOR, "prior"),
            (prediction.estimate, ESTIMATE, "estimate"),
            (prediction.truth, TRUTH, "truth"),
        ):
            _draw_pose(axis, shown, colour, label)
        axis.set_xlim(extent[:2])
        axis.set_ylim(extent[2:])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("east (m)")
    axes[0].set_ylabel("north (m)")
    axes[0].legend(loc="upper right")
    return figure


def _draw_points(axis: Any, xy_m: Float[np.ndarray, "n 2"], z_m: Float[np.ndarray, " n"]) -> None:
    """Points above the road in black, the road itself faint: walls and trunks carry the comparison."""
    ground = z_m < np.percentile(z_m, 5) + 0.6 if len(z_m) else np.zeros(0, dtype=bool)
    axis.plot(*xy_m[ground].T, ",", color="#2060ff", alpha=0.15)
    axis.plot(*xy_m[~ground].T, ",", color="black", alpha=0.5)


def _draw_pose(axis: Any, pose: SE2, colour: str, label: str) -> None:
    ahead = pose.apply(np.array([[0.0, 0.0], [6.0, 0.0]]))
    axis.plot(*ahead.T, "-", color=colour, linewidth=2)
    axis.plot(*ahead[0], "o", color=colour, markersize=7, markeredgecolor="white", label=label)


def _figure(width_in: float, height_in: float, *, rows: int = 1, columns: int = 1, sharex: bool = False) -> Any:
    """A figure that pyplot does not know of, and its axes as a flat list."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharex=sharex).flat)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)


def _file_name(name: str) -> str:
    """A name with nothing in it that a file system could object to."""
    return re.sub(r"[^\w.-]+", "_", name)
