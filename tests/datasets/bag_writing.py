"""A small drive, and what writes it as bags with the library of the format."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

LIDAR, FIX, IMU, ODOMETRY, STATIC = "/lidar/points", "/gps/fix", "/imu/data", "/odom", "/tf_static"
ORIGIN_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000


@dataclass
class SmallDrive:
    """Five turns of a few points on a straight way to the north-east, 1 m apart."""

    frames: int = 5
    points: int = 200
    yaw_rad: float = math.radians(60.0)
    origin_deg: tuple[float, float] = (49.0, 8.4)
    xyzi: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self):
        rng = np.random.default_rng(7)
        for _ in range(self.frames):
            xyz = rng.uniform(-40.0, 40.0, (self.points, 3))
            self.xyzi.append(np.column_stack([xyz, rng.uniform(0.0, 1.0, self.points)]).astype(np.float32))

    def stamp_ns(self, number):
        return ORIGIN_NS + number * STEP_NS

    def place_deg(self, number):
        """Of the LiDAR: a step of a metre as a sphere has it is near enough."""
        lat, lon = self.origin_deg
        north, east = number * math.sin(self.yaw_rad), number * math.cos(self.yaw_rad)
        return lat + north / 111_200.0, lon + east / (111_200.0 * math.cos(math.radians(lat)))


class Messages:
    """Message objects of a ROS generation."""

    def __init__(self, ros1):
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
        name = "tf2_msgs/msg/TFMessage"
        if name not in self.store.types:
            self.store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", name))
        self.types = self.store.types

    def make(self, msgtype, **fields):
        return self.types[msgtype](**fields)

    def header(self, stamp_ns, frame):
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        extra = {"seq": 0} if self.ros1 else {}
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame, **extra)

    def quaternion(self, yaw_rad):
        z, w = math.sin(yaw_rad / 2), math.cos(yaw_rad / 2)
        return self.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=z, w=w)

    def vector(self, x=0.0, y=0.0, z=0.0, name="Vector3"):
        return self.make(f"geometry_msgs/msg/{name}", x=float(x), y=float(y), z=float(z))

    def cloud(self, stamp_ns, xyzi, frame="lidar"):
        fields = [
            self.make("sensor_msgs/msg/PointField", name=name, offset=4 * at, datatype=7, count=1)
            for at, name in enumerate(("x", "y", "z", "intensity"))
        ]
        data = np.frombuffer(xyzi.astype("<f4").tobytes(), dtype=np.uint8)
        return self.make(
            "sensor_msgs/msg/PointCloud2",
            header=self.header(stamp_ns, frame),
            height=1,
            width=len(xyzi),
            fields=fields,
            is_bigendian=False,
            point_step=16,
            row_step=16 * len(xyzi),
            data=data,
            is_dense=True,
        )

    def fix(self, stamp_ns, lat_deg, lon_deg, status=2, frame="gps"):
        return self.make(
            "sensor_msgs/msg/NavSatFix",
            header=self.header(stamp_ns, frame),
            status=self.make("sensor_msgs/msg/NavSatStatus", status=status, service=1),
            latitude=lat_deg,
            longitude=lon_deg,
            altitude=0.0,
            position_covariance=np.zeros(9),
            position_covariance_type=0,
        )

    def imu(self, stamp_ns, yaw_rad, frame="imu"):
        return self.make(
            "sensor_msgs/msg/Imu",
            header=self.header(stamp_ns, frame),
            orientation=self.quaternion(yaw_rad),
            orientation_covariance=np.zeros(9),
            angular_velocity=self.vector(),
            angular_velocity_covariance=np.zeros(9),
            linear_acceleration=self.vector(),
            linear_acceleration_covariance=np.zeros(9),
        )

    def odometry(self, stamp_ns, x, y, yaw_rad, child="base_link"):
        pose = self.make(
            "geometry_msgs/msg/Pose", position=self.vector(x, y, name="Point"), orientation=self.quaternion(yaw_rad)
        )
        twist = self.make("geometry_msgs/msg/Twist", linear=self.vector(), angular=self.vector())
        return self.make(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, "odom"),
            child_frame_id=child,
            pose=self.make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
            twist=self.make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
        )

    def static(self, stamp_ns, *transforms):
        """Transforms (parent, child, (x, y, z), yaw)."""
        items = [
            self.make(
                "geometry_msgs/msg/TransformStamped",
                header=self.header(stamp_ns, parent),
                child_frame_id=child,
                transform=self.make(
                    "geometry_msgs/msg/Transform", translation=self.vector(*shift), rotation=self.quaternion(yaw_rad)
                ),
            )
            for parent, child, shift, yaw_rad in transforms
        ]
        return self.make("tf2_msgs/msg/TFMessage", transforms=items)


def drive_messages(drive, messages, *, mounts=(), lever_m=(0.0, 0.0)):
    """(topic, stamp, message) of the whole drive; the antenna sits `lever_m` ahead and left of the LiDAR."""
    written = []
    if mounts:
        written.append((STATIC, drive.stamp_ns(0), messages.static(drive.stamp_ns(0), *mounts)))
    cos, sin = math.cos(drive.yaw_rad), math.sin(drive.yaw_rad)
    east, north = cos * lever_m[0] - sin * lever_m[1], sin * lever_m[0] + cos * lever_m[1]
    for number in range(drive.frames):
        stamp_ns = drive.stamp_ns(number)
        lat, lon = drive.place_deg(number)
        lat += north / 111_200.0
        lon += east / (111_200.0 * math.cos(math.radians(drive.origin_deg[0])))
        written += [
            (FIX, stamp_ns, messages.fix(stamp_ns, lat, lon)),
            (IMU, stamp_ns, messages.imu(stamp_ns, drive.yaw_rad)),
            (ODOMETRY, stamp_ns, messages.odometry(stamp_ns, float(number), 0.0, 0.0)),
            (LIDAR, stamp_ns, messages.cloud(stamp_ns, drive.xyzi[number])),
        ]
    return written


def write_ros1(path, written, *, compression=None, chunk_bytes=None):
    messages = Messages(ros1=True)
    writer = Writer1(path)
    if compression is not None:
        writer.set_compression(Writer1.CompressionFormat[compression])
    if chunk_bytes is not None:
        writer.chunk_threshold = chunk_bytes
    with writer:
        connections = {}
        for topic, stamp_ns, message in written:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.store)
            raw = messages.store.serialize_ros1(message, message.__msgtype__)
            writer.write(connections[topic], stamp_ns, raw)
    return path


def write_ros2(path, written, *, storage="sqlite3", compress=None):
    """A ROS 2 bag folder; its single file is in it."""
    messages = Messages(ros1=False)
    plugin = StoragePlugin.SQLITE3 if storage == "sqlite3" else StoragePlugin.MCAP
    writer = Writer2(path, version=9, storage_plugin=plugin)
    if compress is not None:
        writer.set_compression(CompressionMode[compress], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for topic, stamp_ns, message in written:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.store)
            raw = messages.store.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], stamp_ns, raw)
    return path


KINDS = {
    "ros1": lambda folder, make: write_ros1(folder / "a.bag", make(Messages(ros1=True))),
    "ros1 bz2": lambda folder, make: write_ros1(folder / "b.bag", make(Messages(ros1=True)), compression="BZ2"),
    "ros1 lz4": lambda folder, make: write_ros1(
        folder / "l.bag", make(Messages(ros1=True)), compression="LZ4", chunk_bytes=5000
    ),
    "ros2 sqlite3": lambda folder, make: write_ros2(folder / "s", make(Messages(ros1=False))),
    "ros2 sqlite3 zstd": lambda folder, make: write_ros2(folder / "z", make(Messages(ros1=False)), compress="MESSAGE"),
    "ros2 sqlite3 file": lambda folder, make: write_ros2(folder / "f", make(Messages(ros1=False)), compress="FILE"),
    "ros2 mcap": lambda folder, make: write_ros2(folder / "m", make(Messages(ros1=False)), storage="mcap"),
    "mcap": lambda folder, make: single_file(write_ros2(folder / "n", make(Messages(ros1=False)), storage="mcap")),
    "mcap zstd": lambda folder, make: single_file(
        write_ros2(folder / "o", make(Messages(ros1=False)), storage="mcap", compress="STORAGE")
    ),
}


def single_file(folder: Path) -> Path:
    """The one bag file in the folder of a ROS 2 bag."""
    (file,) = (file for file in folder.iterdir() if file.suffix in (".db3", ".mcap"))
    return file


def plain_cloud(fields, data, width, height=1, step=None, row_step=None, bigendian=False, stamp_ns=ORIGIN_NS):
    """A PointCloud2 without ROS: fields (name, offset, datatype)."""
    return SimpleNamespace(
        header=SimpleNamespace(
            stamp=SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id="lidar"
        ),
        width=width,
        height=height,
        fields=[SimpleNamespace(name=n, offset=o, datatype=t, count=1) for n, o, t in fields],
        is_bigendian=bigendian,
        point_step=step,
        row_step=step * width if row_step is None else row_step,
        data=data,
    )
