"""What a logged drive is to the rest of the package."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.structures import DataError, Frame
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
