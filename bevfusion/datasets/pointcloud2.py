"""sensor_msgs/PointCloud2 as arrays: any layout of fields, either byte order; numpy only, no ROS."""

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np

from bevfusion.datasets.cloud import COORDINATES, MAX_POINTS, Cloud, RunningIntensity, cloud_from_fields
from bevfusion.structures import DataError

# sensor_msgs/PointField.datatype
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
MAX_FIELDS = 64
RECENT_STEPS = 50  # between clouds, whose median is the time between scans
MAX_STEP_NS = 2_000_000_000


def decode_pointcloud2(message: Any, stamp_ns: int | None = None, period_s: float | None = None) -> Cloud:
    """The points of a message, in the frame that its header names.

    Coordinates are float32 or float64. Intensity stays as the sensor counts it, zero where there is none. Times
    in seconds, milli-, micro- or nanoseconds, absolute or relative, come as seconds after the stamp; times that
    fit no turn of a LiDAR are left out.

    Args:
        message: an object with the fields of sensor_msgs/PointCloud2, of rospy, rclpy or rosbags alike.
        stamp_ns: moment of the scan; without it, that of the message's header.
        period_s: between scans, where it is known: tells the unit of times, also in pieces of a turn.

    Raises:
        DataError: if sizes and data disagree, or a coordinate is missing or of another type.
    """
    stamp_ns = header_stamp_ns(message) if stamp_ns is None else stamp_ns
    records = _records(message)
    columns = {name: records[name] for name in records.dtype.names or ()}
    return cloud_from_fields(columns, stamp_ns, "PointCloud2", period_s)


class CloudStream:
    """Clouds one after the other, as a node hears them: what a whole log would be asked for is known of those before.

    That is the scale of the intensities and the time between scans.
    """

    def __init__(self) -> None:
        self._intensity = RunningIntensity()
        self._steps_s: deque[float] = deque(maxlen=RECENT_STEPS)
        self._last_ns: int | None = None

    def decode(self, message: Any) -> Cloud:
        """The returns of the next message (as of `decode_pointcloud2`), with intensities of 0 to 1.

        Raises:
            DataError: as of `decode_pointcloud2`, or if there are none.
        """
        stamp_ns = header_stamp_ns(message)
        if self._last_ns is not None and 0 < stamp_ns - self._last_ns < MAX_STEP_NS:
            self._steps_s.append((stamp_ns - self._last_ns) / 1e9)
        self._last_ns = stamp_ns
        period_s = float(np.median(self._steps_s)) if self._steps_s else None
        cloud = decode_pointcloud2(message, stamp_ns, period_s).usable("cloud")
        return replace(cloud, intensity=self._intensity.reflectance(cloud.intensity))


def header_stamp_ns(message: Any) -> int:
    """Stamp of a message's header (`sec, nanosec` of ROS 2 and rosbags, `secs, nsecs` of rospy), in ns."""
    stamp = message.header.stamp
    if hasattr(stamp, "nanosec"):
        return int(stamp.sec) * 10**9 + int(stamp.nanosec)
    return int(stamp.secs) * 10**9 + int(stamp.nsecs)


def _records(message: Any) -> np.ndarray:
    """The points as a structured array, without a copy."""
    width, height, step = int(message.width), int(message.height), int(message.point_step)
    row_step = int(message.row_step)
    data = np.frombuffer(message.data, dtype=np.uint8)
    count = width * height
    if count > MAX_POINTS:
        raise DataError(f"PointCloud2 declares {width} x {height} points, at most {MAX_POINTS} are read")
    dtype = _layout(message, step)
    if count * step > len(data):
        raise DataError(
            f"PointCloud2 declares {width} x {height} points of {step} bytes, {count * step} in all, "
            f"but holds {len(data)} bytes"
        )
    if height > 1 and row_step > width * step:  # rows with padding behind them
        if row_step * (height - 1) + width * step > len(data):
            raise DataError(f"PointCloud2 declares {height} rows of {row_step} bytes, but holds {len(data)} bytes")
        rows = np.lib.stride_tricks.as_strided(data, (height, width * step), (row_step, 1))
        return np.ascontiguousarray(rows).reshape(-1).view(dtype)
    return data[: count * step].view(dtype)


def _layout(message: Any, step: int) -> np.dtype[Any]:
    """The record of one point.

    Raises:
        DataError: if a coordinate is missing, or a field reaches past the point.
    """
    order = ">" if message.is_bigendian else "<"
    if len(message.fields) > MAX_FIELDS or not 0 < step <= 65536:
        raise DataError(f"PointCloud2 declares {len(message.fields)} fields in {step} bytes a point")
    formats: dict[str, tuple[str, int]] = {}
    for field in message.fields:
        if field.name in formats or int(field.count) not in (0, 1):  # arrays a point (histograms) are of no use here
            continue
        if int(field.datatype) not in TYPES:
            raise DataError(f"PointCloud2 field {field.name!r} has the unknown type {int(field.datatype)}")
        kind = order + TYPES[int(field.datatype)]
        if int(field.offset) + np.dtype(kind).itemsize > step:
            raise DataError(f"PointCloud2 field {field.name!r} reaches past the {step} bytes of a point")
        formats[field.name] = (kind, int(field.offset))
    missing = [name for name in COORDINATES if name not in formats]
    if missing:
        raise DataError(f"PointCloud2 has no field {', '.join(missing)}; its fields are {', '.join(formats) or 'none'}")
    return np.dtype(
        {
            "names": list(formats),
            "formats": [kind for kind, _ in formats.values()],
            "offsets": [offset for _, offset in formats.values()],
            "itemsize": step,
        }
    )
