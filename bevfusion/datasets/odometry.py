"""Odometry for drives that have none: from their scans, by KISS-ICP, or, for experiments only, from their true poses.

Vizzo et al., KISS-ICP: In Defense of Point-to-Point ICP, RA-L 2023, https://arxiv.org/abs/2209.15397 (extra
`odometry`). It is run once over a drive; the poses are kept in a file and taken from there the next time.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.array_files import from_npz, to_npz
from bevfusion.datasets.drive import Derived, Drive
from bevfusion.datasets.logged import LoggedDrive
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.files import atomic_file, file_name
from bevfusion.filters.motion import Motion, interval_s
from bevfusion.filters.settings import MotionNoise
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Frame

log = logging.getLogger(__name__)
SOURCE = "kiss-icp"
MAX_RANGE_M = 100.0
FORMAT = 2  # of the file of poses


class WithOdometry(Derived):
    """Another drive with odometry of its own."""

    def __init__(self, drive: Drive, track: PoseTrack, source: str) -> None:
        super().__init__(drive)
        self._track = track
        self._source = source

    @property
    def odometry(self) -> str:
        """Where `Frame.odom_from_ego` comes from."""
        return self._source

    def __getitem__(self, position: int) -> Frame:
        """The drive's frame, with odometry.

        Raises:
            IndexError: past the end.
            DataError: if its scan is broken.
        """
        frame = self._drive[position]
        return replace(frame, odom_from_ego=self._track.at(frame.stamp_ns))


def with_kiss_icp(drive: Drive, cache: Path, on_frame: Callable[[int, int], None] | None = None) -> Drive:
    """The drive with odometry by KISS-ICP, named "kiss-icp"; points that carry times are then deskewed by it.

    Scans that are broken are left out, with a warning.

    Args:
        drive: any.
        cache: folder for the poses, made if need be; a file that fits the drive is used instead of the scans.
        on_frame: called with (frames done, frames in all).

    Raises:
        DataError: if kiss-icp is not installed, or no scan can be read.
    """
    track = kiss_icp_track(drive, cache, on_frame)
    if isinstance(drive, LoggedDrive):
        return drive.with_odometry(track, SOURCE)
    return WithOdometry(drive, track, SOURCE)


def kiss_icp_track(drive: Drive, cache: Path, on_frame: Callable[[int, int], None] | None = None) -> PoseTrack:
    """Poses of the LiDAR in its first frame, from the cache or by running KISS-ICP over all scans.

    Raises:
        DataError: if kiss-icp is not installed, or no scan can be read.
    """
    if len(drive) == 0:
        raise DataError(f"{drive.name}: no scans to take odometry from")
    file = cache / f"{file_name(drive.name)}-{_identity(drive)}.{SOURCE}.npz"
    kept = _load(file, len(drive))
    if kept is not None:
        return kept
    try:
        from kiss_icp.config import load_config  # type: ignore[import-untyped]
        from kiss_icp.kiss_icp import KissICP  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError("odometry from scans needs kiss-icp: pip install 'bevfusion[odometry]'") from error
    config = load_config(None)
    config.data.max_range = MAX_RANGE_M
    config.mapping.voxel_size = MAX_RANGE_M / 100.0
    odometry = KissICP(config=config)
    stamps_ns, poses = [], []
    for position in range(len(drive)):
        try:
            stamp_ns, xyz, phase = _sweep(drive, position)
        except DataError as error:
            log.warning("odometry: %s (left out)", error)
            continue
        odometry.register_frame(xyz, phase)
        pose = odometry.last_pose
        stamps_ns.append(stamp_ns)
        poses.append((pose[0, 3], pose[1, 3], np.arctan2(pose[1, 0], pose[0, 0])))
        if on_frame is not None:
            on_frame(position + 1, len(drive))
    if not poses:
        raise DataError(f"{drive.name}: none of its {len(drive)} scans can be read")
    table = np.array(poses, dtype=np.float64)
    track = PoseTrack.sorted(np.array(stamps_ns, dtype=np.int64), table[:, :2], table[:, 2])
    _save(file, track, len(drive))
    return track


def _sweep(drive: Drive, position: int) -> tuple[int, Float[np.ndarray, "n 3"], Float[np.ndarray, " m"]]:
    """Stamp, points and, where points carry times, the phase of each in its turn (0 to 1); else an empty array."""
    if isinstance(drive, LoggedDrive):
        stamp_ns, cloud = drive.cloud(position)
        phase = np.zeros(0)
        if cloud.time_s is not None and np.isfinite(cloud.time_s).any():
            low, high = float(np.nanmin(cloud.time_s)), float(np.nanmax(cloud.time_s))
            if high > low:
                phase = np.nan_to_num((cloud.time_s - low) / (high - low))
        return stamp_ns, cloud.xyz.astype(np.float64), phase
    frame = drive[position]
    return frame.stamp_ns, frame.scan.xyz.astype(np.float64), np.zeros(0)


def _identity(drive: Drive) -> str:
    """Tells drives of one name apart: by their length and what the first and last readable scan hold."""
    digest = hashlib.sha256(f"{FORMAT} {len(drive)}".encode())
    for position in {0, len(drive) - 1}:
        with contextlib.suppress(DataError):
            stamp_ns, xyz, _ = _sweep(drive, position)
            digest.update(f"{position} {stamp_ns}".encode() + xyz.tobytes())
    return digest.hexdigest()[:12]


def _load(file: Path, frames: int) -> PoseTrack | None:
    if not file.is_file():
        return None
    try:
        kept = from_npz(file.read_bytes())
        if int(kept["frames"]) != frames:
            return None
        return PoseTrack.sorted(kept["stamps_ns"].astype(np.int64), kept["xy_m"], kept["yaw_rad"])
    except (ValueError, OSError, KeyError, TypeError) as error:  # DataError is a ValueError
        log.warning("%s: cannot be read (%s): made anew", file, error)
        return None


def _save(file: Path, track: PoseTrack, frames: int) -> None:
    """An interrupted run leaves no half a file."""
    arrays = {"frames": frames, "stamps_ns": track.stamps_ns, "xy_m": track.xy_m, "yaw_rad": track.yaw_rad}
    with atomic_file(file) as draft:
        draft.write_bytes(to_npz(arrays))


class TruthOdometry(Derived):
    """A drive whose odometry is made from its truth, with noise: for experiments on drives that have none."""

    def __init__(self, drive: Drive, seed: int = 0, noise: MotionNoise | None = None) -> None:
        """The drive with other odometry.

        Args:
            drive: with truth.
            seed: of the noise; the same for every reader of the drive.
            noise: of each step.
        """
        super().__init__(drive)
        self._seed, self._noise = seed, noise or MotionNoise()
        self._poses: list[SE2 | None] = []  # odometry, as far as it was needed yet
        self._metres: LocalFrame | None = None
        self._last: tuple[Frame, SE2, SE2] | None = None  # with truth: frame, true pose, odometry

    @property
    def odometry(self) -> str:
        """Always truth."""
        return "truth"

    def __getitem__(self, position: int) -> Frame:
        """The frame with its new odometry; asked for out of order, the frames before it are read once."""
        for earlier in range(len(self._poses), position):
            try:
                self._extend(earlier, self._drive[earlier])
            except DataError:  # told when it is asked for
                self._poses.append(None)
        frame = self._drive[position]
        if position == len(self._poses):
            self._extend(position, frame)
        return replace(frame, odom_from_ego=self._poses[position])

    def _extend(self, position: int, frame: Frame) -> None:
        if frame.truth is None:
            self._poses.append(None)
            return
        self._metres = self._metres or LocalFrame(frame.truth.lat_deg, frame.truth.lon_deg)
        true = self._metres.map_from_ego(frame.truth)
        odom = SE2()
        if self._last is not None:
            before, true_before, odom_before = self._last
            rng = np.random.default_rng([self._seed, position])
            motion = Motion.of_step(true_before.inverse() @ true, interval_s(before, frame), self._noise)
            error = rng.normal(0.0, (motion.std_along_m, motion.std_across_m, motion.std_yaw_rad))
            odom = odom_before @ motion.before_from_after @ SE2(*(float(value) for value in error))
        self._poses.append(odom)
        self._last = (frame, true, odom)
