"""The path that was driven from a pose on: what a path ahead is compared with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bevfusion.direction.path import NEAR_POINTS, SPACING_M, PathAhead, sampled
from bevfusion.geometry.se2 import SE2

_SMALLEST_STEP_M = 0.3  # below, the noise of a receiver shows more than the drive
_MOST_POSES = 200  # of 0.3 m and more: 60 m
_WIDEST_GAP_M = 6.0  # poses that are farther apart do not say where the vehicle drove between them


@dataclass(frozen=True)
class DrivenTrack:
    """The poses of a drive in the order of time, map frame; standstills take no room in it."""

    poses: tuple[SE2, ...]
    index_of: tuple[int, ...]  # of each pose that it was made of: the last one taken by then

    @classmethod
    def of(cls, poses: Sequence[SE2]) -> "DrivenTrack":
        """A track through poses, those left out that are less than 0.3 m from the last one taken."""
        kept: list[SE2] = []
        index_of: list[int] = []
        for pose in poses:
            if not kept or math.hypot(pose.x_m - kept[-1].x_m, pose.y_m - kept[-1].y_m) >= _SMALLEST_STEP_M:
                kept.append(pose)
            index_of.append(len(kept) - 1)
        return cls(tuple(kept), tuple(index_of))

    def path_from(self, map_from_ego: SE2, index: int) -> PathAhead | None:
        """The path that was driven, seen from a pose on the track; None where less than 16 m of it are known.

        Args:
            map_from_ego: the true pose.
            index: of the pose of the track at that time (a drive may cross itself, so its place does not tell).
        """
        ahead = np.array([(pose.x_m, pose.y_m) for pose in self.poses[index : index + _MOST_POSES]])
        gaps_m = np.hypot(*np.diff(ahead, axis=0).T)
        wide = np.flatnonzero(gaps_m > _WIDEST_GAP_M)
        ahead = ahead[: wide[0] + 1] if len(wide) else ahead
        seen_m = map_from_ego.inverse().apply(ahead)
        # the line begins at the vehicle: what is nearest to it, or behind it, is it
        seen_m = seen_m[np.cumsum(np.hypot(*seen_m.T) > 0.5 * SPACING_M) > 0]
        xy_m, yaw_rad = sampled(np.concatenate([np.zeros((1, 2)), seen_m]))
        return PathAhead(xy_m, yaw_rad, np.zeros(len(xy_m))) if len(xy_m) >= NEAR_POINTS else None
