"""Serialized ROS messages as objects, through `rosbags`: the few standard types that a drive is read from."""

import struct
from functools import cache
from typing import Any, Literal

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from bevfusion.datasets.pointcloud2 import header_stamp_ns
from bevfusion.structures import DataError

CLOCKS_APART_NS = 3600 * 10**9

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
NAV_SAT_FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
ODOMETRY = "nav_msgs/msg/Odometry"
POSE = "geometry_msgs/msg/PoseStamped"
POSE_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
TRANSFORMS = "tf2_msgs/msg/TFMessage"
OLD_TRANSFORMS = "tf/msg/tfMessage"  # the same bytes as TRANSFORMS


@cache
def _typestore(encoding: Literal["ros1", "cdr"]) -> Typestore:
    # the types used here have been the same in every release of ROS 1 and of ROS 2
    store = get_typestore(Stores.ROS1_NOETIC if encoding == "ros1" else Stores.ROS2_HUMBLE)
    if TRANSFORMS not in store.types:
        store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TRANSFORMS))
    return store


def deserialized(raw: bytes, msgtype: str, encoding: Literal["ros1", "cdr"], source: str) -> Any:
    """A message as an object with the fields of its type.

    Args:
        raw: the message.
        msgtype: one of the types above.
        encoding: how it was serialized.
        source: what is read, for the message of an error.

    Raises:
        DataError: if the bytes are no such message.
    """
    store = _typestore(encoding)
    name = TRANSFORMS if msgtype == OLD_TRANSFORMS else msgtype
    try:
        if encoding == "ros1":
            return store.deserialize_ros1(raw, name)
        return store.deserialize_cdr(raw, name)
    except (SerdeError, struct.error, ValueError, IndexError, KeyError, AssertionError, OverflowError) as error:
        raise DataError(f"{source}: not a {msgtype} ({str(error)[:80] or type(error).__name__})") from error


def stamp_ns(message: Any, recorded_ns: int) -> int:
    """Stamp of a message's header; that of its recording where the header was never set, or by another clock."""
    header_ns = header_stamp_ns(message)
    return header_ns if abs(header_ns - recorded_ns) <= CLOCKS_APART_NS else recorded_ns
