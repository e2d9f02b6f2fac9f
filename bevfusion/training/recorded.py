"""The recorded drives of a configuration: those of their frames that can be learned from, each drive with its map."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bevfusion.config import DriveSource
from bevfusion.datasets.drive import BadFrames, Derived, Drive, FrameSelection
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.maps.source import MapSource, first_covering, open_map
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError, Frame

log = logging.getLogger(__name__)

PARTS = ("lidar", "gnss", "imu", "odometry")


class LearnableFrames(Derived):
    """The frames of a drive at some positions; frame numbers and stamps stay as they are."""

    def __init__(self, drive: Drive, positions: Sequence[int]) -> None:
        """`positions` are those of the drive, in order of time."""
        super().__init__(drive)
        self.positions = tuple(positions)

    def __len__(self) -> int:
        """Number of these frames."""
        return len(self.positions)

    def __getitem__(self, position: int) -> Frame:
        """The frame at a position among these."""
        return self._drive[self.positions[position]]


@cache
def recorded_drive(source: DriveSource) -> tuple[LearnableFrames, MapSource]:
    """A recorded drive without the frames that have no true pose, lie off its map, or cannot be read; they are counted.

    Every scan is read once, so that a broken one is found out before a night of training. What was opened is kept:
    training, calibration and evaluation ask for the same drives.

    Raises:
        DataError: if the drive or its map cannot be used, or no frame is left.
    """
    drive = open_drive(source.drive, log_options(source))
    drive.summary.log(log)
    chosen = FrameSelection(source.start, source.frames, source.every).indices(len(drive))
    if not chosen:
        raise DataError(
            f"{source.drive}: no frame is left of its {len(drive)} with start {source.start}, frames {source.frames}, "
            f"every {source.every}"
        )
    area = _opened_map(source.map)
    kept, without_truth, off_map, place = [], 0, 0, None
    bad = BadFrames(drive)
    with frame_progress(f"looking through {drive.name}", len(chosen)) as show:
        for done, position in enumerate(chosen, start=1):
            try:
                truth = drive[position].truth
            except DataError as error:
                bad.skip(position, error)
            else:
                if truth is None:
                    without_truth += 1
                elif first_covering([area], truth) is None:
                    off_map, place = off_map + 1, place or truth
                else:
                    kept.append(position)
            show(done, len(chosen))
    left = {"without a true pose": without_truth, f"off {source.map}": off_map, "unreadable": len(bad)}
    told = ", ".join(f"{count} {why}" for why, count in left.items() if count)
    if not kept:
        raise DataError(_nothing_left(source, len(chosen), told, place, area))
    if told:
        log.warning("%s: %d of %d frames are left out: %s", source.drive, len(chosen) - len(kept), len(chosen), told)
    return LearnableFrames(drive, kept), area


def log_options(source: DriveSource) -> LogOptions:
    """How the log is to be read.

    Raises:
        DataError: if a topic is malformed.
    """
    pairs = [tuple(word.split("=", 1)) for word in source.topics]
    for word, pair in zip(source.topics, pairs, strict=True):
        if len(pair) != 2 or pair[0] not in PARTS or not pair[1]:
            raise DataError(f"topics of {source.drive}: expected PART=NAME with a part of {', '.join(PARTS)}: {word!r}")
    return LogOptions(
        topics=tuple((pair[0], pair[1]) for pair in pairs),
        extrinsics=source.extrinsics,
        truth=Path(source.poses) if source.poses else None,
        columns=source.columns,
    )


def _nothing_left(source: DriveSource, count: int, told: str, place: GeoPose | None, area: MapSource) -> str:
    if place is None:
        remedy = "" if source.poses else "; give poses: PATH, e.g. the poses.csv of `bevfusion track --smooth`"
        return f"{source.drive}: nothing to learn from in {count} frames: {told}{remedy}"
    west, south, east, north = area.bounds_m
    corners = [area.frame.degrees_from_metres(west, south), area.frame.degrees_from_metres(east, north)]
    (lat0, lon0), (lat1, lon1) = corners
    return (
        f"{source.drive}: lies off its map: {told} of {count} frames; it passes lat {place.lat_deg:.5f}, lon "
        f"{place.lon_deg:.5f}, the map spans lat {lat0:.5f} to {lat1:.5f}, lon {lon0:.5f} to {lon1:.5f}"
    )


@cache
def _opened_map(path: str) -> MapSource:
    """Drives of one map share it."""
    return open_map(path)
