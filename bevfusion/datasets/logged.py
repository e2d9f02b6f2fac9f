"""A drive put together from scans and pose tracks: what every reader but KITTI raw's returns."""

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from bevfusion.datasets.axes import check_axes, scan_pairs, upright_m
from bevfusion.datasets.cloud import Cloud, IntensityScale, deskewed
from bevfusion.datasets.drive import readable_frames
from bevfusion.datasets.plausibility import (
    ScanFacts,
    check_moving_scans,
    check_point_times,
    check_scans,
    check_stamps,
    check_tracks,
    facts_of,
)
from bevfusion.datasets.tracks import FixSpread, GeoTrack, PoseTrack
from bevfusion.structures import DataError, Frame
from bevfusion.summary import InputSummary

SAMPLED_SCANS = 12  # of a drive, evenly spread, tell what its intensities mean


@runtime_checkable
class Clouds(Protocol):
    """The scans of a log, in order of time."""

    def __len__(self) -> int:
        """Number of scans."""

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp in ns and points of the scan at a position in 0 .. len - 1.

        Raises:
            DataError: if it is broken.
        """


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a log is to be read.

    Args:
        deskew: move points that carry times to where they lie at the stamp of their scan.
        topics: ROS topic for a part: lidar, gnss, imu, odometry; what is not named is found by its type.
        extrinsics: of bags: the LiDAR on the vehicle, as of `rigid.extrinsics_matrix`, instead of the transforms.
        truth: file of true poses, as of `pose_files.with_truth`, instead of what the log has.
        odometry: log is what the log has, if anything; truth derives it from the true poses.
        columns: of scan files that are nothing but numbers, as of `bare_files.columns_from_names`; what is not named
            is found by the numbers.
    """

    deskew: bool = True
    odometry: Literal["log", "truth"] = "log"
    topics: tuple[tuple[str, str], ...] = ()
    extrinsics: tuple[float, ...] = ()
    truth: Path | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tracks:
    """What a log knows of the LiDAR's pose; odometry lies in a frame of its own."""

    truth: GeoTrack | None = None
    gnss: GeoTrack | None = None
    odometry: PoseTrack | None = None
    gnss_spread: FixSpread | None = None  # where fixes say how far they may be off


class LoggedDrive:
    """A drive of scans and of tracks that are interpolated at their stamps.

    Points that carry times are moved to the moment of their scan by the odometry, or by the truth where there is
    none; with neither they stay as they are.

    Args:
        name: for tables and files.
        clouds: the scans.
        tracks: poses of the LiDAR.
        options: `deskew` and `odometry` are what counts here.
        odometry: where the odometry comes from, if there is one.
        summary: what the reader took, left, assumed and lost; none stands for an empty one.
        stamps_ns: of all scans, where they are known without reading them.
    """

    def __init__(
        self,
        name: str,
        clouds: Clouds,
        tracks: Tracks,
        options: LogOptions | None = None,
        odometry: str = "log",
        summary: InputSummary | None = None,
        stamps_ns: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        options = options or LogOptions()
        if options.odometry == "truth" and tracks.truth is not None:
            tracks, odometry = replace(tracks, odometry=tracks.truth.track), "truth"
        self._name = name
        self._clouds = clouds
        self._tracks = tracks
        self._deskew = options.deskew
        self._odometry = odometry if tracks.odometry is not None else "none"
        self._summary = InputSummary(name) if summary is None else summary
        self._stamps_ns = stamps_ns
        self._checked = False

    @property
    def name(self) -> str:
        """Short name for tables and files."""
        return self._name

    @property
    def odometry(self) -> str:
        """Where `Frame.odom_from_ego` comes from: none, log, kiss-icp or truth."""
        return self._odometry

    @property
    def summary(self) -> InputSummary:
        """What the log is made of; when first asked for, the drive as a whole is looked at (`plausibility`)."""
        if not self._checked:
            self._checked = True
            self._check()
        return self._summary

    @cached_property
    def intensity_scale(self) -> IntensityScale:
        """How its intensities become 0 to 1, by a few scans of the whole drive."""
        return IntensityScale.of([facts.intensity for _, facts in self._sampled])

    @cached_property
    def _sampled(self) -> list[tuple[int, ScanFacts]]:
        """Stamp and facts of a few scans, evenly spread; one that is broken is told of when it is asked for."""
        found = []
        for position in np.unique(np.linspace(0, len(self) - 1, SAMPLED_SCANS).astype(int)) if len(self) else ():
            with suppress(DataError):
                stamp_ns, cloud = self.cloud(int(position))
                found.append((stamp_ns, facts_of(cloud)))
        return found

    def _check(self) -> None:
        sampled = self._sampled
        stamps_ns = self._stamps_ns
        if stamps_ns is None:
            stamps_ns = np.array([stamp_ns for stamp_ns, _ in sampled], dtype=np.int64)
        else:
            check_stamps(stamps_ns, self._summary)
        check_scans([facts for _, facts in sampled], self._summary)
        check_moving_scans([at for at, _ in sampled], [facts for _, facts in sampled], self._motion, self._summary)
        check_point_times(
            [facts for _, facts in sampled], stamps_ns if self._stamps_ns is not None else (), self._summary
        )
        self._check_axes()
        self._summary.add("used", "intensity", self.intensity_scale.describe())
        timed = any(facts.timed for _, facts in sampled)
        self._summary.add("used", "deskewing", self._deskewing() if timed else "not: points carry no times")
        tracks = self._tracks
        check_tracks(stamps_ns, tracks.truth, tracks.gnss, tracks.odometry, self._summary)

    def _check_axes(self) -> None:
        motion = self._motion
        if motion is None or self._stamps_ns is None:
            return
        poses = [motion.at(int(stamp_ns)) for stamp_ns in self._stamps_ns]
        pairs = []
        for before, after in scan_pairs(poses):
            start, end = poses[before], poses[after]
            with suppress(DataError):  # told of when it is asked for
                first, second = (upright_m(self.cloud(at)[1].xyz) for at in (before, after))
                if start is not None and end is not None:
                    pairs.append((first, second, start.inverse() @ end))
        check_axes(pairs, self._summary)

    def _deskewing(self) -> str:
        if not self._deskew:
            return "not asked for"
        if self._tracks.odometry is not None:
            return "by odometry"
        return "not: no motion is known" if self._motion is None else "by truth, for want of odometry"

    @property
    def _motion(self) -> PoseTrack | None:
        if self._tracks.odometry is not None:
            return self._tracks.odometry
        return None if self._tracks.truth is None else self._tracks.truth.track

    def __len__(self) -> int:
        """Number of scans."""
        return len(self._clouds)

    def __getitem__(self, position: int) -> Frame:
        """The frame at a position in 0 .. len - 1, in order of time.

        Raises:
            IndexError: past the end.
            DataError: if its scan is broken.
        """
        stamp_ns, cloud = self.cloud(position)
        if self._deskew and self._motion is not None and cloud.time_s is not None:
            cloud = replace(cloud, xyz=deskewed(cloud.xyz, cloud.time_s, stamp_ns, self._motion))
        tracks = self._tracks
        fix = None if tracks.gnss is None else tracks.gnss.at(stamp_ns)
        return Frame(
            index=position,
            stamp_ns=stamp_ns,
            scan=cloud.scan(self.intensity_scale),
            odom_from_ego=None if tracks.odometry is None else tracks.odometry.at(stamp_ns),
            gnss=fix,
            gnss_std_m=None if fix is None or tracks.gnss_spread is None else tracks.gnss_spread.at(stamp_ns),
            truth=None if tracks.truth is None else tracks.truth.at(stamp_ns),
        )

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order of time that can be read."""
        return readable_frames(self)

    def cloud(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a frame as they were recorded.

        Raises:
            IndexError: past the end.
            DataError: if the scan is broken.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"frame {position} of {len(self)} in {self._name}")
        return self._clouds.read(position)

    def with_odometry(self, odometry: PoseTrack, source: str) -> "LoggedDrive":
        """The same drive with other odometry."""
        other = copy.copy(self)
        other._tracks = replace(self._tracks, odometry=odometry)
        other._odometry = source
        return other
