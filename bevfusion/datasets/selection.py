"""Some of the frames of a drive: a stretch of it, or every so many."""

from dataclasses import dataclass

from bevfusion.datasets.drive import Derived, Drive
from bevfusion.structures import DataError, Frame


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
