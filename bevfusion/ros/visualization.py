"""The map and the belief as what ROS shows: occupancy grids, polylines, pictures; numpy only, no ROS."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int8, UInt8

from bevfusion.direction.field import DirectionField
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import introspect
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.maps.source import MapSource
from bevfusion.structures import Locator, PoseEstimate, Scan

FREE, OCCUPIED, UNKNOWN = 0, 100, -1  # of nav_msgs/OccupancyGrid
MAX_CELLS = 25_000_000  # of the published map: larger ones get coarser cells
_BLOCK_CELLS = 512
_FREE_LAYERS = ("road", "path", "parking")
_OCCUPIED_LAYERS = ("building", "building_outline", "wall", "fence", "hedge")
_LOOK_M, _LOOK_RAD = 2.0, math.radians(4.0)  # attention is asked about the pose alone: a small window is fast


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What nav_msgs/OccupancyGrid holds: row 0 is the lowest y; the origin is the corner of cell (0, 0)."""

    cells: Int8[np.ndarray, "h w"]
    cell_m: float
    origin: SE2  # map frame


def occupancy_of_map(source: MapSource, cell_m: float) -> Occupancy:
    """The whole map: roads, paths and car parks are free, buildings and barriers occupied, the rest unknown."""
    x_min_m, y_min_m, x_max_m, y_max_m = source.bounds_m
    area_m2 = (x_max_m - x_min_m) * (y_max_m - y_min_m)
    cell_m = max(cell_m, math.sqrt(area_m2 / MAX_CELLS))
    width, height = math.ceil((x_max_m - x_min_m) / cell_m), math.ceil((y_max_m - y_min_m) / cell_m)
    cells = np.full((height, width), UNKNOWN, np.int8)
    free, occupied = ([layer_index(name) for name in names] for names in (_FREE_LAYERS, _OCCUPIED_LAYERS))
    for row in range(0, height, _BLOCK_CELLS):
        for col in range(0, width, _BLOCK_CELLS):
            grid = Grid(min(_BLOCK_CELLS, height - row), min(_BLOCK_CELLS, width - col), cell_m)
            centre = SE2(x_min_m + (col + 0.5 * grid.width) * cell_m, y_min_m + (row + 0.5 * grid.height) * cell_m)
            layers = source.draw(grid, centre) > 0
            block = cells[row : row + grid.height, col : col + grid.width]
            block[layers[free].any(axis=0)] = FREE
            block[layers[occupied].any(axis=0)] = OCCUPIED
    return Occupancy(cells, cell_m, SE2(x_min_m, y_min_m))


def map_segments_m(source: MapSource) -> dict[str, Float[np.ndarray, "n 2 2"]]:
    """Ends of straight pieces in the map frame by kind: middles of roads, outlines of buildings, and barriers.

    A picture has no vectors: its pieces are the outlines of what it shows.
    """
    found: dict[str, list[np.ndarray]] = {}
    if isinstance(source, OsmRenderer):
        osm = source.osm_map
        for road in osm.roads:
            found.setdefault("road" if road.drivable else "path", []).append(road.xy_m)
        for area in osm.areas:
            found.setdefault(area.kind, []).extend((area.outer_m, *area.holes_m))
        for line in osm.lines:
            found.setdefault(line.kind, []).append(line.xy_m)
    else:
        found = _outlines_m(source)
    shown = {layer.name for layer in LAYERS}
    return {
        kind: np.concatenate([np.stack([course[:-1], course[1:]], axis=1) for course in courses])
        for kind, courses in found.items()
        if kind in shown
    }


def _outlines_m(source: MapSource) -> dict[str, list[np.ndarray]]:
    occupancy = occupancy_of_map(source, 0.5)
    corner = np.array([occupancy.origin.x_m, occupancy.origin.y_m])
    found = {}
    for kind, value in (("road", FREE), ("building", OCCUPIED)):
        mask = (occupancy.cells == value).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_TC89_L1)
        rings = [np.concatenate([ring[:, 0], ring[:1, 0]]) for ring in contours if len(ring) > 2]
        if rings:
            found[kind] = [corner + (ring + 0.5) * occupancy.cell_m for ring in rings]
    return found


def colour_of(kind: str) -> tuple[float, float, float]:
    """Of a layer, 0 to 1."""
    red, green, blue = LAYERS[layer_index(kind)].colour
    return red / 255.0, green / 255.0, blue / 255.0


def belief_slice(estimate: PoseEstimate) -> Occupancy | None:
    """The belief at the heading of its best pose, 100 where it is highest; None for an estimate without one."""
    if estimate.belief is None:
        return None
    window = estimate.belief.window
    log_prob = estimate.belief.log_prob[0].float().numpy()
    best = int(np.argmax(log_prob)) // log_prob[0].size
    plane = log_prob[best]
    cells = np.rint(OCCUPIED * np.exp(plane - plane.max())).astype(np.int8)
    half_m = (window.reach + 0.5) * window.cell_m
    return Occupancy(cells, window.cell_m, SE2(estimate.prior.x_m - half_m, estimate.prior.y_m - half_m))


def drivable_cells(field: DirectionField) -> Occupancy:
    """Where one can drive, for a costmap: 0 where it is sure, 100 where it is sure that one cannot."""
    cells = np.rint(OCCUPIED * (1.0 - field.drivable)).astype(np.int8)
    half_x_m, half_y_m = field.grid.half_extent_m
    return Occupancy(cells, field.grid.cell_m, field.map_from_grid @ SE2(-half_x_m, -half_y_m))


def field_arrows_m(field: DirectionField) -> tuple[Float[np.ndarray, "n 3 2 2"], Float[np.ndarray, " n"]]:
    """Arrows in the map frame, a shaft and two barbs each, as ends of lines, and how sure each is (0 to 1).

    A cell has one where it is more likely drivable than not. Sure is p exp(-std^2 / 2): the length of a mean of unit
    vectors of that spread, where there is a road at all.
    """
    shown = field.drivable > 0.5
    centres_m = field.map_from_grid.apply(field.grid.centres_m()[shown])
    yaw_rad = field.yaw_rad[shown] + field.map_from_grid.yaw_rad
    ahead = 0.4 * field.grid.cell_m * np.stack([np.cos(yaw_rad), np.sin(yaw_rad)], axis=1)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    tip_m = centres_m + ahead
    tails_m = (centres_m - ahead, centres_m + 0.3 * ahead + 0.5 * left, centres_m + 0.3 * ahead - 0.5 * left)
    ends_m = np.stack([np.stack([tail_m, tip_m], axis=1) for tail_m in tails_m], axis=1)
    return ends_m, field.drivable[shown] * np.exp(-0.5 * field.std_rad[shown] ** 2)


def attention_picture(locator: Locator, scan: Scan, estimate: PoseEstimate) -> UInt8[np.ndarray, "h w 3"]:
    """How loud each cell of the scan speaks in the matching, in colours; ahead is up. Costs a pass of the network."""
    introspection = introspect(locator, scan, estimate.map_from_ego, _LOOK_M, _LOOK_RAD)
    loud = np.where(introspection.seen, introspection.attention["saliency"], 0.0)
    top = float(np.percentile(loud[introspection.seen], 98)) if introspection.seen.any() else 1.0
    grey = np.rint(255.0 * np.clip(loud / max(top, 1e-9), 0.0, 1.0)).astype(np.uint8)
    coloured = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]  # from BGR
    ahead_up: np.ndarray = np.ascontiguousarray(coloured.transpose(1, 0, 2)[::-1, ::-1])
    return ahead_up
