"""Every picture of an evaluation and of a network's attention; axes are matplotlib's (`Any`: see `drawing.py`).

What a report shows are panels, a file each, which a page puts side by side or, on a phone, below each other. Those of
single frames show maps without axes: most of the time of a figure goes into its ticks and words, and drawing must cost
less than what is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from bevfusion.datasets.drive import Drive
from bevfusion.drawing import ESTIMATE, LIDAR, MAP, PANEL_IN, PRIOR, TRUTH, cumulative, new_figure, save_figure
from bevfusion.evaluation.results import (
    QUANTITIES,
    WORST_FRAMES,
    BeliefMarginals,
    DriveResult,
    MapTrajectory,
    Quantity,
    ScoredEstimate,
    WorstBeliefs,
    all_estimates,
    badness,
    errors_of,
    errors_of_priors,
    pose_rows,
    trajectories,
    worst,
)
from bevfusion.evaluation.traffic import by_what_was_done, in_words
from bevfusion.files import file_name
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.introspection import Introspection, LayerWeight
from bevfusion.maps.pictures import ATTRIBUTION, paint
from bevfusion.maps.source import MapSource
from bevfusion.progress import frame_progress
from bevfusion.structures import Scan

OVERVIEW_CELLS = 1200  # along the longer side of a trajectory's map
OVERVIEW_MARGIN_M = 40.0
CLOSE_UP_HALF_M = 45.0
CLOSE_UP_CELL_M = 0.25
ROSE_SECTORS = 36
NEAR_DEG = 10.0
BAD = 3.0  # metres or degrees: answers that are less wrong are not shown among the worst
SIGNED = tuple(quantity for quantity in QUANTITIES if quantity.name != "position")
_MAP_IN, _MAP_DOTS_PER_INCH = 6.5, 160
_FRAMES_A_PICTURE = 5  # of the worst ones one is drawn for so many that were asked: drawing costs less than asking
_SLOT_TITLES = {
    "scan": "on the scan alone: |after| / |before|",
    "fusion": "fusion: |after| / |before|",
    "refine": "refinement: |after| / |before|",
    "saliency": "saliency in the matching",
}
Extent = tuple[float, float, float, float]  # left, right, bottom, top


def write_plots(
    folder: Path,
    results: Sequence[DriveResult],
    drives: Sequence[Drive | None],
    maps: Sequence[MapSource],
    mode: str = "single",
) -> None:
    """Draw everything into a new folder.

    Args:
        folder: made here.
        results: of the drives; there is at least one estimate.
        drives: of which these are the results; the scans of the worst frames are read again. None: without a result.
        maps: that the estimates count.
        mode: of the protocol; in `filter` and `smooth` the priors are drawn: what odometry makes of the first one.
    """
    folder.mkdir()
    estimates = all_estimates(results)
    beliefs = WorstBeliefs()
    for result in results:
        beliefs.add(result.worst)
    paths, shown = trajectories(estimates), drawn_worst(estimates)
    with frame_progress("draw", 1 + len(paths) + len(shown)) as show:
        _write_statistics(folder, results, estimates)
        show(1, 1 + len(paths) + len(shown))
        for done, trajectory in enumerate(paths, start=2):
            source = maps[trajectory.estimates[0].map_index]
            _draw_trajectory(
                folder / f"trajectory_{trajectory.file_name}.png", trajectory, source, mode in ("filter", "smooth")
            )
            _draw_errors(folder, trajectory)
            show(done, 1 + len(paths) + len(shown))
        for rank, estimate in enumerate(shown, start=1):
            drive, source = drives[estimate.drive_index], maps[estimate.map_index]
            name = worst_name(rank, estimate)
            if drive is not None:
                _draw_frame(folder, name, estimate, drive[estimate.frame_index].scan, beliefs.of(estimate), source)
            show(1 + len(paths) + rank, 1 + len(paths) + len(shown))


def drawn_worst(estimates: Sequence[ScoredEstimate]) -> list[ScoredEstimate]:
    """The worst estimates that are drawn: ten of many, fewer of a short run, and none that is not bad (`BAD`)."""
    frames = len({(e.drive_index, e.frame_index) for e in estimates})
    found = worst(estimates, min(WORST_FRAMES, max(1, frames // _FRAMES_A_PICTURE)))
    return [estimate for estimate, wrong in zip(found, badness(found), strict=True) if wrong >= BAD]


def worst_name(rank: int, estimate: ScoredEstimate) -> str:
    """What the pictures of a worst frame begin with; `_1_estimate.png` and so on follow."""
    return f"worst_{rank}_{file_name(estimate.drive)}_{estimate.frame}"


def error_names(trajectory: MapTrajectory) -> dict[str, str]:
    """What the pictures of errors over time are called, by the word for what is off."""
    return {quantity.word: f"errors_{trajectory.file_name}_{quantity.word}" for quantity in SIGNED}


def cumulative_name(quantity: Quantity) -> str:
    """What the picture of the cumulative errors is called."""
    return f"cumulative_{quantity.word}"


# all answers together


def _write_statistics(folder: Path, results: Sequence[DriveResult], estimates: Sequence[ScoredEstimate]) -> None:
    _draw_cumulative(folder, estimates)
    heading_deg = errors_of(estimates).heading_deg
    figure, (rose,) = new_figure(PANEL_IN, 4.6, projections=("polar",), top_in=0.75)  # the title stands above 0°
    _heading_rose(rose, heading_deg)
    save_figure(figure, folder / "heading_rose.png")
    figure, (near,) = new_figure(PANEL_IN, 4.6)
    _near_headings(near, heading_deg)
    save_figure(figure, folder / "heading_near.png")
    masses = np.array([e.credible_mass for e in estimates if e.credible_mass is not None])
    if len(masses):
        figure, (axis,) = new_figure(PANEL_IN, 4.6)
        _reliability(axis, masses)
        save_figure(figure, folder / "reliability.png")
    figure, (axis,) = new_figure(PANEL_IN, 3.4)
    _runtimes(axis, np.array([e.runtime_ms for e in estimates]))
    save_figure(figure, folder / "runtime.png")
    shifts = [shift for result in results for shift in result.traffic]
    if shifts:
        turns_deg = {
            in_words(done): np.array([shift.heading_deg for shift in group])
            for done, group in by_what_was_done(shifts).items()
        }
        figure, (axis,) = new_figure(PANEL_IN, 3.6)
        _turned(axis, turns_deg)
        save_figure(figure, folder / "traffic.png")


def _draw_cumulative(folder: Path, estimates: Sequence[ScoredEstimate]) -> None:
    found, chance = errors_of(estimates).by_quantity(), errors_of_priors(estimates).by_quantity()
    for quantity in QUANTITIES:
        figure, (axis,) = new_figure(PANEL_IN, 3.4)
        for errors, label, colour in ((found, "estimate", ESTIMATE), (chance, "prior (chance)", PRIOR)):
            cumulative(axis, np.abs(errors[quantity.key]), label, colour)
        axis.set_xlabel(f"error, {quantity.title} ({quantity.unit})")
        axis.set_ylabel("answers within (%)")
        axis.set_xlim(0.0, 10.0)
        axis.legend(loc="lower right")
        save_figure(figure, folder / f"{cumulative_name(quantity)}.png")


def _heading_rose(axis: Any, heading_deg: Float[np.ndarray, " n"]) -> None:
    """Signed heading errors on a circle (polar axes), straight up for none; areas show shares, so a few are seen."""
    width_deg = 360.0 / ROSE_SECTORS
    sector = np.round(heading_deg / width_deg).astype(int) % ROSE_SECTORS
    percent = 100.0 * np.bincount(sector, minlength=ROSE_SECTORS) / max(1, len(heading_deg))
    angles_rad = np.radians(width_deg) * np.arange(ROSE_SECTORS)
    axis.bar(angles_rad, np.sqrt(percent), width=np.radians(width_deg), color=ESTIMATE, edgecolor="white")
    axis.set_theta_zero_location("N")
    marks = [mark for mark in (1, 10, 50, 100) if mark <= max(1.0, 4.0 * percent.max())]
    axis.set_yticks(np.sqrt(marks), [f"{mark} %" for mark in marks], fontsize=8)
    axis.set_thetagrids(range(0, 360, 45), [f"{a:+d}°" if a else "0°" for a in (0, 45, 90, 135, 180, -135, -90, -45)])
    axis.set_title(f"heading error, sectors of {width_deg:g}°")


def _near_headings(axis: Any, heading_deg: Float[np.ndarray, " n"]) -> None:
    """The errors around zero, where the rose has a single bar."""
    near = heading_deg[np.abs(heading_deg) <= NEAR_DEG]
    bins = np.linspace(-NEAR_DEG, NEAR_DEG, 41)
    axis.hist(near, bins=bins, weights=np.full(len(near), 100.0 / max(1, len(heading_deg))), color=ESTIMATE)
    axis.axvline(0.0, color="0.4", linewidth=0.8)
    beyond = 100.0 * (1.0 - len(near) / max(1, len(heading_deg)))
    axis.set_title(f"within ±{NEAR_DEG:g}° ({beyond:.1f} % lie beyond)")
    axis.set_xlabel("heading error (deg), positive: turned too far left")
    axis.set_ylabel("answers (%)")
    axis.grid(alpha=0.3)


def _reliability(axis: Any, credible_mass: Float[np.ndarray, " n"]) -> None:
    """How many truths credible regions of every size hold, against how many they should."""
    mass = np.sort(credible_mass)
    percent = 100.0 * np.arange(len(mass) + 1) / max(1, len(mass))
    axis.plot([0, 100], [0, 100], ":", color="0.3", label="honest")
    axis.step([0.0, *(100.0 * mass), 100.0], [*percent, percent[-1]], where="post", color=ESTIMATE, label="measured")
    for level in (68.0, 95.0):
        axis.axvline(level, color="0.7", linewidth=0.8)
    axis.set_xlim(0.0, 100.0)
    axis.set_ylim(0.0, 101.0)
    axis.set_xticks([0, 25, 50, 68, 95])
    axis.set_xlabel("size of the credible region (%)")
    axis.set_ylabel("truths inside (%)")
    axis.set_title("above the dotted line: too modest; below: too sure", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")


def _runtimes(axis: Any, runtime_ms: Float[np.ndarray, " n"]) -> None:
    """A histogram; one very slow call (the first, often) does not squeeze the rest."""
    low, p50, p95, high = np.percentile(runtime_ms, (0, 50, 95, 100))
    edge = min(high, 3.0 * p95)
    axis.hist(np.minimum(runtime_ms, edge), bins=np.linspace(0.9 * low, 1.02 * edge + 1e-9, 41), color=TRUTH)
    for value, name in ((p50, "median"), (p95, "95th percentile")):
        axis.axvline(value, color=ESTIMATE, linestyle="-" if name == "median" else "--", label=f"{name} {value:.1f} ms")
    axis.set_xlabel("time a frame (ms)" + (f", up to {high:.0f} ms in the last bar" if high > edge else ""))
    axis.set_ylabel("answers")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right")


def _turned(axis: Any, turns_deg: Mapping[str, Float[np.ndarray, " n"]]) -> None:
    """How many answers turn by no more than so much, a curve for each of the names."""
    far_deg = max(1.0, *(float(np.percentile(values, 95)) for values in turns_deg.values()))
    for name, values in turns_deg.items():
        cumulative(axis, values, name)
    axis.set_xlim(0.0, far_deg)
    axis.set_xlabel("the heading found turns by (deg)")
    axis.set_ylabel("answers within (%)")
    axis.legend(loc="lower right")


# one drive on one map


def _draw_trajectory(path: Path, trajectory: MapTrajectory, source: MapSource, show_priors: bool) -> None:
    estimates = trajectory.estimates
    truth, estimate = (pose_rows(poses) for poses in zip(*((e.truth, e.estimate) for e in estimates), strict=True))
    low, high = truth[:, :2].min(axis=0) - OVERVIEW_MARGIN_M, truth[:, :2].max(axis=0) + OVERVIEW_MARGIN_M
    size_m = high - low
    cell_m = max(0.25, float(size_m.max()) / OVERVIEW_CELLS)
    grid = Grid(math.ceil(size_m[1] / cell_m), math.ceil(size_m[0] / cell_m), cell_m)
    x_m, y_m = (0.5 * (low + high)).tolist()
    aspect = float(np.clip(size_m[1] / size_m[0], 0.4, 2.0))
    figure, (axis,) = new_figure(_MAP_IN, _MAP_IN * aspect + 0.6)
    extent = _show_map(axis, source, grid, SE2(x_m, y_m))
    lines = np.stack([truth[:, :2], estimate[:, :2], np.full((len(truth), 2), np.nan)], axis=1).reshape(-1, 2)
    axis.plot(*lines.T, color=ESTIMATE, linewidth=1.0, alpha=0.8)  # from each truth to its estimate
    if show_priors:
        prior = pose_rows([e.prior for e in estimates if e.draw == estimates[0].draw])
        axis.plot(prior[:, 0], prior[:, 1], "-", color=PRIOR, linewidth=1.5, label="odometry alone")
    axis.plot(truth[:, 0], truth[:, 1], ".-", color=TRUTH, linewidth=1.5, markersize=4, label="truth")
    axis.plot(estimate[:, 0], estimate[:, 1], ".", color=ESTIMATE, markersize=4, label="estimate")
    _limit(axis, extent)
    axis.set_title(f"{estimates[0].drive} on {estimates[0].map_name}")
    axis.set_xlabel("east (m)")
    axis.set_ylabel("north (m)")
    axis.annotate(ATTRIBUTION, (0.99, 0.01), xycoords="axes fraction", ha="right", va="bottom", fontsize=7)
    axis.legend(loc="upper right")
    save_figure(figure, path, _MAP_DOTS_PER_INCH)


def _draw_errors(folder: Path, trajectory: MapTrajectory) -> None:
    """The signed errors over time."""
    estimates = trajectory.estimates
    errors = errors_of(estimates).by_quantity()
    seconds = np.array([e.stamp_ns - estimates[0].stamp_ns for e in estimates]) * 1e-9
    for quantity in SIGNED:
        figure, (axis,) = new_figure(PANEL_IN, 2.8)
        axis.axhline(0.0, color="0.6", linewidth=0.8)
        axis.plot(seconds, errors[quantity.key], ".", color=ESTIMATE, markersize=4)
        axis.set_ylabel(f"{quantity.title} ({quantity.unit})")
        axis.grid(alpha=0.3)
        axis.set_title(estimates[0].drive)
        axis.set_xlabel("time (s)")
        save_figure(figure, folder / f"{error_names(trajectory)[quantity.word]}.png")


# one frame


def _draw_frame(
    folder: Path, name: str, estimate: ScoredEstimate, scan: Scan, belief: BeliefMarginals | None, source: MapSource
) -> None:
    """The scan where the estimate puts it and where it belongs; the belief and the attention, where known."""
    for title, pose in (("estimate", estimate.estimate), ("truth", estimate.truth)):
        figure, axis = _panel()
        _close_up(axis, estimate, scan, pose, source, f"{title}; {2 * CLOSE_UP_HALF_M:g} m of map, north is up")
        axis.legend(loc="upper right")
        save_figure(figure, folder / f"{name}_{1 + (title == 'truth')}_{title}.png")
    if belief is None:
        return
    poses = ((estimate.estimate, ESTIMATE, "estimate"), (estimate.truth, TRUTH, "truth"))
    figure, place = _panel()
    heading_figure, (heading,) = new_figure(PANEL_IN, PANEL_IN)
    belief_panels(figure, (place, heading), belief, source, poses)
    save_figure(figure, folder / f"{name}_3_places.png")
    save_figure(heading_figure, folder / f"{name}_4_headings.png")
    for number, (slot, weight) in enumerate(belief.attention.items(), start=5):
        figure, axis = _panel()
        picture = paint(source.draw(Grid.square(belief.attention_half_m, CLOSE_UP_CELL_M), estimate.estimate))
        _attention_panel(figure, axis, weight, belief.attention_half_m, picture, _SLOT_TITLES.get(slot, slot))
        save_figure(figure, folder / f"{name}_{number}_{slot}.png")


def _panel() -> tuple[Any, Any]:
    """A square figure for a map without axes, and its axis."""
    figure, (axis,) = new_figure(PANEL_IN, PANEL_IN, left_in=0.25)
    return figure, axis


def _close_up(axis: Any, estimate: ScoredEstimate, scan: Scan, pose: SE2, source: MapSource, title: str) -> None:
    """The scan laid on the map at a pose: what stands in it black, the road faint."""
    near = np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]) < 1.5 * CLOSE_UP_HALF_M
    xyz_m = scan.xyz[near].astype(np.float64)
    middle = SE2(estimate.truth.x_m, estimate.truth.y_m)
    extent = _show_map(axis, source, Grid.square(CLOSE_UP_HALF_M, CLOSE_UP_CELL_M), middle)
    xy_m, raised = pose.apply(xyz_m[:, :2]), _is_raised(xyz_m)
    axis.plot(*xy_m[~raised].T, ",", color="#2060ff", alpha=0.15)
    axis.plot(*xy_m[raised].T, ",", color="black", alpha=0.5)
    for shown, colour, label in (
        (estimate.prior, PRIOR, "prior"),
        (estimate.estimate, ESTIMATE, "estimate"),
        (estimate.truth, TRUTH, "truth"),
    ):
        _draw_pose(axis, shown, colour, label)
    _limit(axis, extent)
    axis.set_axis_off()
    axis.set_title(title, fontsize=10)


def belief_panels(
    figure: Any,
    axes: Sequence[Any],
    belief: BeliefMarginals,
    source: MapSource,
    poses: Sequence[tuple[SE2, str, str]],
) -> None:
    """Where a belief lies: over the map whatever the heading, and over headings whatever the place.

    Args:
        figure: of the axes.
        axes: two, for places and for headings.
        belief: what to show.
        source: the map below.
        poses: to be marked, with colour and name.
    """
    place, heading = axes
    centre = belief.centre
    half_m = float(belief.window.shifts_m()[-1]) + 0.5 * belief.window.cell_m
    cells = math.ceil(2.0 * half_m / CLOSE_UP_CELL_M)
    extent = _show_map(place, source, Grid(cells, cells, 2.0 * half_m / cells), SE2(centre.x_m, centre.y_m), alpha=0.6)
    share = np.where(belief.place > 0.01 * belief.place.max(), 100.0 * belief.place, np.nan)
    _overlay(figure, place, share, extent, f"probability of places (%), {2 * half_m:g} m of map")
    yaws_deg = np.degrees(belief.window.yaw_offsets_rad())
    heading.step(yaws_deg, 100.0 * belief.heading, where="mid", color="black", linewidth=1.2, label="belief")
    for pose, colour, label in poses:
        _draw_pose(place, pose, colour, label)
        turn_deg = math.degrees(wrap_angle(pose.yaw_rad - centre.yaw_rad))
        heading.axvline(turn_deg, color=colour, linewidth=1.6, label=label)
    _limit(place, extent)
    place.set_axis_off()
    heading.set_ylim(bottom=0.0)
    heading.set_xlabel("heading against the middle of the window (deg)")
    heading.set_ylabel("probability (%)")
    heading.grid(alpha=0.3)
    heading.legend()


def draw_attention(introspection: Introspection, source: MapSource, path: Path) -> None:
    """The scan and the attention of each slot in the ego frame, over the map where the estimate puts it."""
    half_m = introspection.grid.half_extent_m[0]
    spans = [(0, 0, 4), (0, 4, 4), (0, 8, 4), (1, 2, 4), (1, 6, 4)]
    figure, axes = new_figure(17.0, 11.0, rows=2, columns=12, spans=spans)
    picture = paint(source.draw(Grid.square(half_m, CLOSE_UP_CELL_M), introspection.estimate.map_from_ego))
    scan_axis, *slot_axes = axes
    _ego_map(scan_axis, half_m, picture, "map and what stands in the scan", alpha=1.0)
    scan_axis.plot(*introspection.scan.xyz[_is_raised(introspection.scan.xyz)][:, :2].T, ",", color="black")
    for axis, (slot, weight) in zip(slot_axes, introspection.attention.items(), strict=True):
        seen = np.where(introspection.seen, weight, np.nan)
        _attention_panel(figure, axis, seen, half_m, picture, _SLOT_TITLES[slot])
    save_figure(figure, path)


def draw_layers(introspection: Introspection, layers: Mapping[str, LayerWeight], path: Path) -> None:
    """What each map layer counts, and the channel gates that it comes from."""
    height_in = 1.5 + 0.3 * max(len(layers), 10)
    figure, (passed, moved, channels) = new_figure(16.0, height_in, columns=3, left_in=1.6)
    names = sorted(layers, key=lambda name: layers[name].moved)
    passed.barh(names, [layers[name].gate for name in names], color=MAP)
    passed.axvline(float(introspection.map_gate.mean()), color="black", linestyle=":")
    passed.set_xlabel("fusion lets through (1: all; dotted: mean of the channels)")
    passed.set_title("channel weight by map layer")
    moved.barh(names, [100.0 * layers[name].moved for name in names], color=MAP)
    moved.set_yticks([])  # the same names as on the left
    moved.set_xlabel("probability that moves without the layer (%)")
    moved.set_title("influence on the pose")
    for gate, colour, label in ((introspection.lidar_gate, LIDAR, "LiDAR"), (introspection.map_gate, MAP, "map")):
        channels.plot(np.sort(gate)[::-1], ".-", color=colour, label=label)
    channels.axhline(1.0, color="0.6", linewidth=0.8)
    channels.set_ylim(bottom=0.0)
    channels.set_xlabel("channel, by rank")
    channels.set_title("channel gates of fusion")
    channels.legend()
    save_figure(figure, path)


def draw_belief(introspection: Introspection, source: MapSource, path: Path) -> None:
    """The pose volume of one scan, its prior and the estimate."""
    prediction, estimate = introspection.prediction, introspection.estimate
    belief = BeliefMarginals.of(prediction.volume, estimate.prior)
    figure, axes = new_figure(13.0, 5.6, columns=2)
    poses = ((estimate.prior, PRIOR, "prior"), (estimate.map_from_ego, ESTIMATE, "estimate"))
    belief_panels(figure, axes, belief, source, poses)
    save_figure(figure, path)


# parts


def _show_map(axis: Any, source: MapSource, grid: Grid, middle: SE2, alpha: float = 1.0) -> Extent:
    """A map's area in colours about a place, axes in map metres."""
    half_x_m, half_y_m = grid.half_extent_m
    extent = (middle.x_m - half_x_m, middle.x_m + half_x_m, middle.y_m - half_y_m, middle.y_m + half_y_m)
    axis.imshow(paint(source.draw(grid, middle)), origin="upper", extent=extent, alpha=alpha)
    return extent


def _ego_map(axis: Any, half_m: float, picture: np.ndarray, title: str, alpha: float = 0.6) -> Extent:
    """A picture of the map about a vehicle that looks to the right."""
    extent = (-half_m, half_m, -half_m, half_m)
    axis.imshow(picture, origin="upper", extent=extent, alpha=alpha)
    axis.plot(0.0, 0.0, marker=">", color=LIDAR, markeredgecolor="white", markersize=9)
    _limit(axis, extent)
    axis.set_axis_off()
    axis.set_title(title, fontsize=10)
    return extent


def _attention_panel(
    figure: Any, axis: Any, weight: Float[np.ndarray, "h w"], half_m: float, picture: np.ndarray, title: str
) -> None:
    extent = _ego_map(axis, half_m, picture, title)
    _overlay(figure, axis, weight, extent, title)


def _overlay(figure: Any, axis: Any, weight: Float[np.ndarray, "h w"], extent: Extent, title: str) -> None:
    """A plane whose row 0 is the lowest y, over the map; colours end where one cell in fifty lies beyond."""
    known = weight[np.isfinite(weight)]
    low, high = np.percentile(known, (2, 98)).tolist() if len(known) else (0.0, 1.0)
    shown = axis.imshow(
        weight, origin="lower", extent=extent, cmap="plasma", vmin=low, vmax=max(high, low + 1e-6), alpha=0.7
    )
    figure.colorbar(shown, ax=axis, shrink=0.8)
    axis.set_title(title, fontsize=10)


def _is_raised(xyz_m: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Points above the road: walls and trunks carry the comparison."""
    if not len(xyz_m):
        return np.zeros(0, dtype=bool)
    raised: np.ndarray = xyz_m[:, 2] >= np.percentile(xyz_m[:, 2], 5) + 0.6
    return raised


def _draw_pose(axis: Any, pose: SE2, colour: str, label: str) -> None:
    ahead = pose.apply(np.array([[0.0, 0.0], [6.0, 0.0]]))
    axis.plot(*ahead.T, "-", color=colour, linewidth=2)
    axis.plot(*ahead[0], "o", color=colour, markersize=7, markeredgecolor="white", label=label)


def _limit(axis: Any, extent: Extent) -> None:
    axis.set_xlim(extent[:2])
    axis.set_ylim(extent[2:])
