"""Pictures of what a network attends to; figures as in `plots.py`, which draws the evaluation."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.drawing import LIDAR, MAP, PRIOR, new_figure, save_figure
from bevfusion.evaluation.marginals import Marginals
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.direction import heading_marginal
from bevfusion.introspection import Introspection, LayerWeight
from bevfusion.maps.pictures import paint
from bevfusion.maps.source import MapSource

_MAP_CELL_M = 0.25
_TITLES = {
    "fusion": "fusion: |after| / |before|",
    "refine": "refinement: |after| / |before|",
    "saliency": "saliency in the matching",
}


def draw_spatial(introspection: Introspection, source: MapSource, path: Path) -> None:
    """The scan and the attention of each slot in the ego frame, over the map where the estimate puts it."""
    figure, axes = new_figure(13.0, 12.0, rows=2, columns=2)
    half_x_m, half_y_m = introspection.grid.half_extent_m
    extent = (-half_x_m, half_x_m, -half_y_m, half_y_m)
    fine = Grid(round(2 * half_y_m / _MAP_CELL_M), round(2 * half_x_m / _MAP_CELL_M), _MAP_CELL_M)
    picture = paint(source.draw(fine, introspection.estimate.map_from_ego))
    xyz_m = introspection.scan.xyz
    raised = xyz_m[xyz_m[:, 2] > np.percentile(xyz_m[:, 2], 5) + 0.6] if len(xyz_m) else xyz_m
    for axis, slot in zip(axes, (None, *introspection.attention), strict=True):
        axis.imshow(picture, origin="upper", extent=extent, alpha=1.0 if slot is None else 0.6)
        if slot is None:
            axis.plot(*raised[:, :2].T, ",", color="black")
            axis.set_title("map and what stands in the scan")
        else:
            weight = np.where(introspection.seen, introspection.attention[slot], np.nan)
            _overlay(figure, axis, weight, extent, _TITLES[slot])
        axis.plot(0.0, 0.0, marker=">", color=LIDAR, markeredgecolor="white", markersize=9)
        axis.set_xlim(extent[:2])
        axis.set_ylim(extent[2:])
        axis.set_xlabel("ahead (m)")
        axis.set_ylabel("left (m)")
    save_figure(figure, path)


def draw_attention(seen: Marginals, pose: SE2, source: MapSource, path: Path) -> None:
    """The attention of each slot in the ego frame, over the map at a pose of the map frame."""
    figure, axes = new_figure(15.0, 4.9, columns=len(seen.attention))
    half_m = seen.attention_half_m
    extent = (-half_m, half_m, -half_m, half_m)
    picture = paint(source.draw(Grid.square(half_m, _MAP_CELL_M), pose))
    for axis, (slot, weight) in zip(axes, seen.attention.items(), strict=True):
        axis.imshow(picture, origin="upper", extent=extent, alpha=0.6)
        _overlay(figure, axis, weight, extent, _TITLES.get(slot, slot))
        axis.plot(0.0, 0.0, marker=">", color=LIDAR, markeredgecolor="white", markersize=9)
        axis.set_xlim(extent[:2])
        axis.set_ylim(extent[2:])
        axis.set_xlabel("ahead (m)")
    axes[0].set_ylabel("left (m)")
    save_figure(figure, path)


def draw_layers(introspection: Introspection, layers: Mapping[str, LayerWeight], path: Path) -> None:
    """What each map layer counts, and the channel gates that it comes from."""
    figure, (passed, moved, channels) = new_figure(15.0, 1.5 + 0.3 * max(len(layers), 10), columns=3)
    names = sorted(layers, key=lambda name: layers[name].moved)
    passed.barh(names, [layers[name].gate for name in names], color=MAP)
    passed.axvline(float(introspection.map_gate.mean()), color="black", linestyle=":")
    passed.set_xlabel("fusion lets through (1: all; dotted: mean of the channels)")
    passed.set_title("channel weight by map layer")
    moved.barh(names, [100.0 * layers[name].moved for name in names], color=MAP)
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
    """The pose volume: over the map whatever the heading, and along each axis whatever the rest."""
    volume = introspection.prediction.volume
    prob = volume.log_prob[0].float().exp().cpu().numpy()
    shifts_m, centre = volume.window.shifts_m(), introspection.estimate.prior
    half_m = float(shifts_m[-1]) + 0.5 * volume.window.cell_m
    figure, axes = new_figure(15.0, 8.0, rows=2, columns=2)
    place, heading, along_x, along_y = axes
    cells = math.ceil(2 * half_m / _MAP_CELL_M)
    grid = Grid(cells, cells, 2 * half_m / cells)
    extent = (centre.x_m - half_m, centre.x_m + half_m, centre.y_m - half_m, centre.y_m + half_m)
    picture = paint(source.draw(grid, SE2(centre.x_m, centre.y_m)))
    place.imshow(picture, origin="upper", extent=extent, alpha=0.6)
    share = prob.sum(0)
    _overlay(figure, place, np.where(share > 0.01 * share.max(), share, np.nan), extent, "place, over all headings")
    pose = introspection.estimate.map_from_ego
    place.plot(centre.x_m, centre.y_m, "o", color=PRIOR, markeredgecolor="white", label="prior")
    ahead_m = 0.12 * half_m
    tip = (ahead_m * math.cos(pose.yaw_rad), ahead_m * math.sin(pose.yaw_rad))
    place.arrow(pose.x_m, pose.y_m, *tip, color=LIDAR, width=0.03 * ahead_m, head_width=0.3 * ahead_m)
    place.plot(pose.x_m, pose.y_m, "o", color=LIDAR, markeredgecolor="white", label="estimate")
    place.set_xlim(extent[:2])
    place.set_ylim(extent[2:])
    place.legend(loc="upper right")
    place.set_xlabel("east (m)")
    place.set_ylabel("north (m)")
    yaws_deg = np.degrees(volume.window.yaw_offsets_rad())
    _marginal(heading, yaws_deg, heading_marginal(volume)[0].float().exp().cpu().numpy(), MAP, "pose volume")
    direction = introspection.prediction.direction.log_prob[0].float().exp().cpu().numpy()
    _marginal(heading, yaws_deg, direction, LIDAR, "direction head")
    heading.set_xlabel("heading against the prior (deg)")
    heading.legend()
    _marginal(along_x, shifts_m, prob.sum((0, 1)), MAP, "")
    along_x.set_xlabel("east of the prior (m)")
    _marginal(along_y, shifts_m, prob.sum((0, 2)), MAP, "")
    along_y.set_xlabel("north of the prior (m)")
    save_figure(figure, path)


def _overlay(
    figure: Any,
    axis: Any,
    weight: Float[np.ndarray, "h w"],
    extent: tuple[float, float, float, float],
    title: str,
) -> None:
    """A plane whose row 0 is the lowest y, over the map; colours end where one cell in fifty lies beyond."""
    known = weight[np.isfinite(weight)]
    low, high = np.percentile(known, (2, 98)).tolist() if len(known) else (0.0, 1.0)
    shown = axis.imshow(
        weight, origin="lower", extent=extent, cmap="plasma", vmin=low, vmax=max(high, low + 1e-6), alpha=0.7
    )
    figure.colorbar(shown, ax=axis, shrink=0.8)
    axis.set_title(title)


def _marginal(axis: Any, at: Float[np.ndarray, " n"], prob: Float[np.ndarray, " n"], colour: str, label: str) -> None:
    axis.step(at, 100.0 * prob, where="mid", color=colour, label=label)
    axis.set_ylim(bottom=0.0)
    axis.set_ylabel("probability (%)")
    axis.grid(alpha=0.3)
