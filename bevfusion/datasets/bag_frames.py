"""Frames of reference of a bag: where the LiDAR sits on the vehicle, and which frame is the vehicle's.

Transforms come from /tf_static, and from /tf where they stand still: static publishers of ROS 1 repeat theirs there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.bag import Bag, Topic
from bevfusion.datasets.rigid import FrameTree, bare, extrinsics_matrix, transforms_of
from bevfusion.datasets.ros_messages import FOXGLOVE_TRANSFORM, FOXGLOVE_TRANSFORMS, OLD_TRANSFORMS, TRANSFORMS
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
