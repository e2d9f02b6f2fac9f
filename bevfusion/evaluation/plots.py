"""Pictures of an evaluation."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bevfusion.datasets.drive import Drive
from bevfusion.drawing import ESTIMATE, PRIOR, TRUTH, new_figure, save_figure
from bevfusion.evaluation import panels
from bevfusion.evaluation.marginals import Marginals, WorstMarginals
from bevfusion.evaluation.pictures import draw_attention
from bevfusion.evaluation.predictions import Errors, Prediction, errors_of, pose_rows
from bevfusion.evaluation.traffic import Shift, by_what_was_done, in_words
from bevfusion.evaluation.trajectories import Course, courses, file_name
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.pictures import paint
from bevfusion.maps.source import MapSource

WORST_FRAMES = 10
OVERVIEW_CELLS = 1200  # along the longer side of a trajectory's map
OVERVIEW_MARGIN_M = 40.0
CLOSE_UP_HALF_M = 45.0
CLOSE_UP_CELL_M = 0.25


def write_plots(
    folder: Path,
    predictions: Sequence[Prediction],
    drives: Sequence[Drive | None],
    maps: Sequence[MapSource],
    mode: str = "single",
    beliefs: WorstMarginals | None = None,
    shifts: Sequence[Shift] = (),
) -> None:
    """Draw everything into a new folder.

    Args:
        folder: made here.
        predictions: what was answered.
        drives: that the predictions count; the scans of the worst frames are read again. None: nothing was predicted.
        maps: the same.
        mode: of the protocol; in `filter` and `smooth` the priors are drawn: what odometry makes of the first one.
        beliefs: of the worst frames, where the locator showed any.
        shifts: how far other traffic moved answers, where it was asked.
    """
    folder.mkdir()
    errors = errors_of(predictions)
    save_figure(_cumulative(predictions), folder / "cumulative_errors.png")
    save_figure(_headings(errors.heading_deg), folder / "heading_rose.png")
    masses = np.array([p.credible_mass for p in predictions if p.credible_mass is not None])
    if len(masses):
        figure, (axis,) = new_figure(6.0, 5.0)
        panels.reliability(axis, masses)
        save_figure(figure, folder / "reliability.png")
    figure, (axis,) = new_figure(8.0, 3.6)
    panels.runtimes(axis, np.array([p.runtime_ms for p in predictions]))
    save_figure(figure, folder / "runtime.png")
    if shifts:
        turns_deg = {
            in_words(done): np.array([shift.heading_deg for shift in group])
            for done, group in by_what_was_done(shifts).items()
        }
        figure, (axis,) = new_figure(8.0, 4.2)
        panels.turned(axis, turns_deg)
        save_figure(figure, folder / "traffic.png")
    for course in courses(predictions):
        source = maps[course.predictions[0].map_index]
        save_figure(
            _trajectory(course, source, mode in ("filter", "smooth")), folder / f"trajectory_{course.file_name}.png"
        )
        save_figure(_errors_over_time(course.predictions), folder / f"errors_{course.file_name}.png")
    for rank, prediction in enumerate(worst(predictions), start=1):
        source = maps[prediction.map_index]
        name = f"{worst_name(rank, prediction)}.png"
        drive = drives[prediction.drive_index]
        if drive is not None:
            save_figure(_close_up(prediction, drive, source), folder / name)
        shown = None if beliefs is None else beliefs.of(prediction)
        if shown is not None:
            save_figure(_belief(prediction, shown, source), folder / f"belief_of_{name}")
            if shown.attention:
                draw_attention(shown, prediction.estimate, source, folder / f"attention_of_{name}")


def worst_name(rank: int, prediction: Prediction) -> str:
    """What the pictures of a worst frame are called."""
    return f"worst_{rank}_{file_name(prediction.drive)}_{prediction.frame}"


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
    figure, axes = new_figure(9.0, 6.4, rows=2, columns=2)
    titles = ("lateral_m", "longitudinal_m", "position_m", "heading_deg")
    for axis, title in zip(axes, titles, strict=True):
        for errors, label, colour in ((estimates, "estimate", ESTIMATE), (chance, "prior (chance)", PRIOR)):
            panels.cumulative(axis, np.abs(getattr(errors, title)), label, colour)
        quantity, unit = title.rsplit("_", 1)
        axis.set_xlabel(f"{quantity} error ({unit})")
        axis.set_xlim(0.0, 10.0)
    for axis in axes[::2]:
        axis.set_ylabel("answers within (%)")
    axes[-1].legend(loc="lower right")
    return figure


def _headings(heading_deg: Float[np.ndarray, " n"]) -> Any:
    figure, (rose, near) = new_figure(10.0, 4.6, columns=2, projections=("polar", "rectilinear"))
    panels.heading_rose(rose, heading_deg)
    panels.near_headings(near, heading_deg)
    return figure


def _trajectory(course: Course, source: MapSource, show_priors: bool) -> Any:
    predictions = course.predictions
    truth = pose_rows([p.truth for p in predictions])
    estimate = pose_rows([p.estimate for p in predictions])
    low, high = truth[:, :2].min(axis=0) - OVERVIEW_MARGIN_M, truth[:, :2].max(axis=0) + OVERVIEW_MARGIN_M
    size_m = high - low
    cell_m = max(0.25, float(size_m.max()) / OVERVIEW_CELLS)
    grid = Grid(math.ceil(size_m[1] / cell_m), math.ceil(size_m[0] / cell_m), cell_m)
    picture, extent = map_picture(source, grid, *(0.5 * (low + high)).tolist())
    aspect = float(np.clip(size_m[1] / size_m[0], 0.4, 2.0))
    figure, (axis,) = new_figure(9.0, 9.0 * aspect + 0.6)
    axis.imshow(picture, origin="upper", extent=extent)
    for start, end in zip(truth, estimate, strict=True):
        axis.plot([start[0], end[0]], [start[1], end[1]], color=ESTIMATE, linewidth=0.5, alpha=0.6)
    if show_priors:
        prior = pose_rows([p.prior for p in predictions if p.draw == predictions[0].draw])
        axis.plot(prior[:, 0], prior[:, 1], "-", color=PRIOR, linewidth=1.5, label="odometry alone")
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
    errors = errors_of(predictions)
    seconds = np.array([p.stamp_ns - predictions[0].stamp_ns for p in predictions]) * 1e-9
    figure, axes = new_figure(10.0, 6.0, rows=3, sharex=True)
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
    axes[0].set_title(f"{predictions[0].drive}: signed error of the estimate")
    axes[-1].set_xlabel("time (s)")
    return figure


def _close_up(prediction: Prediction, drive: Drive, source: MapSource) -> Any:
    """The scan laid on the map where the estimate puts it, and where it belongs."""
    scan = drive[prediction.position].scan
    near = np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]) < 1.5 * CLOSE_UP_HALF_M
    xyz_m = scan.xyz[near].astype(np.float64)
    grid = Grid.square(CLOSE_UP_HALF_M, CLOSE_UP_CELL_M)
    picture, extent = map_picture(source, grid, prediction.truth.x_m, prediction.truth.y_m)
    figure, axes = new_figure(14.0, 7.4, columns=2)
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


def _belief(prediction: Prediction, belief: Marginals, source: MapSource) -> Any:
    """Where the belief of one answer lay: over the map whatever the heading, and along each axis."""
    figure, axes = new_figure(12.0, 7.0, rows=2, columns=2)
    place, heading, along_x, along_y = axes
    shifts_m, centre = belief.window.shifts_m(), belief.centre
    half_m = float(shifts_m[-1]) + 0.5 * belief.window.cell_m
    cells = math.ceil(2.0 * half_m / CLOSE_UP_CELL_M)
    grid = Grid(cells, cells, 2.0 * half_m / cells)
    picture, extent = map_picture(source, grid, centre.x_m, centre.y_m)
    place.imshow(picture, origin="upper", extent=extent, alpha=0.6)
    share = np.where(belief.place > 0.01 * belief.place.max(), belief.place, np.nan)
    shown = place.imshow(100.0 * share, origin="lower", extent=extent, cmap="plasma", alpha=0.75)
    figure.colorbar(shown, ax=place, shrink=0.8, label="%")
    away = {}
    for pose, colour, label in ((prediction.estimate, ESTIMATE, "estimate"), (prediction.truth, TRUTH, "truth")):
        _draw_pose(place, pose, colour, label)
        turn_deg = math.degrees(wrap_angle(pose.yaw_rad - centre.yaw_rad))
        away[label] = (pose.x_m - centre.x_m, pose.y_m - centre.y_m, turn_deg, colour)
    place.set_xlim(extent[:2])
    place.set_ylim(extent[2:])
    place.set_title("place, over all headings", fontsize=10)
    for axis, values, prob, which, label in (
        (along_x, shifts_m, belief.place.sum(0), 0, "east of the window's middle (m)"),
        (along_y, shifts_m, belief.place.sum(1), 1, "north of the window's middle (m)"),
        (heading, np.degrees(belief.window.yaw_offsets_rad()), belief.heading, 2, "heading against the prior (deg)"),
    ):
        marks = tuple((float(found[which]), str(found[3]), name) for name, found in away.items())
        panels.marginal(axis, values, prob, marks, label)
    heading.legend()
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
