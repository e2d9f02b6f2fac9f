"""Whether scans lie in the axes of the vehicle, by how they fit each other after the vehicle has moved.

A LiDAR that sits turned on the roof, a transform with the wrong sign, axes of another custom (x to the right, or a
left-handed y) or scans that were moved into the world already give frames that look all right, one by one. Two scans
a few metres apart tell: what stands upright lies on itself only where the motion is applied along the right axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bevfusion.geometry.se2 import SE2
from bevfusion.summary import InputSummary

NEAREST_M, FARTHEST_M = 2.5, 40.0  # of points that are compared
UPRIGHT_M = 0.5  # above the lowest point of its cell and those around: walls, poles and cars, not the ground
GROUND_CELL_M, CELL_M = 1.0, 0.4
LEAST_STEP_M, MOST_STEP_M = 1.2, 5.0  # of the vehicle between two scans that are compared
MOST_PAIRS = 6
LEAST_PAIRS = 3
LEAST_CELLS = 60
CLEAR_SHARE = 0.12  # of the cells that lie on others: by so much other axes must fit better
LEAST_SHARE = 0.3
MOST_WITHOUT = 0.8  # of the pairs that must agree
TURNING_RAD = np.deg2rad(2.0)  # of two scans: less does not tell left from right


@dataclass(frozen=True)
class Reading:
    """How the axes of scans may lie: turned against the vehicle's, mirrored, or fixed to the world."""

    turn_deg: int = 0
    mirrored: bool = False
    in_world: bool = False

    def motion(self, ego_a_from_ego_b: SE2) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, " 2"]]:
        """The motion of the vehicle in the axes of the scans: rotation and shift that take points of b to a."""
        if self.in_world:
            return np.eye(2), np.zeros(2)
        scan_from_ego = _rotation(-np.deg2rad(self.turn_deg))
        if self.mirrored:
            scan_from_ego = np.diag([1.0, -1.0]) @ scan_from_ego
        shift_m = scan_from_ego @ np.array([ego_a_from_ego_b.x_m, ego_a_from_ego_b.y_m])
        return scan_from_ego @ _rotation(ego_a_from_ego_b.yaw_rad) @ scan_from_ego.T, shift_m

    def describe(self) -> str:
        """In words."""
        if self.in_world:
            return "the vehicle stood still: they lie in the frame of a world, not about their sensor"
        turned = f"their x axis pointed {self.turn_deg} degrees left of the way ahead"
        if self.mirrored:
            turned = "left and right were exchanged" + (f" and {turned}" if self.turn_deg else "")
        return f"{turned}: is the LiDAR mounted so (--extrinsics), or the motion told in other axes?"


AS_TOLD = Reading()
TURNED = tuple(Reading(turn_deg) for turn_deg in (90, 180, -90))
MIRRORED = tuple(Reading(turn_deg, mirrored=True) for turn_deg in (0, 90, 180, -90))
IN_WORLD = Reading(in_world=True)


def _rotation(angle_rad: float) -> Float[np.ndarray, "2 2"]:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]])


def scan_pairs(poses: Sequence[SE2 | None]) -> list[tuple[int, int]]:
    """Positions of scans that are a few metres apart, spread over a drive, those where it turns among them.

    Args:
        poses: of the vehicle at each scan, where they are known.
    """
    found: list[tuple[float, int, int]] = []
    after = 0
    for before, start in enumerate(poses):
        if start is None:
            continue
        after = max(after, before + 1)
        while after < len(poses) and not _has_moved(start, poses[after]):
            after += 1
        if after == len(poses):
            break
        end = poses[after]
        assert end is not None
        step = start.inverse() @ end
        if np.hypot(step.x_m, step.y_m) <= MOST_STEP_M:
            found.append((abs(step.yaw_rad), before, after))
    if not found:
        return []
    spread = [found[at] for at in np.linspace(0, len(found) - 1, MOST_PAIRS // 2).astype(int)]
    turning = sorted(found, reverse=True)[:: max(1, len(found) // 20)][: MOST_PAIRS // 2]
    return sorted({(before, after) for _, before, after in (*spread, *turning)})


def _has_moved(start: SE2, end: SE2 | None) -> bool:
    return end is not None and bool(np.hypot(end.x_m - start.x_m, end.y_m - start.y_m) >= LEAST_STEP_M)


def upright_m(xyz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "m 2"]:
    """Where something stands up from the ground, once a cell: x and y in metres."""
    range_m = np.hypot(xyz[:, 0], xyz[:, 1])
    near = xyz[(range_m > NEAREST_M) & (range_m < FARTHEST_M)].astype(np.float64)
    cells = np.floor(near[:, :2] / GROUND_CELL_M).astype(np.int64) + int(FARTHEST_M / GROUND_CELL_M) + 2
    side = 2 * int(FARTHEST_M / GROUND_CELL_M) + 4
    lowest_m = np.full((side, side), np.inf)
    np.minimum.at(lowest_m, (cells[:, 0], cells[:, 1]), near[:, 2])
    around_m = np.min(
        [np.roll(lowest_m, (along, across), (0, 1)) for along in (-1, 0, 1) for across in (-1, 0, 1)], axis=0
    )
    standing = near[near[:, 2] > around_m[cells[:, 0], cells[:, 1]] + UPRIGHT_M, :2]
    _, first = np.unique(_keys(standing), return_index=True)
    once: np.ndarray = standing[first]
    return once


def _keys(xy_m: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
    cells = np.floor(xy_m / CELL_M).astype(np.int64)
    keys: np.ndarray = cells[:, 0] * 100_003 + cells[:, 1]
    return keys


def fit(a_m: Float[np.ndarray, "n 2"], b_m: Float[np.ndarray, "m 2"], motion: SE2, reading: Reading) -> float:
    """Share of what stands upright in the second scan that lies on such in the first, after a motion."""
    rotation, shift_m = reading.motion(motion)
    return float(np.isin(_keys(b_m @ rotation.T + shift_m), _keys(a_m)).mean())


def check_axes(
    pairs: Sequence[tuple[Float[np.ndarray, "_ 2"], Float[np.ndarray, "_ 2"], SE2]], summary: InputSummary
) -> None:
    """Warn if scans fit each other better along other axes than their own.

    Args:
        pairs: what stands upright in two scans, and `ego_a_from_ego_b`.
        summary: is told.
    """
    used = [pair for pair in pairs if min(len(pair[0]), len(pair[1])) >= LEAST_CELLS]
    turning = [pair for pair in used if abs(pair[2].yaw_rad) >= TURNING_RAD]
    doubts = []
    for readings, judged in (((*TURNED, IN_WORLD), used), (MIRRORED, turning)):
        if len(judged) < LEAST_PAIRS:
            continue
        told = np.array([fit(*pair, AS_TOLD) for pair in judged])
        for reading in readings:
            other = np.array([fit(*pair, reading) for pair in judged])
            gain = float(np.median(other - told))
            if gain > CLEAR_SHARE and float(np.median(other)) > LEAST_SHARE and (other > told).mean() >= MOST_WITHOUT:
                doubts.append((gain, reading, float(np.median(other)), float(np.median(told)), len(judged)))
    if doubts:
        _, reading, share, as_told, count = max(doubts, key=lambda doubt: doubt[0])
        text = f"{count} pairs of scans fit each other best ({100 * share:.0f} % of what stands upright, else "
        text += f"{100 * as_told:.0f} %) as if {reading.describe()}"
        summary.add("warning", "axes", text, count=count)
