"""Drives in ROS 1 bags, ROS 2 bags (sqlite3 or MCAP) and bare MCAP files; no ROS needed.

Scans are PointCloud2 messages, put into the axes of the vehicle (`base_link`, where /tf_static mounts the LiDAR on one)
about the LiDAR itself. Odometry comes from Odometry or PoseStamped messages. NavSatFix gives GNSS; only fixes that
say they are precise (RTK: status GBAS, or a standard deviation of at most 0.3 m) count as truth, and only together with
an Imu whose orientation agrees with the motion.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.bag import Bag, Topic, bag_files
from bevfusion.datasets.bag_tracks import Mounting, geo_tracks, odometry_track
from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.pointcloud2 import decode_pointcloud2
from bevfusion.datasets.rigid import FrameTree, transform
from bevfusion.datasets.ros_messages import (
    IMU,
    NAV_SAT_FIX,
    ODOMETRY,
    OLD_TRANSFORMS,
    POINT_CLOUD,
    POSE,
    POSE_COVARIANCE,
    TRANSFORMS,
    stamp_ns,
)
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

PARTS: dict[str, tuple[str, ...]] = {
    "lidar": (POINT_CLOUD,),
    "gnss": (NAV_SAT_FIX,),
    "imu": (IMU,),
    "odometry": (ODOMETRY, POSE, POSE_COVARIANCE),
}
VEHICLE_FRAMES = ("base_link", "base_footprint", "ego_vehicle", "vehicle", "base")


class BagClouds:
    """The scans of a bag, turned into the vehicle's axes."""

    def __init__(self, bag: Bag, topic: Topic, ego_from_lidar: Float[np.ndarray, "3 3"]) -> None:
        self._bag = bag
        self._topic = topic
        self._turn = None if np.array_equal(ego_from_lidar, np.eye(3)) else ego_from_lidar

    def __len__(self) -> int:
        return len(self._topic)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp of the header and points of a message.

        Raises:
            DataError: if it is damaged.
        """
        message = self._bag.message(self._topic, position)
        moment_ns = stamp_ns(message, int(self._topic.stamps_ns[position]))
        source = f"{self._bag.path}: scan {position} of {self._topic.name}"
        try:
            cloud = decode_pointcloud2(message, moment_ns)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
        cloud = cloud.usable(source)
        return moment_ns, cloud if self._turn is None else cloud.turned(self._turn)


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag file, or a folder of some."""
    return bool(bag_files(path))


def open_bag(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive in a bag.

    Raises:
        DataError: if it cannot be read, has no scans, or several LiDARs and none is named.
    """
    options = options or LogOptions()
    bag = Bag(path)
    chosen = choose_topics(bag, dict(options.topics))
    lidar = chosen["lidar"]
    if lidar is None:
        raise DataError(f"{path}: no PointCloud2 messages in this bag; its topics are {_listed(bag.topics.values())}")
    mounting = _mounting(bag, lidar)
    truth, gnss = geo_tracks(bag, chosen["gnss"], chosen["imu"], mounting)
    odometry = odometry_track(bag, chosen["odometry"], mounting)
    clouds = BagClouds(bag, lidar, mounting.ego_from_lidar[:3, :3])
    name = path.resolve().name.removesuffix(path.suffix) if path.is_file() else path.resolve().name
    return LoggedDrive(name, clouds, Tracks(truth, gnss, odometry), options)


def choose_topics(bag: Bag, named: dict[str, str]) -> dict[str, Topic | None]:
    """The topic of each part of `PARTS`: the one named, or the only (for all but the LiDAR: the fullest) of its type.

    Raises:
        DataError: if a name is not in the bag or of another type, or if LiDARs compete.
    """
    unknown = set(named) - set(PARTS)
    if unknown:
        raise DataError(f"topics can be named for {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    chosen: dict[str, Topic | None] = {}
    for part, msgtypes in PARTS.items():
        topics = bag.of_type(*msgtypes)
        if part in named:
            topics = [topic for topic in topics if topic.name.strip("/") == named[part].strip("/")]
            if not topics:
                known = _listed(bag.of_type(*msgtypes))
                raise DataError(f"{bag.path}: no {part} topic {named[part]}; topics of its type are {known}")
        if part == "lidar" and len(topics) > 1:
            raise DataError(f"{bag.path}: several LiDARs, name one as the topic of lidar: {_listed(topics)}")
        if len(topics) > 1:
            log.info("%s: %s from %s, also there: %s", bag.path, part, topics[0].name, _listed(topics[1:]))
        chosen[part] = topics[0] if topics else None
    return chosen


def _mounting(bag: Bag, lidar: Topic) -> Mounting:
    """Where the LiDAR sits, by /tf_static and the frame of the first scan that can be read."""
    tree = FrameTree()
    static = [topic for topic in bag.of_type(TRANSFORMS, OLD_TRANSFORMS) if topic.name.endswith("tf_static")]
    for _, _, message in bag.messages(static):
        for item in message.transforms:
            shift, turn = item.transform.translation, item.transform.rotation
            try:
                matrix = transform((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))
            except DataError as error:
                log.warning("%s: %s to %s: %s", bag.path, item.header.frame_id, item.child_frame_id, error)
                continue
            tree.add(item.header.frame_id, item.child_frame_id, matrix)
    frame = _first_frame(bag, lidar)
    for vehicle in VEHICLE_FRAMES:
        vehicle_from_lidar = tree.lookup(vehicle, frame) if vehicle in tree else None
        if vehicle_from_lidar is not None:
            ego_from_lidar = np.eye(4)
            ego_from_lidar[:3, :3] = vehicle_from_lidar[:3, :3]
            return Mounting(tree, frame, ego_from_lidar, vehicle)
    return Mounting(tree, frame, np.eye(4), None)


def _first_frame(bag: Bag, topic: Topic) -> str:
    """Frame of the first message that can be read.

    Raises:
        DataError: if the first ten cannot: what the first one says.
    """
    problems = []
    for number in range(min(10, len(topic))):
        try:
            return str(bag.message(topic, number).header.frame_id)
        except DataError as error:
            problems.append(error)
    raise problems[0]


def _listed(topics: Iterable[Topic]) -> str:
    found = [f"{topic.name} ({topic.msgtype.split('/')[-1]}, {len(topic)})" for topic in topics]
    shown = ", ".join(found[:20]) or "none"
    return shown + (f" and {len(found) - 20} more" if len(found) > 20 else "")
