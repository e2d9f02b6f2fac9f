"""Writes a ROS 2 bag as a robot with a cheap receiver records it, from a drive that knows the truth.

    python make_bag.py DRIVE BAG

The bag holds `/lidar/points` (PointCloud2), `/gps/fix` (NavSatFix: single fixes that are off by 3 m, with the
covariance that says so), `/imu/data` (Imu without an orientation) and `/tf_static`. It holds no truth and no odometry.
The true poses are written beside it, as BAG_truth.csv, to compare with afterwards. What it needs, numpy and rosbags,
comes with bevfusion.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

import bevfusion

FIX_STD_M = 3.0  # along east and along north
FIX_MEMORY_S = 20.0  # errors of a receiver come and go slowly
METRES_A_DEGREE = 111_200.0
FLOAT32 = 7  # of sensor_msgs/PointField
NO_FIX_AUGMENTATION, GPS = 0, 1  # of sensor_msgs/NavSatStatus: a single fix
KNOWN_DIAGONAL = 2  # of NavSatFix.position_covariance_type
NO_ORIENTATION = -1.0  # of sensor_msgs/Imu, in the first cell of orientation_covariance

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))


def make(kind, /, **fields):
    """A message of a type."""
    return STORE.types[kind](**fields)


def vector(x=0.0, y=0.0, z=0.0):
    return make("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z))


def quaternion():
    return make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)


def header(stamp_ns, frame):
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def cloud(stamp_ns, scan):
    columns = np.column_stack([scan.xyz, scan.intensity]).astype("<f4")
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns, "lidar"),
        height=1,
        width=len(columns),
        fields=[
            make("sensor_msgs/msg/PointField", name=name, offset=4 * at, datatype=FLOAT32, count=1)
            for at, name in enumerate(("x", "y", "z", "intensity"))
        ],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(columns),
        data=np.frombuffer(columns.tobytes(), np.uint8),
        is_dense=True,
    )


def fix(stamp_ns, lat_deg, lon_deg):
    variance_m2 = FIX_STD_M**2
    return make(
        "sensor_msgs/msg/NavSatFix",
        header=header(stamp_ns, "gps"),
        status=make("sensor_msgs/msg/NavSatStatus", status=NO_FIX_AUGMENTATION, service=GPS),
        latitude=lat_deg,
        longitude=lon_deg,
        altitude=0.0,
        position_covariance=np.diag([variance_m2, variance_m2, 4.0 * variance_m2]).ravel(),
        position_covariance_type=KNOWN_DIAGONAL,
    )


def imu(stamp_ns, yaw_rate_rad_s):
    unknown = np.zeros(9)
    unknown[0] = NO_ORIENTATION
    return make(
        "sensor_msgs/msg/Imu",
        header=header(stamp_ns, "imu"),
        orientation=quaternion(),
        orientation_covariance=unknown,
        angular_velocity=vector(z=yaw_rate_rad_s),
        angular_velocity_covariance=np.diag([1e-4] * 3).ravel(),
        linear_acceleration=vector(z=9.81),
        linear_acceleration_covariance=np.diag([1e-2] * 3).ravel(),
    )


def mounts(stamp_ns):
    """Where LiDAR, antenna and IMU sit on the vehicle."""
    places = {"lidar": (0.0, 0.0, 1.84), "gps": (0.0, 0.0, 1.9), "imu": (0.0, 0.0, 0.5)}
    transforms = [
        make(
            "geometry_msgs/msg/TransformStamped",
            header=header(stamp_ns, "base_link"),
            child_frame_id=frame,
            transform=make("geometry_msgs/msg/Transform", translation=vector(*place), rotation=quaternion()),
        )
        for frame, place in places.items()
    ]
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def messages(frames, rng):
    """(topic, stamp in ns, message) of the whole drive."""
    yield "/tf_static", frames[0].stamp_ns, mounts(frames[0].stamp_ns)
    error_m, before = rng.normal(0.0, FIX_STD_M, 2), frames[0]
    for frame in frames:
        truth, stamp_ns = frame.truth, frame.stamp_ns
        step_s = (stamp_ns - before.stamp_ns) * 1e-9
        kept = math.exp(-step_s / FIX_MEMORY_S)
        error_m = kept * error_m + math.sqrt(1.0 - kept**2) * rng.normal(0.0, FIX_STD_M, 2)
        east_deg = error_m[0] / (METRES_A_DEGREE * math.cos(math.radians(truth.lat_deg)))
        yield (
            "/gps/fix",
            stamp_ns,
            fix(stamp_ns, truth.lat_deg + error_m[1] / METRES_A_DEGREE, truth.lon_deg + east_deg),
        )
        turn_rad = math.remainder(truth.yaw_rad - before.truth.yaw_rad, math.tau)
        yield "/imu/data", stamp_ns, imu(stamp_ns, turn_rad / step_s if step_s else 0.0)
        yield "/lidar/points", stamp_ns, cloud(stamp_ns, frame.scan)
        before = frame


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drive", type=Path)
    parser.add_argument("bag", type=Path, help="folder to create")
    parser.add_argument("--seed", type=int, default=0, help="of the errors of the receiver")
    arguments = parser.parse_args()
    frames = list(bevfusion.open_drive(arguments.drive))
    with Writer(arguments.bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, stamp_ns, message in messages(frames, np.random.default_rng(arguments.seed)):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connections[topic], stamp_ns, STORE.serialize_cdr(message, message.__msgtype__))
    rows = [
        f"{frame.stamp_ns},{frame.truth.lat_deg:.8f},{frame.truth.lon_deg:.8f},{math.degrees(frame.truth.yaw_rad):.4f}\n"
        for frame in frames
    ]
    arguments.bag.with_name(f"{arguments.bag.name}_truth.csv").write_text("stamp_ns,lat,lon,yaw_deg\n" + "".join(rows))


if __name__ == "__main__":
    main()
