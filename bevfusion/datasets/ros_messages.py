"""Serialized messages as objects with the fields of their ROS type: those that a drive is read from.

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

from bevfusion.datasets.container import Connection
from bevfusion.datasets.pointcloud2 import header_stamp_ns
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
