"""A drive as the rest of the package sees it, and drives made of another: some of its frames, scans put together.

Scans are put together by odometry: what traffic hid in one, another may have seen. The vehicle moves in a plane there:
height, roll and pitch of the earlier scans stay as they were measured.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Frame, Scan
from bevfusion.summary import InputSummary

MAX_BAD_SHARE = 0.1  # of the frames: more that cannot be read are an error


@runtime_checkable
class Drive(Protocol):
    """A sequence of frames, readable one by one or by position; scans are read from disk when asked for."""

    @property
    def name(self) -> str:
        """Short name for tables and files."""

    @property
    def odometry(self) -> str:
        """Where `Frame.odom_from_ego` comes from: none, log, kiss-icp or truth."""

    @property
    def summary(self) -> InputSummary:
        """What was taken from the log, left, assumed and lost; readers add to it as they find out."""

    def __len__(self) -> int:
        """Number of frames that have a scan."""

    def __getitem__(self, position: int) -> Frame:
        """The frame at a position in 0 .. len - 1, in order of time.

        Raises:
            IndexError: past the end.
            DataError: if its scan file is broken.
        """

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order; those that cannot be read are left out and counted, as `readable_frames` does."""


def truths_of(drive: Drive) -> Mapping[int, GeoPose]:
    """True poses by frame number that a log holds beside those of its scans; empty where it holds no more."""
    truths: Callable[[], Mapping[int, GeoPose]] | None = getattr(drive, "truths", None)
    return {} if truths is None else truths()


class BadFrames:
    """The frames of a drive that cannot be read: one of them costs itself and not the drive.

    Args:
        drive: whose summary is told.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._bad)

    def skip(self, position: int, error: DataError) -> None:
        """Go on without a frame.

        Raises:
            DataError: if more than one in ten of all are bad.
        """
        self._bad.setdefault(position, " ".join(str(error).split()))
        if len(self._bad) > MAX_BAD_SHARE * len(self._drive):
            first = next(iter(self._bad.values()))
            raise DataError(
                f"{len(self._bad)} of {len(self._drive)} frames cannot be read, the first: {first}"
            ) from error

    def tell(self) -> None:
        """Note in the drive's summary how many there were."""
        if self._bad:
            told = f"{len(self._bad)} of {len(self._drive)} frames cannot be read and are left out, the first: "
            told += next(iter(self._bad.values()))
            self._drive.summary.add("lost", "frames", told, count=len(self._bad), total=len(self._drive))


def readable_frames(drive: Drive) -> Iterator[Frame]:
    """The frames of a drive in order, without those that cannot be read; its summary is told of them at the end.

    Raises:
        DataError: if more than one in ten cannot be read.
    """
    bad = BadFrames(drive)
    for position in range(len(drive)):
        try:
            frame = drive[position]
        except DataError as error:
            bad.skip(position, error)
            continue
        yield frame
    bad.tell()


class Derived(ABC):
    """Another drive, frame by frame, with something about each frame changed."""

    def __init__(self, drive: Drive) -> None:
        """What to change."""
        self._drive = drive

    @property
    def name(self) -> str:
        """Name of the drive."""
        return self._drive.name

    @property
    def odometry(self) -> str:
        """Where `Frame.odom_from_ego` comes from."""
        return self._drive.odometry

    @property
    def summary(self) -> InputSummary:
        """What the drive is made of."""
        return self._drive.summary

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._drive)

    def truths(self) -> Mapping[int, GeoPose]:
        """True poses of the log, also where it has no scan; see `truths_of`."""
        return truths_of(self._drive)

    @abstractmethod
    def __getitem__(self, position: int) -> Frame:
        """The changed frame."""

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order of time that can be read."""
        return readable_frames(self)


@dataclass(frozen=True, slots=True)
class FrameSelection:
    """Which frames, counted in the drive's own order from 0."""

    start: int = 0
    frames: int | None = None  # so many at most; None: up to the end
    every: int = 1

    def indices(self, count: int) -> range:
        """The chosen ones of so many frames; there may be none."""
        chosen = range(self.start, count, self.every)
        return chosen if self.frames is None else chosen[: self.frames]


ALL_FRAMES = FrameSelection()


class SelectedFrames(Derived):
    """A drive of some of the frames of another; frame numbers, stamps and odometry stay as they are."""

    def __init__(self, drive: Drive, selection: FrameSelection) -> None:
        """The frames of a selection.

        Raises:
            DataError: if there is none among them.
        """
        super().__init__(drive)
        self._chosen = selection.indices(len(drive))
        if not self._chosen:
            raise DataError(
                f"{drive.name}: no frame is left of its {len(drive)} with start {selection.start}, frames "
                f"{selection.frames}, every {selection.every}"
            )

    def __len__(self) -> int:
        """Number of selected frames."""
        return len(self._chosen)

    def __getitem__(self, position: int) -> Frame:
        """The frame at a position among the selected ones."""
        return self._drive[self._chosen[position]]


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
