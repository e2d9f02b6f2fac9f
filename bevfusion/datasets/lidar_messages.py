"""The messages that hold LiDAR scans, and what makes clouds of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.pointcloud2 import decode_pointcloud2
from bevfusion.datasets.rigid import transform
from bevfusion.datasets.ros_messages import FOXGLOVE_CLOUD, LIVOX_CLOUDS, POINT_CLOUD, VELODYNE_PACKETS
from bevfusion.structures import DataError

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
