"""What the other messages of a bag say of the LiDAR's pose: odometry, GNSS, and truth where GNSS is precise."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from bevfusion.datasets.bag import Bag, Topic
from bevfusion.datasets.rigid import FrameTree, angle_between_rad, interpolated_rotations, inverse, rotations, yaws_rad
from bevfusion.datasets.ros_messages import ODOMETRY, POSE, stamp_ns
from bevfusion.datasets.tracks import GeoTrack, PoseTrack, course_rad
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

GBAS_FIX = 2  # sensor_msgs/NavSatStatus: corrected by a ground station, which is RTK
NO_FIX = -1
PRECISE_M = 0.3
PERIOD_NS = 20_000_000
MAX_HEADING_OFF_RAD = np.deg2rad(20.0)
STEP_M = 1.0  # of the motion that a heading is compared with


@dataclass(frozen=True)
class Mounting:
    """Where the sensors sit on the vehicle.

    The ego frame has the axes of the vehicle, or of the LiDAR where no vehicle is known, and lies at the LiDAR.
    """

    tree: FrameTree
    lidar: str
    ego_from_lidar: Float[np.ndarray, "4 4"]  # a rotation
    vehicle: str | None

    def ego_from(self, frame: str, part: str) -> Float[np.ndarray, "4 4"]:
        """`ego_from_frame`; where /tf_static does not say, the vehicle's axes at the LiDAR, with a warning."""
        lidar_from_frame = self.tree.lookup(self.lidar, frame)
        if lidar_from_frame is None:
            log.warning("no static transform from %r to %r: %s is taken as the LiDAR's own", frame, self.lidar, part)
            return np.eye(4)
        matrix: np.ndarray = self.ego_from_lidar @ lidar_from_frame
        return matrix


def odometry_track(bag: Bag, topic: Topic | None, mounting: Mounting) -> PoseTrack | None:
    """Poses of the ego frame in the odometry's own plane, or None without usable messages."""
    if topic is None:
        return None
    poses, frames = [], set()
    for message, moment_ns in _stamped(bag, topic):
        pose = message.pose if topic.msgtype == POSE else message.pose.pose
        place, turn = pose.position, pose.orientation
        poses.append((moment_ns, place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w))
        frames.add(message.child_frame_id if topic.msgtype == ODOMETRY else mounting.vehicle or mounting.lidar)
    if not poses:
        return None
    body = sorted(frames)[0] or mounting.vehicle or mounting.lidar
    body_from_ego = inverse(mounting.ego_from(body, "odometry"))
    values = np.array([pose[1:] for pose in poses], dtype=np.float64)
    odom_from_body = rotations(values[:, 3:])
    places_m = values[:, :3] + odom_from_body @ body_from_ego[:3, 3]
    yaw_rad = yaws_rad(odom_from_body @ body_from_ego[:3, :3])
    stamps_ns = np.array([pose[0] for pose in poses], dtype=np.int64)
    try:
        return PoseTrack.sorted(stamps_ns, places_m[:, :2], yaw_rad)
    except DataError:
        log.warning("%s: no pose of %s is finite: no odometry", bag.path, topic.name)
        return None


def geo_tracks(
    bag: Bag, fixes: Topic | None, imu: Topic | None, mounting: Mounting
) -> tuple[GeoTrack | None, GeoTrack | None]:
    """(truth, GNSS) of the ego frame.

    GNSS headings are those of the IMU where it knows north, else the direction of travel.
    """
    read = None if fixes is None else _fixes(bag, fixes)
    if fixes is None or read is None:
        return None, None
    stamps_ns, lat_lon_deg, precise, antenna = read
    frame = LocalFrame(float(lat_lon_deg[0, 0]), float(lat_lon_deg[0, 1]))
    xy_m = frame.many_metres_from_degrees(lat_lon_deg)
    ego_from_antenna = mounting.ego_from(antenna, "GNSS")
    enu_from_ego = None if imu is None else _orientations(bag, imu, mounting, stamps_ns)
    if enu_from_ego is not None:
        off_rad = _heading_off_rad(xy_m, yaws_rad(enu_from_ego))
        if off_rad > MAX_HEADING_OFF_RAD:
            log.warning(
                "%s: the orientation of the IMU is %.0f degrees off the motion, not counted from east: not used",
                bag.path,
                np.degrees(off_rad),
            )
            enu_from_ego = None
    if enu_from_ego is None:
        yaw_rad = course_rad(xy_m)
        flat = np.stack([np.zeros_like(yaw_rad)] * 2 + [np.sin(0.5 * yaw_rad), np.cos(0.5 * yaw_rad)], axis=1)
        enu_from_ego, known = rotations(flat), False
    else:
        known = True
    # the lever arm points from the antenna to the LiDAR
    xy_m = xy_m - (enu_from_ego @ ego_from_antenna[:3, 3])[:, :2]
    places_deg = np.array([frame.degrees_from_metres(float(x), float(y)) for x, y in xy_m])
    yaw_rad = yaws_rad(enu_from_ego)
    gnss = GeoTrack.from_degrees(stamps_ns, places_deg, yaw_rad)
    if not precise.any() or not known:
        return None, gnss
    return GeoTrack.from_degrees(stamps_ns[precise], places_deg[precise], yaw_rad[precise]), gnss


def _stamped(bag: Bag, topic: Topic) -> Iterator[tuple[Any, int]]:
    """Messages of a topic with the stamps of their headers, at most 50 a second: poses between are as good."""
    for _, recorded_ns, message in bag.messages([topic.thinned(PERIOD_NS)]):
        yield message, stamp_ns(message, recorded_ns)


def _fixes(
    bag: Bag, topic: Topic
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"], str] | None:
    """Stamps, places, whether they are precise, and the antenna's frame; in order of time, None if there is no fix."""
    rows, antenna = [], ""
    for message, moment_ns in _stamped(bag, topic):
        lat_deg, lon_deg = float(message.latitude), float(message.longitude)
        placed = abs(lat_deg) <= 90.0 and abs(lon_deg) <= 180.0 and (lat_deg, lon_deg) != (0.0, 0.0)
        if int(message.status.status) <= NO_FIX or not placed:
            continue
        antenna = antenna or str(message.header.frame_id)
        variance = max(float(message.position_covariance[0]), float(message.position_covariance[4]))
        stated = int(message.position_covariance_type) != 0 and 0.0 < variance <= PRECISE_M**2
        rows.append((moment_ns, lat_deg, lon_deg, int(message.status.status) == GBAS_FIX or stated))
    if not rows:
        log.warning("%s: none of the %d messages of %s is a fix", bag.path, len(topic), topic.name)
        return None
    rows.sort()
    stamps_ns = np.array([row[0] for row in rows], dtype=np.int64)
    return stamps_ns, np.array([row[1:3] for row in rows]), np.array([row[3] for row in rows], dtype=bool), antenna


def _orientations(
    bag: Bag, topic: Topic, mounting: Mounting, at_ns: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3 3"] | None:
    """`enu_from_ego` at some moments, or None if the IMU measures no orientation."""
    stamps_ns, quaternions, frame = [], [], ""
    for message, moment_ns in _stamped(bag, topic):
        turn = message.orientation
        quaternion = np.array([turn.x, turn.y, turn.z, turn.w])
        unit = bool((np.abs(quaternion) <= 1.1).all()) and float(quaternion @ quaternion) > 0.5
        if message.orientation_covariance[0] == -1 or not unit:
            continue
        frame = frame or str(message.header.frame_id)
        stamps_ns.append(moment_ns)
        quaternions.append(quaternion)
    if not stamps_ns:
        return None
    times, first = np.unique(np.array(stamps_ns, dtype=np.int64), return_index=True)
    if at_ns[0] < times[0] - 10**9 or at_ns[-1] > times[-1] + 10**9:
        log.warning("%s: %s does not cover all fixes: its orientation is not used", bag.path, topic.name)
        return None
    enu_from_imu = rotations(np.array(quaternions)[first])
    origin_ns = times[0]
    between = interpolated_rotations(
        (at_ns - origin_ns).astype(np.float64), (times - origin_ns).astype(np.float64), enu_from_imu
    )
    matrices: np.ndarray = between @ mounting.ego_from(frame, "the IMU")[:3, :3].T
    return matrices


def _heading_off_rad(xy_m: Float[np.ndarray, "n 2"], yaw_rad: Float[np.ndarray, " n"]) -> float:
    """Median angle between headings and direction of travel, over steps of a metre; 0 where nothing moves."""
    angles, behind = [], 0
    for here in range(1, len(xy_m)):
        moved = xy_m[here] - xy_m[behind]
        if float(np.hypot(*moved)) >= STEP_M:
            middle = (behind + here) // 2
            angles.append(angle_between_rad(float(np.arctan2(moved[1], moved[0])), float(yaw_rad[middle])))
            behind = here
    return float(np.median(angles)) if angles else 0.0
