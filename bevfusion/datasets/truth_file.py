"""True poses from a file beside any log: CSV, TUM or KITTI's rows of matrices, of the LiDAR.

CSV with latitude, longitude and heading stands on the globe. TUM, KITTI's poses and CSV with x and y are metres in a
frame of their own: they are laid onto the GNSS of the log, by the rigid motion of the plane that fits best (Umeyama
1991, without scale). Rows without stamps belong to the scans in order, one each.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from bevfusion.datasets.clocks import leap_of_spans
from bevfusion.datasets.drive import Derived, Drive
from bevfusion.datasets.pose_files import PoseTable, read_pose_file
from bevfusion.datasets.tracks import GeoTrack, PoseTrack
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.structures import DataError, Frame

FITTED_FRAMES = 60
LEAST_SPREAD_M = 5.0  # of the places that a direction is found by
TOLD_APART_M = 10.0  # from the GNSS
MAX_REST_M = 5.0  # median distance between fixes and fitted poses, beyond which they are of different drives


class WithTruth(Derived):
    """Another drive with true poses of its own."""

    def __init__(self, drive: Drive, track: GeoTrack) -> None:
        super().__init__(drive)
        self._track = track

    def __getitem__(self, position: int) -> Frame:
        """The drive's frame, with its truth.

        Raises:
            IndexError: past the end.
            DataError: if its scan is broken.
        """
        frame = self._drive[position]
        return replace(frame, truth=self._track.at(frame.stamp_ns))

    def truths(self) -> Mapping[int, GeoPose]:
        """None but those of the frames: the log's own are not the truth here."""
        return {}


def with_truth(drive: Drive, path: Path) -> Drive:
    """The drive with the true poses of a file, whatever truth it had.

    Raises:
        DataError: if the file is no pose file, does not belong to the drive, or cannot be placed on the globe.
    """
    table = read_pose_file(path, drive.summary)
    if table.yaw_rad is None:
        raise DataError(f"{path}: has no heading (yaw_rad, yaw_deg, heading_deg or a quaternion), so it is no truth")
    frames = _some_frames(drive, path)
    stamps_ns = _stamps_ns(table, drive, path)
    scans_ns = frames[0].stamp_ns, frames[-1].stamp_ns
    leap = leap_of_spans(scans_ns, (int(stamps_ns.min()), int(stamps_ns.max())))
    if leap is not None:
        told = f"{path.name}: its stamps begin and end {leap} of those of the scans: of another clock?"
        drive.summary.add("warning", "truth", told)
    if stamps_ns.max() < frames[0].stamp_ns or stamps_ns.min() > frames[-1].stamp_ns:
        spans = [
            f"{first / 1e9:.3f} to {last / 1e9:.3f} s"
            for first, last in ((int(stamps_ns.min()), int(stamps_ns.max())), scans_ns)
        ]
        why = "" if leap is None else f"; {leap}?"
        raise DataError(f"{path}: its stamps span {spans[0]}, the scans {spans[1]}: never at once{why}")
    if table.on_globe:
        track, how = GeoTrack.from_degrees(stamps_ns, table.places, table.yaw_rad), "on the globe"
    else:
        track, how = _placed(PoseTrack.sorted(stamps_ns, table.places, table.yaw_rad), frames, path)
    _check_against_gnss(track, frames, path, drive)
    known = sum(track.at(frame.stamp_ns) is not None for frame in frames)
    if not known:
        raise DataError(f"{path}: has a pose for none of {len(frames)} frames that were looked at")
    told = f"{path.name}, {len(table.places)} poses {how}, which reach {known} of {len(frames)} frames looked at"
    drive.summary.add("used", "truth", told, count=known, total=len(frames))
    return WithTruth(drive, track)


def _check_against_gnss(track: GeoTrack, frames: list[Frame], path: Path, drive: Drive) -> None:
    apart_m = []
    for frame in frames:
        true = track.at(frame.stamp_ns)
        if true is not None and frame.gnss is not None:
            place = LocalFrame(true.lat_deg, true.lon_deg).metres_from_degrees(frame.gnss.lat_deg, frame.gnss.lon_deg)
            apart_m.append(float(np.hypot(*place)))
    if apart_m and float(np.median(apart_m)) > TOLD_APART_M:
        told = f"{path.name} lies {np.median(apart_m):.1f} m from the GNSS of the log (median): another clock or drive?"
        drive.summary.add("warning", "truth", told)


def _some_frames(drive: Drive, path: Path) -> list[Frame]:
    frames = []
    for position in np.unique(np.linspace(0, len(drive) - 1, FITTED_FRAMES).astype(int)) if len(drive) else ():
        try:
            frames.append(drive[int(position)])
        except DataError:  # told when it is asked for
            continue
    if not frames:
        raise DataError(f"{path}: {drive.name} has no scan that can be read")
    return frames


def _stamps_ns(table: PoseTable, drive: Drive, path: Path) -> Int[np.ndarray, " n"]:
    if table.stamps_ns is not None:
        return np.array(table.stamps_ns, dtype=np.int64)
    if len(table.places) != len(drive):
        rows, scans = len(table.places), len(drive)
        raise DataError(f"{path}: without stamps, expected a row for each of {scans} scans, got {rows}")
    return np.array([frame.stamp_ns for frame in drive], dtype=np.int64)


def _placed(track: PoseTrack, frames: list[Frame], path: Path) -> tuple[GeoTrack, str]:
    """Poses in metres laid onto the fixes of the frames, and how well they fit."""
    pairs = [(pose, frame.gnss) for frame in frames if frame.gnss is not None and (pose := track.at(frame.stamp_ns))]
    remedy = "give latitude, longitude and heading (CSV: stamp_ns,lat,lon,yaw_rad)"
    if len(pairs) < 3:
        raise DataError(f"{path}: metres in a frame of its own, and the log has no GNSS to place them by: {remedy}")
    origin = pairs[0][1]
    frame = LocalFrame(origin.lat_deg, origin.lon_deg)
    own_m = np.array([(pose.x_m, pose.y_m) for pose, _ in pairs])
    fixes_m = np.array([frame.metres_from_degrees(fix.lat_deg, fix.lon_deg) for _, fix in pairs])
    if float(np.ptp(own_m, axis=0).max()) < LEAST_SPREAD_M:
        raise DataError(f"{path}: metres of a drive that hardly moves cannot be laid onto its GNSS: {remedy}")
    turn_rad, shift_m = fitted_motion(own_m, fixes_m)
    rotation = _rotation(turn_rad)
    rest_m = float(np.median(np.linalg.norm(own_m @ rotation.T + shift_m - fixes_m, axis=1)))
    if rest_m > MAX_REST_M:
        raise DataError(f"{path}: lies {rest_m:.1f} m beside the GNSS of the log where it fits best: another drive?")
    moved = PoseTrack(track.stamps_ns, track.xy_m @ rotation.T + shift_m, track.yaw_rad + turn_rad)
    return GeoTrack(frame, moved), f"laid onto the GNSS of the log, {rest_m:.2f} m beside it (median)"


def fitted_motion(
    source_m: Float[np.ndarray, "n 2"], target_m: Float[np.ndarray, "n 2"]
) -> tuple[float, Float[np.ndarray, " 2"]]:
    """Turn in radians and shift that lay points onto others with the least sum of squares."""
    source, target = source_m - source_m.mean(axis=0), target_m - target_m.mean(axis=0)
    along = float((source * target).sum())
    across = float((source[:, 0] * target[:, 1] - source[:, 1] * target[:, 0]).sum())
    turn_rad = float(np.arctan2(across, along))
    shift_m: np.ndarray = target_m.mean(axis=0) - _rotation(turn_rad) @ source_m.mean(axis=0)
    return turn_rad, shift_m


def _rotation(turn_rad: float) -> Float[np.ndarray, "2 2"]:
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    return np.array([[cos, -sin], [sin, cos]])
