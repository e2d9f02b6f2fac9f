"""The last scans of a drive as one cloud, put together by odometry: what traffic hid in one, another may have seen.

The vehicle moves in a plane here: height, roll and pitch of the earlier scans stay as they were measured.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from bevfusion.datasets.drive import Derived, Drive
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Frame, Scan


class Accumulated(Derived):
    """Another drive, every scan of which holds those of the frames before it, too."""

    def __init__(self, drive: Drive, scans: int) -> None:
        """A drive with odometry.

        Args:
            drive: which.
            scans: how many make one; the first frames have fewer.

        Raises:
            DataError: if the drive has no odometry.
        """
        if scans < 1:
            raise DataError(f"expected at least one scan, got {scans}")
        if scans > 1 and drive.odometry == "none":
            raise DataError(f"{drive.name}: {scans} scans are put together by odometry, and the drive has none")
        super().__init__(drive)
        self._scans = scans
        self._recent: dict[int, Frame] = {}  # frames of the last cloud, by position: the next one needs most of them

    def __getitem__(self, position: int) -> Frame:
        """The drive's frame; its scan holds the points of the last scans, in the axes of the latest.

        Raises:
            IndexError: past the end.
            DataError: if its own scan is broken.
        """
        recent = {}
        for earlier in range(max(0, position - self._scans + 1), position):
            with suppress(DataError):  # a scan that cannot be read costs itself alone
                recent[earlier] = self._recent[earlier] if earlier in self._recent else self._drive[earlier]
        self._recent = recent
        recent[position] = self._drive[position]
        return together(list(recent.values()))


def together(frames: Sequence[Frame]) -> Frame:
    """The last frame, with the points of all in its axes but of those whose place odometry does not know."""
    *earlier, frame = frames
    if frame.odom_from_ego is None:  # unknown where the others are
        return frame
    ego_from_odom = frame.odom_from_ego.inverse()
    moved = [
        _moved(other.scan, ego_from_odom @ other.odom_from_ego) for other in earlier if other.odom_from_ego is not None
    ]
    return replace(frame, scan=_joined([*moved, frame.scan])) if moved else frame


def _moved(scan: Scan, new_from_old: SE2) -> Scan:
    """The points in other axes of the same plane."""
    xyz = scan.xyz.copy()
    xyz[:, :2] = new_from_old.apply(scan.xyz[:, :2].astype(np.float64))
    return replace(scan, xyz=xyz)


def _joined(scans: list[Scan]) -> Scan:
    """All points; labels only where every scan has them."""
    labels = [scan.labels for scan in scans if scan.labels is not None]
    return Scan(
        np.concatenate([scan.xyz for scan in scans]),
        np.concatenate([scan.intensity for scan in scans]),
        np.concatenate(labels) if len(labels) == len(scans) else None,
    )
