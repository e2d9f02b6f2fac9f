"""Where the LiDAR of a bag sits on the vehicle, and what the other messages say of its pose: odometry, GNSS and truth.

Transforms come from /tf_static, and from /tf where they stand still: static publishers of ROS 1 repeat theirs there.

Truth is a fix that a ground station corrected to centimetres, with a heading measured by an IMU. By NavSatStatus alone
RTK, its float solution, WAAS and DGPS cannot be told apart (drivers call all of them GBAS or SBAS), and by its
covariance alone a receiver may say what it likes; so both must say so. The IMU must count from east, which its
agreement with the direction of travel shows, and must have measured within a moment of the fix.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from bevfusion.datasets.bag import Bag, Topic
from bevfusion.datasets.rigid import (
    FrameTree,
    bare,
    extrinsics_matrix,
    interpolated_rotations,
    inverse,
    rotations,
    transforms_of,
    yaws_rad,
)
from bevfusion.datasets.ros_messages import FOXGLOVE_TRANSFORM, FOXGLOVE_TRANSFORMS, OLD_TRANSFORMS, TRANSFORMS
from bevfusion.datasets.tracks import FixSpread, GeoTrack, PoseTrack, course_rad
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

VEHICLE_FRAMES = ("base_link", "base_footprint", "ego_vehicle", "vehicle", "base")
WORLD_FRAMES = (
    *("map", "odom", "odom_combined", "world", "earth", "ecef", "utm", "enu", "local_enu", "global"),
    *("local", "camera_init", "local_map", "lidar_odom", "odometry", "gps_origin", "inertial"),
)
SENSORS = (
    *("lidar", "velodyne", "laser", "imu", "gps", "gnss", "camera", "cam", "antenna", "radar", "ouster", "os_"),
    *("livox", "hesai", "rslidar", "sensor", "navsat", "ins", "optical", "body"),
)
TRANSFORM_TYPES = (TRANSFORMS, OLD_TRANSFORMS, FOXGLOVE_TRANSFORM, FOXGLOVE_TRANSFORMS)
SAMPLED_TRANSFORMS = 600  # messages of a moving /tf tell which of its transforms stand still
STILL_M, STILL_RAD = 0.002, 0.002
NO_FIX, FIX, SBAS_FIX, GBAS_FIX = -1, 0, 1, 2  # sensor_msgs/NavSatStatus
KNOWN_COVARIANCE = 2  # sensor_msgs/NavSatFix.COVARIANCE_TYPE_DIAGONAL_KNOWN; 1 is guessed from the geometry
PRECISE_M = 0.3
TRUTH_HEADING_OFF_RAD = np.deg2rad(5.0)  # an IMU farther off the motion gives no truth
TOLD_HEADING_OFF_RAD = np.deg2rad(2.0)
COMPASS_OFF_RAD = np.deg2rad(20.0)  # and farther than this it does not count from east
REVERSE_RAD = np.deg2rad(150.0)  # motion against the heading
STEP_M, COARSE_STEP_M = 1.0, 15.0  # of the motion that a heading is compared with, by precise fixes and by others
MAX_HEADING_SPREAD_RAD = np.deg2rad(20.0)  # of most steps about the usual angle: more follows no motion
MAX_SPEED_M_S, LEAST_ASTRAY_M = 70.0, 3.0  # beyond, a fix is one of somewhere else
MAX_IMU_GAP_S = 0.5  # between two orientations that a heading is taken from


@dataclass(frozen=True)
class BagFrames:
    """Where the sensors sit on the vehicle.

    The ego frame has the axes of the vehicle, or of the LiDAR where no vehicle is known, and lies at the LiDAR.
    """

    tree: FrameTree
    lidar: str
    ego_from_lidar: Float[np.ndarray, "4 4"]  # a rotation
    vehicle: str | None
    summary: InputSummary

    def ego_from(self, frame: str, part: str) -> Float[np.ndarray, "4 4"]:
        """`ego_from_frame`; where transforms do not say, the vehicle's axes at the LiDAR, and the summary says so."""
        lidar_from_frame = self.tree.lookup(self.lidar, frame)
        if lidar_from_frame is None:
            told = f"no static transform from {frame!r} to {self.lidar!r}: {part} is taken as the LiDAR's own"
            self.summary.add("warning", "frames", told)
            return np.eye(4)
        matrix: np.ndarray = self.ego_from_lidar @ lidar_from_frame
        return matrix


def is_world(frame: str, worlds: Iterable[str] = ()) -> bool:
    """Whether a frame is one that the vehicle moves in: by its name, or because odometry does."""
    name = bare(frame)
    return name.rpartition("/")[2].lower() in WORLD_FRAMES or name in {bare(world) for world in worlds if world}


def read_frames(
    bag: Bag, lidar: str, odometry_children: Sequence[str], extrinsics: tuple[float, ...], summary: InputSummary
) -> BagFrames:
    """The frames of a bag.

    Args:
        bag: whose transforms are read.
        lidar: frame of the scans.
        odometry_children: frames that its Odometry messages follow.
        extrinsics: `vehicle_from_lidar` as of `extrinsics_matrix`, which then counts instead of the transforms; or
            nothing.
        summary: is told which frame is the vehicle's and why.
    """
    tree = _transforms(bag, summary)
    vehicle, reason = _vehicle(tree, lidar, odometry_children)
    if extrinsics:
        vehicle = vehicle or VEHICLE_FRAMES[0]
        asked_for = extrinsics_matrix(extrinsics)
        tree.add(vehicle, lidar, asked_for)
        vehicle_from_lidar: np.ndarray | None = asked_for
        reason = "as asked for by extrinsics"
    else:
        vehicle_from_lidar = None if vehicle is None else tree.lookup(vehicle, lidar)
    if vehicle is None or vehicle_from_lidar is None:
        told = f"no transform leads from {lidar!r} to a vehicle: the LiDAR's own axes are taken for the vehicle's"
        summary.add("assumed", "frames", told)
        return BagFrames(tree, lidar, np.eye(4), None, summary)
    ego_from_lidar = np.eye(4)
    ego_from_lidar[:3, :3] = vehicle_from_lidar[:3, :3]
    x_m, y_m, z_m = vehicle_from_lidar[:3, 3]
    yaw_deg = np.degrees(np.arctan2(vehicle_from_lidar[1, 0], vehicle_from_lidar[0, 0]))
    place = f"{x_m:.2f}, {y_m:.2f}, {z_m:.2f} m, yaw {yaw_deg:.1f} degrees"
    told = f"LiDAR {lidar!r} on vehicle {vehicle!r} ({reason}) at {place}"
    summary.add("used", "frames", told)
    return BagFrames(tree, lidar, ego_from_lidar, vehicle, summary)


def _vehicle(tree: FrameTree, lidar: str, odometry_children: Sequence[str]) -> tuple[str | None, str]:
    """Frame of the vehicle and what tells so: its name, odometry, or the root of the transforms."""
    above = tree.above(lidar)
    connected = {frame for frame in tree.frames if tree.lookup(frame, lidar) is not None}
    for name in VEHICLE_FRAMES:
        named = sorted(frame for frame in connected if frame.rpartition("/")[2].lower() == name)
        if named:
            return next((frame for frame in named if frame in above), named[0]), "by its name"
    for child in dict.fromkeys(map(bare, odometry_children)):
        if child in connected and child != bare(lidar) and not _is_sensor(child):
            return child, "which odometry follows"
    root = next((frame for frame in reversed(above) if not is_world(frame)), None)
    return (root, "the root of the transforms") if root is not None and root != bare(lidar) else (None, "")


def _is_sensor(frame: str) -> bool:
    name = frame.rpartition("/")[2].lower()
    return any(word in name for word in SENSORS)


def _transforms(bag: Bag, summary: InputSummary) -> FrameTree:
    """Every transform that stands still; /tf_static has the last word."""
    topics = bag.of_type(*TRANSFORM_TYPES)
    static = [topic for topic in topics if topic.name.endswith("tf_static")]
    tree = FrameTree()
    moving = []
    for topic in topics:
        if topic in static:
            continue
        found = _read(bag, [_sampled(topic)], summary)
        still = {pair: matrices[0] for pair, matrices in found.items() if _stands_still(matrices)}
        still = {pair: matrix for pair, matrix in still.items() if not is_world(pair[0])}
        for (parent, child), matrix in still.items():
            tree.add(parent, child, matrix)
        if still:
            told = f"{len(still)} transforms that stand still, as {' to '.join(next(iter(still)))}"
            summary.add("used", topic.name, told, count=len(still), total=len(found))
        moving += [f"{parent} to {child}" for parent, child in found if (parent, child) not in still]
    if moving:
        summary.add("ignored", "transforms", f"those that move: {', '.join(sorted(moving)[:6])}", count=len(moving))
    for (parent, child), matrices in _read(bag, static, summary).items():
        if not _stands_still(matrices):
            told = f"{parent} to {child} comes {len(matrices)} times, with other values: the last one counts"
            summary.add("warning", "frames", told, count=len(matrices))
        tree.add(parent, child, matrices[-1])
    return tree


def _sampled(topic: Topic) -> Topic:
    """Some messages of a topic: the first ones, and others spread over its time."""
    spread = np.linspace(0, len(topic) - 1, SAMPLED_TRANSFORMS // 2).astype(int)
    return topic.rows(np.unique(np.concatenate([np.arange(min(len(topic), SAMPLED_TRANSFORMS // 2)), spread])))


def _read(bag: Bag, topics: Sequence[Topic], summary: InputSummary) -> dict[tuple[str, str], list[np.ndarray]]:
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for _, _, message in bag.messages(topics):
        for _, parent, child, matrix in transforms_of(message, lambda told: summary.add("lost", "transforms", told)):
            found.setdefault((parent, child), []).append(matrix)
    return found


def _stands_still(matrices: Sequence[Float[np.ndarray, "4 4"]]) -> bool:
    first, all_of_them = matrices[0], np.stack(matrices)
    shift_m = np.abs(all_of_them[:, :3, 3] - first[:3, 3]).max()
    return bool(shift_m <= STILL_M and np.abs(all_of_them[:, :3, :3] - first[:3, :3]).max() <= STILL_RAD)


@dataclass(frozen=True)
class Messages:
    """Values of a topic's messages, one row each."""

    topic: str
    stamps_ns: Int[np.ndarray, " n"]
    frame: str  # the first that is named
    rows: Float[np.ndarray, "n k"]

    def usable(self, keep: Bool[np.ndarray, " n"]) -> "Messages":
        """Some of the rows, in order of time, each moment once."""
        order = np.flatnonzero(keep)
        stamps_ns = self.stamps_ns[order]
        _, first = np.unique(stamps_ns, return_index=True)
        return Messages(self.topic, stamps_ns[first], self.frame, self.rows[order][first])


def pose_row(message: Any) -> list[float]:
    """x, y, z, qx, qy, qz, qw of Odometry, PoseWithCovarianceStamped or PoseStamped."""
    pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
    place, turn = pose.position, pose.orientation
    return [place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w]


def fix_row(message: Any) -> list[float]:
    """Latitude, longitude, status, type of the covariance, larger variance on the ground of NavSatFix."""
    variance = max(float(message.position_covariance[0]), float(message.position_covariance[4]))
    kind = float(message.position_covariance_type)
    return [message.latitude, message.longitude, float(message.status.status), kind, variance]


def fix_std_m(message: Any) -> float | None:
    """Standard deviation of a NavSatFix along its worse axis on the ground; None if it does not say."""
    *_, kind, variance_m2 = fix_row(message)
    return math.sqrt(variance_m2) if kind > 0 and 0.0 < variance_m2 < math.inf else None


def orientation_row(message: Any) -> list[float]:
    """Orientation (qx, qy, qz, qw), whether it is measured (not -1), and acceleration (x, y, z) of Imu."""
    turn, moved = message.orientation, message.linear_acceleration
    measured = float(message.orientation_covariance[0])
    return [turn.x, turn.y, turn.z, turn.w, measured, moved.x, moved.y, moved.z]


def has_orientation(rows: Float[np.ndarray, "n 8"]) -> Bool[np.ndarray, " n"]:
    """Which rows of `orientation_row` measure one."""
    length = np.linalg.norm(rows[:, :4], axis=1)
    measured: np.ndarray = (rows[:, 4] != -1.0) & np.isfinite(length) & (length > 0.7) & (length < 1.5)
    return measured


def odometry_track(poses: Messages | None, frames: BagFrames, summary: InputSummary) -> PoseTrack | None:
    """Poses of the ego frame in the odometry's own plane, or None without usable messages."""
    if poses is None:
        return None
    poses = poses.usable(np.ones(len(poses.stamps_ns), dtype=bool))
    body_from_ego = inverse(frames.ego_from(poses.frame or frames.vehicle or frames.lidar, "odometry"))
    odom_from_body = rotations(poses.rows[:, 3:])
    places_m = poses.rows[:, :3] + odom_from_body @ body_from_ego[:3, 3]
    yaw_rad = yaws_rad(odom_from_body @ body_from_ego[:3, :3])
    try:
        return PoseTrack.sorted(poses.stamps_ns, places_m[:, :2], yaw_rad)
    except DataError:
        summary.add("lost", poses.topic, "no pose is finite: no odometry")
        return None


def geo_tracks(
    fixes: Messages | None, imu: Messages | None, frames: BagFrames, summary: InputSummary
) -> tuple[GeoTrack | None, GeoTrack | None]:
    """(truth, GNSS) of the ego frame; where there is no truth, the summary says why.

    GNSS headings are those of the IMU where it knows north, else the direction of travel.
    """
    if fixes is None:
        _no_truth(summary, "no NavSatFix messages")
        return None, None
    placed = _placed(fixes)
    if not placed.any():
        _no_truth(summary, f"none of the {len(placed)} messages of {fixes.topic} is a fix")
        return None, None
    if not placed.all():
        lost = int((~placed).sum())
        told = f"{lost} of {len(placed)} messages are no fix"
        summary.add("ignored", fixes.topic, told, count=lost, total=len(placed))
    fixes = fixes.usable(placed)
    stamps_ns, lat_lon_deg = fixes.stamps_ns, fixes.rows[:, :2]
    precise = _precise(fixes, summary)
    frame = LocalFrame(float(lat_lon_deg[0, 0]), float(lat_lon_deg[0, 1]))
    xy_m = frame.many_metres_from_degrees(lat_lon_deg)
    astray = _astray(stamps_ns, xy_m)
    if astray.any():
        told = f"{int(astray.sum())} of {len(astray)} fixes lie where no vehicle gets to and back in time: left out"
        summary.add("lost", fixes.topic, told, count=int(astray.sum()), total=len(astray))
        stamps_ns, lat_lon_deg, xy_m, precise = (
            stamps_ns[~astray],
            lat_lon_deg[~astray],
            xy_m[~astray],
            precise[~astray],
        )
    course = course_rad(xy_m)
    step_m = STEP_M if precise.mean() > 0.5 else COARSE_STEP_M
    heading = _headings(imu, frames, stamps_ns, xy_m, step_m, summary)
    flat = np.zeros((len(course), 4))
    flat[:, 2], flat[:, 3] = np.sin(0.5 * course), np.cos(0.5 * course)
    enu_from_ego = rotations(flat)
    measured = np.zeros(len(course), dtype=bool)
    if heading is not None:
        measured = heading.known
        enu_from_ego[measured] = heading.enu_from_ego[measured]
    # the lever arm points from the antenna to the LiDAR
    ego_from_antenna = frames.ego_from(fixes.frame, "GNSS")
    xy_m = xy_m - (enu_from_ego @ ego_from_antenna[:3, 3])[:, :2]
    places_deg = np.array([frame.degrees_from_metres(float(x), float(y)) for x, y in xy_m])
    yaw_rad = yaws_rad(enu_from_ego)
    gnss = GeoTrack.from_degrees(stamps_ns, places_deg, yaw_rad)
    true = precise & measured & (heading is not None and heading.is_true)
    if not true.any():
        if precise.any() and heading is not None and heading.is_true:
            _no_truth(summary, "the IMU measured at none of the precise fixes")
        return None, gnss
    told = f"{int(true.sum())} of {len(true)} fixes are precise and have a heading"
    summary.add("used", "truth", told, count=int(true.sum()), total=len(true))
    return GeoTrack.from_degrees(stamps_ns[true], places_deg[true], yaw_rad[true]), gnss


def fix_spread(fixes: Messages | None) -> FixSpread | None:
    """How far the fixes may be off by their covariances; None where none of them says."""
    if fixes is None:
        return None
    fixes = fixes.usable(_placed(fixes))
    kind, variance_m2 = fixes.rows[:, 3], fixes.rows[:, 4]
    stated = (kind > 0) & (variance_m2 > 0.0) & np.isfinite(variance_m2)
    if not stated.any():
        return None
    return FixSpread(fixes.stamps_ns, np.sqrt(np.where(stated, variance_m2, np.nan)))


def _no_truth(summary: InputSummary, reason: str) -> None:
    summary.add("lost", "truth", f"none: {reason}")


def _placed(fixes: Messages) -> Bool[np.ndarray, " n"]:
    lat_deg, lon_deg, status = fixes.rows[:, 0], fixes.rows[:, 1], fixes.rows[:, 2]
    somewhere = (lat_deg != 0.0) | (lon_deg != 0.0)
    placed: np.ndarray = (np.abs(lat_deg) <= 90.0) & (np.abs(lon_deg) <= 180.0) & somewhere & (status > NO_FIX)
    return placed


def _astray(stamps_ns: Int[np.ndarray, " n"], xy_m: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Single fixes that are too far from the one before and the one after, which are not too far from each other."""
    astray = np.zeros(len(stamps_ns), dtype=bool)
    if len(stamps_ns) < 3:
        return astray

    def too_far(apart: int) -> Bool[np.ndarray, " m"]:
        seconds = (stamps_ns[apart:] - stamps_ns[:-apart]) / 1e9
        far: np.ndarray = (
            np.linalg.norm(xy_m[apart:] - xy_m[:-apart], axis=1) > MAX_SPEED_M_S * seconds + LEAST_ASTRAY_M
        )
        return far

    steps, over_two = too_far(1), too_far(2)
    astray[1:-1] = steps[:-1] & steps[1:] & ~over_two
    return astray


def _precise(fixes: Messages, summary: InputSummary) -> Bool[np.ndarray, " n"]:
    """Which fixes are precise by status and covariance; every grade is told with its share."""
    status, kind, variance = fixes.rows[:, 2], fixes.rows[:, 3], fixes.rows[:, 4]
    stated = (kind > 0) & (variance > 0.0)
    close = stated & (variance <= PRECISE_M**2)
    std_m = float(np.sqrt(np.median(variance[stated]))) if stated.any() else float("nan")
    corrected = status >= GBAS_FIX
    grades = {
        f"corrected by a ground station (RTK), standard deviation of at most {PRECISE_M} m": corrected & close,
        "corrected by a ground station by their status, without a covariance": corrected & ~stated,
        f"plain by status, but with a known covariance of at most {PRECISE_M} m": (status == FIX)
        & close
        & (kind >= KNOWN_COVARIANCE),
    }
    rest = {
        f"called corrected, but a standard deviation of more than {PRECISE_M} m (RTK float, DGPS, WAAS)": corrected
        & stated
        & ~close,
        "corrected by satellite (SBAS, WAAS, DGPS)": status == SBAS_FIX,
        "plain fixes": (status == FIX) & ~(close & (kind >= KNOWN_COVARIANCE)),
    }
    precise = np.zeros(len(status), dtype=bool)
    for chosen in grades.values():
        precise |= chosen
    for table, suffix in ((grades, "precise"), (rest, "not precise, no truth")):
        for grade, chosen in table.items():
            if chosen.any():
                told = f"{int(chosen.sum())} of {len(chosen)} fixes {grade}: {suffix}"
                summary.add("used", fixes.topic, told, count=int(chosen.sum()), total=len(chosen))
    if not precise.any():
        told = next(grade for grade, chosen in rest.items() if chosen.any())
        spread = f", standard deviation {std_m:.2g} m" if np.isfinite(std_m) else ""
        _no_truth(summary, f"no fix of {fixes.topic} is precise ({told}{spread})")
    return precise


@dataclass(frozen=True)
class _Headings:
    enu_from_ego: Float[np.ndarray, "n 3 3"]
    known: Bool[np.ndarray, " n"]
    is_true: bool  # precise enough for truth


def _headings(
    imu: Messages | None,
    frames: BagFrames,
    at_ns: Int[np.ndarray, " n"],
    xy_m: Float[np.ndarray, "n 2"],
    step_m: float,
    summary: InputSummary,
) -> _Headings | None:
    """Orientations of the ego frame at the fixes, or None if the IMU measures none that counts from east."""
    if imu is None:
        _no_truth(summary, "no Imu messages, so no heading is known")
        return None
    measured = has_orientation(imu.rows)
    if not measured.any():
        _no_truth(summary, f"{imu.topic} measures no orientation, so no heading is known")
        return None
    imu = imu.usable(measured)
    times_s, wanted_s = (imu.stamps_ns - imu.stamps_ns[0]) / 1e9, (at_ns - imu.stamps_ns[0]) / 1e9
    after = np.clip(np.searchsorted(times_s, wanted_s), 1, max(1, len(times_s) - 1))
    before_s, after_s = times_s[np.minimum(after - 1, len(times_s) - 1)], times_s[np.minimum(after, len(times_s) - 1)]
    nearest_s = np.minimum(np.abs(wanted_s - before_s), np.abs(after_s - wanted_s))
    between = (wanted_s >= before_s) & (wanted_s <= after_s) & (after_s - before_s <= MAX_IMU_GAP_S)
    # before the first, after the last and in gaps, one that was measured at nearly the same moment
    known = between | (nearest_s <= 0.05)
    if not known.all():
        lost = int((~known).sum())
        told = f"measured no orientation within a moment of {lost} of {len(known)} fixes: those are no truth"
        summary.add("lost", imu.topic, told, count=lost, total=len(known))
    if not known.any():
        _no_truth(summary, f"{imu.topic} was never measured at the time of a fix")
        return None
    enu_from_imu = interpolated_rotations(wanted_s, times_s, rotations(imu.rows[:, :4]))
    enu_from_ego = enu_from_imu @ frames.ego_from(imu.frame, "the IMU")[:3, :3].T
    off_rad, spread_rad, reverse, steps = heading_against_motion(xy_m, yaws_rad(enu_from_ego), known, step_m)
    is_true = True
    off_deg = float(np.degrees(off_rad))
    if steps == 0:
        summary.add("assumed", "heading", f"the vehicle hardly moves: nothing to check the heading of {imu.topic} by")
    elif steps >= 5 and spread_rad > MAX_HEADING_SPREAD_RAD:
        told = f"the orientation of {imu.topic} does not follow the motion: angles between both spread by"
        told += f" {np.degrees(spread_rad):.0f} degrees, as if it were clockwise or relative"
        _no_truth(summary, told)
        return None
    elif abs(off_rad) > COMPASS_OFF_RAD:
        told = f"the orientation of {imu.topic} is {abs(off_deg):.0f} degrees off the motion, not counted from east"
        _no_truth(summary, told)
        return None
    elif abs(off_rad) > TRUTH_HEADING_OFF_RAD:
        told = f"the orientation of {imu.topic} is {abs(off_deg):.1f} degrees off the motion, at most"
        told += (
            f" {np.degrees(TRUTH_HEADING_OFF_RAD):.0f} pass (magnetic north, or a mounting that transforms do not tell)"
        )
        _no_truth(summary, told)
        is_true = False
    elif abs(off_rad) > TOLD_HEADING_OFF_RAD:
        told = f"the orientation of {imu.topic} is {off_deg:+.1f} degrees off the motion"
        summary.add("warning", "heading", told)
    if reverse > 0.1 and abs(off_rad) <= COMPASS_OFF_RAD:
        told = f"the vehicle moves against its heading in {100.0 * reverse:.0f} % of {steps} steps of {step_m:.0f} m"
        summary.add("warning", "heading", told)
    return _Headings(enu_from_ego, known, is_true)


def heading_against_motion(
    xy_m: Float[np.ndarray, "n 2"],
    yaw_rad: Float[np.ndarray, " n"],
    known: Bool[np.ndarray, " n"] | None = None,
    step_m: float = STEP_M,
) -> tuple[float, float, float, int]:
    """Usual angle from the direction of travel to the heading, its spread, share of steps backwards, number of steps.

    The angle is the median, the spread what three in four steps stay within.

    Args:
        xy_m: places in order of time.
        yaw_rad: heading at each.
        known: which headings count.
        step_m: length of a step.
    """
    angles, behind = [], 0
    for here in range(1, len(xy_m)):
        moved = xy_m[here] - xy_m[behind]
        if float(np.hypot(*moved)) >= step_m:
            middle = (behind + here) // 2, (behind + here + 1) // 2  # the same, or both of two
            if known is None or known[list(middle)].all():
                turn_rad = float(np.angle(np.exp(1j * (yaw_rad[middle[1]] - yaw_rad[middle[0]]))))
                course_rad = float(np.arctan2(moved[1], moved[0]))
                angles.append(float(yaw_rad[middle[0]]) + 0.5 * turn_rad - course_rad)
            behind = here
    if not angles:
        return 0.0, 0.0, 0.0, 0
    turned = np.angle(np.exp(1j * np.array(angles)))
    backwards = np.abs(turned) > REVERSE_RAD
    share = float(backwards.mean())
    if share <= 0.5:  # it goes backwards now and then
        turned = np.angle(np.exp(1j * np.where(backwards, turned + np.pi, turned)))
    middle_rad = float(np.angle(np.exp(1j * turned).mean()))
    off_rad = middle_rad + float(np.median(np.angle(np.exp(1j * (turned - middle_rad)))))
    spread_rad = float(np.quantile(np.abs(np.angle(np.exp(1j * (turned - off_rad)))), 0.75))
    return off_rad, spread_rad, share, len(angles)


def gravity_deg(rows: Float[np.ndarray, "n 8"], vehicle_from_imu: Float[np.ndarray, "3 3"]) -> float | None:
    """Angle between the mean acceleration that an IMU measures and the vehicle's z axis; None if it measures none.

    At rest an accelerometer measures what holds it up: 9.8 m/s2 upwards.
    """
    upward = vehicle_from_imu @ np.median(rows[:, 5:8], axis=0)
    length = float(np.linalg.norm(upward))
    if not np.isfinite(length) or not 5.0 < length < 15.0:
        return None
    return float(np.degrees(np.arccos(np.clip(upward[2] / length, -1.0, 1.0))))


def named_frames(frames: Sequence[str]) -> str:
    """The first frame that is named at all."""
    return next((frame for frame in frames if frame), "")
