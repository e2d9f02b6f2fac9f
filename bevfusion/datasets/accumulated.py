"""The last scans of a drive as one cloud, put together by odometry: what traffic hid in one, another may have seen.

The vehicle moves in a plane here: height, roll and pitch of the earlier scans stay as they were measured.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bevfusion.datasets.drive import Drive
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Frame, Scan


class Accumulated:
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
        self._drive, self._scans = drive, scans
        self._recent: OrderedDict[int, Frame] = OrderedDict()  # frames read lately, by position

    @property
    def name(self) -> str:
        """Name of the drive."""
        return self._drive.name

    @property
    def odometry(self) -> str:
        """Where `Frame.odom_from_ego` comes from."""
        return self._drive.odometry

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._drive)

    def __getitem__(self, position: int) -> Frame:
        """The drive's frame; its scan holds the points of the last scans, in the axes of the latest.

        Raises:
            IndexError: past the end.
            DataError: if one of the scans is broken.
        """
        frame = self._drive[position] if self._scans == 1 else self._frame(position)
        if frame.odom_from_ego is None:  # unknown where the others are
            return frame
        ego_from_odom = frame.odom_from_ego.inverse()
        earlier = [self._frame(before) for before in range(max(0, position - self._scans + 1), position)]
        moved = [
            _moved(other.scan, ego_from_odom @ other.odom_from_ego)
            for other in earlier
            if other.odom_from_ego is not None
        ]
        return replace(frame, scan=_joined([*moved, frame.scan]))

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order of time."""
        return (self[position] for position in range(len(self)))

    def _frame(self, position: int) -> Frame:
        """A frame of the drive, read once as long as it is needed."""
        if position not in self._recent:
            self._recent[position] = self._drive[position]
            while len(self._recent) > self._scans:
                self._recent.popitem(last=False)
        return self._recent[position]


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
