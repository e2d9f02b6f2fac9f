"""What a logged drive is to the rest of the package."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from bevfusion.structures import Frame
from bevfusion.summary import InputSummary


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
        """All frames in order."""


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

    @abstractmethod
    def __getitem__(self, position: int) -> Frame:
        """The changed frame."""

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order of time."""
        return (self[position] for position in range(len(self)))
