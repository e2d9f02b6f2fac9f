"""Poses over time: what a log knows of the vehicle between and at its scans."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import DataError

MAX_GAP_S = 1.5  # between two samples; GNSS once a second with one lost is not followed any more
MAX_OUTSIDE_S = 0.15  # before the first and after the last sample
SAME_S = 0.002


@dataclass(frozen=True)
class PoseTrack:
    """Poses in one plane frame, in order of time; between two samples the motion is steady.

    Raises:
        DataError: if there is no sample, or the arrays do not belong together.
    """

    stamps_ns: Int[np.ndarray, " n"]
    xy_m: Float[np.ndarray, "n 2"]
    yaw_rad: Float[np.ndarray, " n"]  # without jumps of a turn

    def __post_init__(self) -> None:
        if not len(self.stamps_ns) == len(self.xy_m) == len(self.yaw_rad) or len(self.stamps_ns) == 0:
            raise DataError(f"expected as many stamps as poses, got {len(self.stamps_ns)} and {len(self.xy_m)}")

    @classmethod
    def sorted(
        cls, stamps_ns: Int[np.ndarray, " n"], xy_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"]
    ) -> "PoseTrack":
        """A track of samples in any order; those that are not finite and second ones of a moment are left out.

        Raises:
            DataError: if none is left.
        """
        good = np.isfinite(xy_m).all(axis=1) & np.isfinite(yaw_rad)
        stamps_ns, xy_m, yaw_rad = stamps_ns[good], xy_m[good], yaw_rad[good]
        _, first = np.unique(stamps_ns, return_index=True)
        return cls(stamps_ns[first], xy_m[first], np.unwrap(yaw_rad[first]))

    def at(self, stamp_ns: int) -> SE2 | None:
        """The pose at a moment, or None where the track does not reach."""
        after = int(np.searchsorted(self.stamps_ns, stamp_ns))
        if after < len(self.stamps_ns) and int(self.stamps_ns[after]) == stamp_ns:
            return self._sample(after)
        if len(self.stamps_ns) == 1:
            return self._sample(0) if abs(int(self.stamps_ns[0]) - stamp_ns) <= SAME_S * 1e9 else None
        left = min(max(after - 1, 0), len(self.stamps_ns) - 2)
        t0_ns, t1_ns = int(self.stamps_ns[left]), int(self.stamps_ns[left + 1])
        outside_s = max(t0_ns - stamp_ns, stamp_ns - t1_ns) / 1e9
        if outside_s > MAX_OUTSIDE_S or (outside_s < 0 and t1_ns - t0_ns > MAX_GAP_S * 1e9):
            return None
        if t1_ns - t0_ns > MAX_GAP_S * 1e9:  # too sparse to extrapolate
            near = left if outside_s == (t0_ns - stamp_ns) / 1e9 else left + 1
            return self._sample(near) if outside_s <= SAME_S else None
        share = (stamp_ns - t0_ns) / (t1_ns - t0_ns)
        xy_m = (1 - share) * self.xy_m[left] + share * self.xy_m[left + 1]
        yaw_rad = (1 - share) * self.yaw_rad[left] + share * self.yaw_rad[left + 1]
        return SE2(float(xy_m[0]), float(xy_m[1]), wrap_angle(float(yaw_rad)))

    def _sample(self, number: int) -> SE2:
        x_m, y_m = self.xy_m[number]
        return SE2(float(x_m), float(y_m), wrap_angle(float(self.yaw_rad[number])))

    def shifted(self, ego_from_sensor: SE2) -> "PoseTrack":
        """The track of a sensor fixed to what this track follows."""
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        x_m, y_m = ego_from_sensor.x_m, ego_from_sensor.y_m
        arm_m = np.stack([cos * x_m - sin * y_m, sin * x_m + cos * y_m], axis=1)
        return PoseTrack(self.stamps_ns, self.xy_m + arm_m, self.yaw_rad + ego_from_sensor.yaw_rad)


@dataclass(frozen=True)
class GeoTrack:
    """Places on the globe over time: a track in metres about one of them."""

    frame: LocalFrame
    track: PoseTrack

    @classmethod
    def from_degrees(
        cls,
        stamps_ns: Int[np.ndarray, " n"],
        lat_lon_deg: Float[np.ndarray, "n 2"],
        yaw_rad: Float[np.ndarray, " n"] | None = None,
    ) -> "GeoTrack":
        """A track of fixes; without headings (counter-clockwise from east) each faces where it moves to.

        Raises:
            DataError: if no fix is a place on the globe.
        """
        good = np.isfinite(lat_lon_deg).all(axis=1)
        good &= (np.abs(np.nan_to_num(lat_lon_deg)) <= [90.0, 180.0]).all(axis=1)
        if not good.any():
            raise DataError(f"none of {len(lat_lon_deg)} fixes is a place on the globe")
        stamps_ns, lat_lon_deg = stamps_ns[good], lat_lon_deg[good]
        frame = LocalFrame(float(lat_lon_deg[0, 0]), float(lat_lon_deg[0, 1]))
        xy_m = frame.many_metres_from_degrees(lat_lon_deg)
        if yaw_rad is None:
            order = np.argsort(stamps_ns, kind="stable")
            stamps_ns, xy_m = stamps_ns[order], xy_m[order]
            return cls(frame, PoseTrack.sorted(stamps_ns, xy_m, course_rad(xy_m)))
        # the map's north is the meridian's only at its origin: one value serves a drive of some kilometres
        turns = np.array([_convergence_rad(frame, place) for place in lat_lon_deg[:: max(1, len(good) // 100)]])
        convergence = np.interp(np.arange(len(xy_m)), np.linspace(0, len(xy_m) - 1, len(turns)), turns)
        return cls(frame, PoseTrack.sorted(stamps_ns, xy_m, yaw_rad[good] + convergence))

    def at(self, stamp_ns: int) -> GeoPose | None:
        """The place and heading at a moment, or None where the track does not reach."""
        pose = self.track.at(stamp_ns)
        return None if pose is None else self.frame.geo_pose(pose)


@dataclass(frozen=True)
class FixSpread:
    """How far GNSS fixes may be off, as they say themselves.

    Raises:
        DataError: if there is no fix, or the arrays do not belong together.
    """

    stamps_ns: Int[np.ndarray, " n"]  # ascending
    std_m: Float[np.ndarray, " n"]  # along the worse axis on the ground; NaN where a fix does not say

    def __post_init__(self) -> None:
        if len(self.stamps_ns) != len(self.std_m) or len(self.stamps_ns) == 0:
            raise DataError(f"expected one deviation a fix, got {len(self.std_m)} for {len(self.stamps_ns)}")

    def at(self, stamp_ns: int) -> float | None:
        """The larger one of the fixes before and after a moment; None where neither says."""
        after = int(np.searchsorted(self.stamps_ns, stamp_ns))
        if after < len(self.stamps_ns) and int(self.stamps_ns[after]) == stamp_ns:
            beside = self.std_m[after : after + 1]
        else:
            beside = self.std_m[max(after - 1, 0) : after + 1]
        stated = beside[np.isfinite(beside)]
        return float(stated.max()) if len(stated) else None


def course_rad(xy_m: Float[np.ndarray, "n 2"], least_m: float = 1.0) -> Float[np.ndarray, " n"]:
    """Direction of travel at each position; where it stands still, that of the last move (or the first to come)."""
    course, known = np.zeros(len(xy_m)), np.zeros(len(xy_m), dtype=bool)
    behind = 0
    for here in range(1, len(xy_m)):
        moved = xy_m[here] - xy_m[behind]
        if math.hypot(moved[0], moved[1]) >= least_m:
            course[here], known[here] = math.atan2(moved[1], moved[0]), True
            behind = here
    if not known.any():
        return course
    last = np.maximum.accumulate(np.where(known, np.arange(len(xy_m)), -1))
    filled: np.ndarray = course[np.where(last >= 0, last, int(np.argmax(known)))]
    return filled


def _convergence_rad(frame: LocalFrame, lat_lon_deg: Float[np.ndarray, " 2"]) -> float:
    return frame.map_from_ego(GeoPose(float(lat_lon_deg[0]), float(lat_lon_deg[1]), 0.0)).yaw_rad
