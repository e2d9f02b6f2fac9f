"""Serialized messages as objects with the fields of their ROS type, and those that hold LiDAR scans as clouds.

ROS types go through `rosbags`. Livox's clouds are read by hand, since a list of a hundred thousand objects a second is
no way to read points, and messages of Foxglove's protobuf schemas are put into the shape of the ROS type that says the
same (https://docs.foxglove.dev/docs/visualization/message-schemas/introduction).
"""

import struct
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.container import Connection
from bevfusion.datasets.pointcloud2 import decode_pointcloud2, header_stamp_ns
from bevfusion.datasets.rigid import transform
from bevfusion.structures import DataError

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
LIVOX_CLOUDS = ("livox_ros_driver/msg/CustomMsg", "livox_ros_driver2/msg/CustomMsg", "livox_interfaces/msg/CustomMsg")
VELODYNE_PACKETS = "velodyne_msgs/msg/VelodyneScan"
NAV_SAT_FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
ODOMETRY = "nav_msgs/msg/Odometry"
POSE = "geometry_msgs/msg/PoseStamped"
POSE_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
OLD_TRANSFORMS = "tf/msg/tfMessage"  # the same bytes as TRANSFORMS
FOXGLOVE_CLOUD, FOXGLOVE_FIX, FOXGLOVE_POSE = "foxglove.PointCloud", "foxglove.LocationFix", "foxglove.PoseInFrame"
FOXGLOVE_TRANSFORM, FOXGLOVE_TRANSFORMS = "foxglove.FrameTransform", "foxglove.FrameTransforms"
HEAD_BYTES = 4096  # of a message: its header, and enough of its content to tell it from others
MAX_FRAME_BYTES = 512
_VELODYNE_PACKET = "velodyne_msgs/msg/VelodynePacket"
_PLAIN_TYPES = {  # that rosbags does not know
    TRANSFORMS: "geometry_msgs/TransformStamped[] transforms",
    _VELODYNE_PACKET: "time stamp\nuint8[1206] data",
    VELODYNE_PACKETS: "std_msgs/Header header\nvelodyne_msgs/VelodynePacket[] packets",
}
_LIVOX_POINT = [("offset_time", "<u4"), ("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
_LIVOX_POINT += [("reflectivity", "u1"), ("tag", "u1"), ("line", "u1")]
# foxglove.PackedElementField.NumericType -> sensor_msgs/PointField.datatype
_FOXGLOVE_NUMBERS = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 7, 8: 8}
_BROKEN = (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError, OverflowError, DecodeError)
Decode = Callable[[Any, int, float | None], Cloud]
"""Message, stamp of the scan in ns, seconds from scan to scan where they are known; raises DataError."""
# raw packets that are not decoded here -> what makes clouds of them
DRIVERS = {
    "ouster": "ouster-ros (ros2 launch ouster_ros replay.launch.xml bag_file:=BAG)",
    "hesai": "hesai_ros_driver_2",
    "pandar": "hesai_ros_driver_2",
    "rslidar": "rslidar_sdk",
    "robosense": "rslidar_sdk",
    "livox": "livox_ros_driver2",
    "velodyne": "velodyne_pointcloud",
}


class Head(NamedTuple):
    """What the first bytes of a message with a header say."""

    stamp_ns: int  # 0 where the header was never set
    frame: str
    points: int  # of a cloud; -1 where its type does not begin with their number
    content: bytes  # behind the header, as far as it was read


@cache
def _typestore(encoding: Literal["ros1", "cdr"]) -> Typestore:
    # the types used here have been the same in every release of ROS 1 and of ROS 2
    store = get_typestore(Stores.ROS1_NOETIC if encoding == "ros1" else Stores.ROS2_HUMBLE)
    for name, text in _PLAIN_TYPES.items():
        if name not in store.types:
            text = text if encoding == "ros1" else text.replace("time stamp", "builtin_interfaces/Time stamp")
            store.register(get_types_from_msg(text, name))
    return store


def deserialized(raw: bytes, described: Connection, source: str) -> Any:
    """A message as an object with the fields of its ROS type.

    Args:
        raw: the message.
        described: of one of the types above; and how it was serialized.
        source: what is read, for the message of an error.

    Raises:
        DataError: if the bytes are no such message.
    """
    name = TRANSFORMS if described.msgtype == OLD_TRANSFORMS else described.msgtype
    try:
        if described.encoding == "protobuf":
            return _from_protobuf(raw, described)
        if name in LIVOX_CLOUDS:
            return _livox(raw, described.encoding)
        store = _typestore(described.encoding)
        return store.deserialize_ros1(raw, name) if described.encoding == "ros1" else store.deserialize_cdr(raw, name)
    except _BROKEN as error:
        told = str(error)[:80] or type(error).__name__
        raise DataError(f"{source}: not a {described.msgtype} ({told})") from error


def read_head(raw: bytes, described: Connection, source: str) -> Head:
    """The header of a message whose type begins with one, from its first `HEAD_BYTES` bytes.

    Raises:
        DataError: if the bytes are no such message.
    """
    if described.encoding == "protobuf":
        message = deserialized(raw, described, source)
        return Head(header_stamp_ns(message), str(message.header.frame_id), int(getattr(message, "width", -1)), raw)
    try:
        stamp_ns, frame, at = _header(raw, described.encoding)
        points = -1
        if described.msgtype == POINT_CLOUD:
            aligned = at if described.encoding == "ros1" else at + -(at - 4) % 4
            order = "<" if described.encoding == "ros1" or raw[1:2] == b"\x01" else ">"
            height, width = struct.unpack_from(f"{order}II", raw, aligned)
            points = height * width
    except (struct.error, UnicodeDecodeError) as error:
        raise DataError(f"{source}: not a {described.msgtype}: no header") from error
    return Head(stamp_ns, frame, min(points, 2**62), raw[at:])


def _header(raw: bytes, encoding: str) -> tuple[int, str, int]:
    """Stamp, frame, and the position behind the header."""
    at = 4  # sequence number of ROS 1, or the encapsulation of CDR
    order = "<" if encoding == "ros1" or raw[1:2] == b"\x01" else ">"
    seconds, nanoseconds, size = struct.unpack_from(f"{order}{'I' if encoding == 'ros1' else 'i'}II", raw, at)
    if size > MAX_FRAME_BYTES:
        raise struct.error("a frame's name too long")
    frame = raw[at + 12 : at + 12 + size].rstrip(b"\0").decode("utf-8")
    return seconds * 10**9 + nanoseconds, frame, at + 12 + size


def _livox(raw: bytes, encoding: str) -> SimpleNamespace:
    """A CustomMsg: header, timebase, point_num, lidar_id, rsvd[3], points; `points` comes as an array of records."""
    stamp_ns, frame, at = _header(raw, encoding)
    if encoding != "ros1" and raw[1:2] != b"\x01":
        raise ValueError("big-endian")
    if encoding != "ros1":
        at += -(at - 4) % 8
    (timebase_ns,) = struct.unpack_from("<Q", raw, at)
    (count,) = struct.unpack_from("<I", raw, at + 16)
    step = 19 if encoding == "ros1" else 20  # CDR aligns the next point
    if count * step > len(raw) - at - 20 + (step - 19):
        raise ValueError(f"declares {count} points, but holds {len(raw) - at - 20} bytes of them")
    dtype = np.dtype(_LIVOX_POINT)
    padded = np.dtype(
        {
            "names": list(dtype.names or ()),
            "formats": [dtype[name] for name in dtype.names or ()],
            "offsets": [dtype.fields[name][1] for name in dtype.names or ()] if dtype.fields else [],
            "itemsize": step,
        }
    )
    data = raw[at + 20 : at + 20 + count * step].ljust(count * step, b"\0")
    header = _header_object(stamp_ns, frame)
    return SimpleNamespace(header=header, timebase=timebase_ns, points=np.frombuffer(data, padded))


def _header_object(stamp_ns: int, frame: str) -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id=frame)


# Foxglove's messages


@cache
def _message_class(schema: bytes, name: str) -> Any:
    files = descriptor_pb2.FileDescriptorSet.FromString(schema)
    pool: Any = descriptor_pool.DescriptorPool()
    waiting, known = list(files.file), set[str]()
    while waiting:  # each after those that it imports
        ready = [file for file in waiting if known.issuperset(file.dependency)]
        if not ready:
            raise ValueError(f"its schema lacks {waiting[0].dependency[0]}")
        for file in ready:
            pool.AddSerializedFile(file.SerializeToString())
            known.add(file.name)
        waiting = [file for file in waiting if file.name not in known]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _from_protobuf(raw: bytes, described: Connection) -> SimpleNamespace:
    try:
        message = _message_class(described.schema, described.msgtype).FromString(raw)
    except TypeError as error:  # what the descriptor pool raises for schemas that do not fit together
        raise ValueError(f"its schema cannot be used: {error}") from error
    return _FOXGLOVE[described.msgtype](message)


def _of_foxglove(message: Any, frame: str, **fields: Any) -> SimpleNamespace:
    stamp_ns = int(message.timestamp.seconds) * 10**9 + int(message.timestamp.nanos)
    return SimpleNamespace(header=_header_object(stamp_ns, frame), **fields)


def _cloud(message: Any) -> SimpleNamespace:
    fields = [
        SimpleNamespace(name=field.name, offset=field.offset, datatype=_FOXGLOVE_NUMBERS.get(field.type, 0), count=1)
        for field in message.fields
    ]
    count = len(message.data) // max(1, message.point_stride)
    return _of_foxglove(
        message,
        message.frame_id,
        height=1,
        width=count,
        fields=fields,
        is_bigendian=False,
        point_step=message.point_stride,
        row_step=message.point_stride * count,
        data=message.data,
        # of the points in the frame: none stands for the identity
        pose=_pose(message.pose) if message.HasField("pose") else None,
    )


def _fix(message: Any) -> SimpleNamespace:
    covariance = list(message.position_covariance)
    return _of_foxglove(
        message,
        message.frame_id,
        status=SimpleNamespace(status=0, service=0),
        latitude=message.latitude,
        longitude=message.longitude,
        altitude=message.altitude,
        position_covariance=np.array(covariance if len(covariance) == 9 else [0.0] * 9),
        position_covariance_type=int(message.position_covariance_type) if len(covariance) == 9 else 0,
    )


def _pose(pose: Any) -> SimpleNamespace:
    return SimpleNamespace(position=pose.position, orientation=pose.orientation)


def _transform(message: Any) -> SimpleNamespace:
    moved = SimpleNamespace(translation=message.translation, rotation=message.rotation)
    return _of_foxglove(message, message.parent_frame_id, child_frame_id=message.child_frame_id, transform=moved)


_FOXGLOVE: dict[str, Callable[[Any], SimpleNamespace]] = {
    FOXGLOVE_CLOUD: _cloud,
    FOXGLOVE_FIX: _fix,
    FOXGLOVE_POSE: lambda message: _of_foxglove(message, message.frame_id, pose=_pose(message.pose)),
    FOXGLOVE_TRANSFORM: lambda message: SimpleNamespace(transforms=[_transform(message)]),
    FOXGLOVE_TRANSFORMS: lambda message: SimpleNamespace(transforms=[_transform(one) for one in message.transforms]),
}


def decode_livox(message: Any, stamp_ns: int, period_s: float | None) -> Cloud:
    """A CustomMsg of Livox: reflectivity of 8 bits, times in ns after the time base of the message.

    Raises:
        DataError: never; broken messages are refused before.
    """
    points = message.points
    base_s = (int(message.timebase) - stamp_ns) / 1e9 if message.timebase else 0.0
    if abs(base_s) > 1.0:  # a clock of its own: then the stamp is that of the first point
        base_s = 0.0
    xyz = np.stack([points[name] for name in ("x", "y", "z")], axis=1).astype(np.float32)
    return Cloud(xyz, points["reflectivity"], points["line"].astype(np.int32), points["offset_time"] / 1e9 + base_s)


def decode_velodyne(message: Any, stamp_ns: int, period_s: float | None) -> Cloud:
    """Packets of a turn of a Velodyne (VLP-16, VLP-32C, HDL-32E, HDL-64E, VLS-128), by the extra `velodyne`.

    Raises:
        DataError: if velodyne-decoder is not installed, or the packets are of no sensor that it knows.
    """
    try:
        import velodyne_decoder
    except ImportError as error:
        raise DataError(
            "Velodyne packets need velodyne-decoder: pip install 'bevfusion[velodyne]'; "
            "or make clouds of them with the driver velodyne_pointcloud"
        ) from error
    packets = velodyne_decoder.PacketVector()
    for packet in message.packets:
        packet_s = int(packet.stamp.sec) + 1e-9 * int(packet.stamp.nanosec)
        packets.append(velodyne_decoder.VelodynePacket(packet_s, np.asarray(packet.data, dtype=np.uint8).tolist()))
    try:
        moment, points = velodyne_decoder.ScanDecoder(velodyne_decoder.Config()).decode(packets)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"packets of no Velodyne that is known ({str(error)[:80]})") from error
    columns = np.asarray(points)  # x, y, z, intensity, time, column, ring, return
    since_s = float(moment.host) - stamp_ns / 1e9
    time_s = columns[:, 4].astype(np.float64) + (since_s if abs(since_s) <= 1.0 else 0.0)
    return Cloud(columns[:, :3].astype(np.float32), columns[:, 3], columns[:, 6].astype(np.int32), time_s)


def decode_foxglove(message: Any, stamp_ns: int, period_s: float | None) -> Cloud:
    """A foxglove.PointCloud: a PointCloud2 that may carry the pose of its points in its frame.

    Raises:
        DataError: as of `decode_pointcloud2`.
    """
    cloud = decode_pointcloud2(message, stamp_ns, period_s)
    if message.pose is None:
        return cloud
    place, turn = message.pose.position, message.pose.orientation
    quaternion = (turn.x, turn.y, turn.z, turn.w)
    matrix = transform((place.x, place.y, place.z), quaternion if any(quaternion) else (0.0, 0.0, 0.0, 1.0))
    return cloud if np.array_equal(matrix, np.eye(4)) else cloud.turned(matrix[:3, :3], matrix[:3, 3])


DECODERS: dict[str, Decode] = {
    POINT_CLOUD: decode_pointcloud2,
    FOXGLOVE_CLOUD: decode_foxglove,
    **dict.fromkeys(LIVOX_CLOUDS, decode_livox),
    VELODYNE_PACKETS: decode_velodyne,
}
PACKETS = (VELODYNE_PACKETS,)


def driver_of(msgtype: str) -> str | None:
    """What makes clouds of raw packets that are not read here; None for other messages."""
    package, _, name = msgtype.lower().partition("/")
    if not any(word in name for word in ("packet", "scan", "raw")) or name.endswith("laserscan"):
        return None
    return next((driver for word, driver in DRIVERS.items() if word in package), None)
