"""Scans that come as other messages than PointCloud2: Livox, Foxglove's protobuf, packets of a Velodyne."""

import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bevfusion.datasets.open import open_drive
from bevfusion.datasets.ros_messages import driver_of
from bevfusion.structures import DataError
from tests.datasets.bag_writing import ODOMETRY, Messages, SmallDrive, write_ros1

DRIVE = SmallDrive(frames=8)
POINT = "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line"


def livox(store, package, stamp_ns, xyzi, ros1):
    custom = f"{package}/msg/CustomMsg"
    if custom not in store.types:
        text = "std_msgs/Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd"
        text += f"\n{package}/CustomPoint[] points"
        store.register(get_types_from_msg(POINT, f"{package}/msg/CustomPoint"))
        store.register(get_types_from_msg(text, custom))
    types = store.types
    point = types[f"{package}/msg/CustomPoint"]
    points = [
        point(offset_time=1000 * at, x=float(x), y=float(y), z=float(z), reflectivity=int(255 * i), tag=0, line=at % 4)
        for at, (x, y, z, i) in enumerate(xyzi)
    ]
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="livox_frame", **({"seq": 1} if ros1 else {}))
    rsvd = np.zeros(3, np.uint8)
    return types[custom](header=header, timebase=stamp_ns, point_num=len(points), lidar_id=0, rsvd=rsvd, points=points)


@pytest.mark.parametrize(("package", "ros1"), [("livox_ros_driver", True), ("livox_ros_driver2", False)])
def test_livox(tmp_path, package, ros1):
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    path = tmp_path / ("a.bag" if ros1 else "a")
    writer = Writer1(path) if ros1 else Writer2(path, version=9, storage_plugin=StoragePlugin.MCAP)
    with writer:
        connection = None
        for number in range(DRIVE.frames):
            stamp_ns = DRIVE.stamp_ns(number)
            message = livox(store, package, stamp_ns, DRIVE.xyzi[number], ros1)
            kind = message.__msgtype__
            connection = connection or writer.add_connection("/livox/lidar", kind, typestore=store)
            raw = store.serialize_ros1(message, kind) if ros1 else store.serialize_cdr(message, kind)
            writer.write(connection, stamp_ns, raw)
    drive = open_drive(path)
    assert len(drive) == DRIVE.frames
    np.testing.assert_array_equal(drive[5].scan.xyz, DRIVE.xyzi[5][:, :3])
    _, cloud = drive.cloud(5)
    assert cloud.intensity.tolist() == (255 * DRIVE.xyzi[5][:, 3].astype(float)).astype(int).tolist()
    np.testing.assert_allclose(cloud.time_s, 1e-6 * np.arange(200), atol=1e-12)
    assert cloud.ring.tolist() == [at % 4 for at in range(200)]


# Foxglove


def foxglove_classes():
    """Classes of a few messages with the field numbers that Foxglove publishes, and their descriptors."""
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(file, name, *fields, enum=None):
        made = file.message_type.add(name=name)
        if enum:
            kind = made.enum_type.add(name=enum[0])
            for at, value in enumerate(enum[1]):
                kind.value.add(name=value, number=at)
        for number, (field, kind) in enumerate(fields, start=1):
            repeated = kind.startswith("*")
            kind = kind.lstrip("*")
            added = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind.startswith("."):
                added.type, added.type_name = (kinds.TYPE_ENUM if "Type" in kind else kinds.TYPE_MESSAGE), kind
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")

    stamp = descriptor_pb2.FileDescriptorProto(
        name="google/protobuf/timestamp.proto", package="google.protobuf", syntax="proto3"
    )
    message(stamp, "Timestamp", ("seconds", "int64"), ("nanos", "int32"))
    file = descriptor_pb2.FileDescriptorProto(name="foxglove.proto", package="foxglove", syntax="proto3")
    file.dependency.append(stamp.name)
    message(file, "Vector3", ("x", "double"), ("y", "double"), ("z", "double"))
    message(file, "Quaternion", ("x", "double"), ("y", "double"), ("z", "double"), ("w", "double"))
    message(file, "Pose", ("position", ".foxglove.Vector3"), ("orientation", ".foxglove.Quaternion"))
    numeric = ("NumericType", ["UNKNOWN", "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "FLOAT32", "FLOAT64"])
    message(
        file,
        "PackedElementField",
        ("name", "string"),
        ("offset", "fixed32"),
        ("type", ".foxglove.PackedElementField.NumericType"),
        enum=numeric,
    )
    when = ("timestamp", ".google.protobuf.Timestamp")
    message(
        file,
        "PointCloud",
        when,
        ("frame_id", "string"),
        ("pose", ".foxglove.Pose"),
        ("point_stride", "fixed32"),
        ("fields", "*.foxglove.PackedElementField"),
        ("data", "bytes"),
    )
    covariance = ("PositionCovarianceType", ["UNKNOWN_", "APPROXIMATED", "DIAGONAL_KNOWN", "KNOWN"])
    message(
        file,
        "LocationFix",
        ("latitude", "double"),
        ("longitude", "double"),
        ("altitude", "double"),
        ("position_covariance", "*double"),
        ("position_covariance_type", ".foxglove.LocationFix.PositionCovarianceType"),
        when,
        ("frame_id", "string"),
        enum=covariance,
    )
    message(file, "PoseInFrame", when, ("frame_id", "string"), ("pose", ".foxglove.Pose"))
    files = descriptor_pb2.FileDescriptorSet(file=[file, stamp])  # not in the order of their imports
    pool = descriptor_pool.DescriptorPool()
    for each in (stamp, file):
        pool.AddSerializedFile(each.SerializeToString())
    names = ("PointCloud", "LocationFix", "PoseInFrame")
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}")) for name in names
    }, files


def write_foxglove(path):
    classes, files = foxglove_classes()
    with path.open("wb") as file:
        writer = McapWriter(file)
        writer.start()
        channels = {}
        for name in classes:
            schema = writer.register_schema(f"foxglove.{name}", "protobuf", files.SerializeToString())
            channels[name] = writer.register_channel(f"/{name}", "protobuf", schema)
        odd = writer.register_channel("/json", "json", writer.register_schema("odd", "jsonschema", b"{}"))
        writer.add_message(odd, DRIVE.stamp_ns(0), b"{}", DRIVE.stamp_ns(0))
        for number in range(DRIVE.frames):
            stamp_ns = DRIVE.stamp_ns(number)
            stamp = {"seconds": stamp_ns // 10**9, "nanos": stamp_ns % 10**9}
            lat, lon = DRIVE.place_deg(number)
            fields = [
                {"name": field, "offset": 4 * at, "type": 7} for at, field in enumerate(("x", "y", "z", "intensity"))
            ]
            upright = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
            lifted = {"position": {"x": 0.0, "y": 0.0, "z": 1.0}, "orientation": upright}
            ahead = {"position": {"x": float(number), "y": 0.0, "z": 0.0}, "orientation": upright}
            made = {
                "PointCloud": {
                    "frame_id": "lidar",
                    "pose": lifted,
                    "point_stride": 16,
                    "fields": fields,
                    "data": DRIVE.xyzi[number].tobytes(),
                },
                "LocationFix": {
                    "frame_id": "lidar",
                    "latitude": lat,
                    "longitude": lon,
                    "position_covariance": [4.0, 0, 0, 0, 4.0, 0, 0, 0, 9.0],
                    "position_covariance_type": 2,
                },
                "PoseInFrame": {"frame_id": "odom", "pose": ahead},
            }
            for name, values in made.items():
                raw = classes[name](timestamp=stamp, **values).SerializeToString()
                writer.add_message(channels[name], stamp_ns, raw, stamp_ns)
        writer.finish()
    return path


def test_protobuf_is_read_by_its_schema(tmp_path):
    drive = open_drive(write_foxglove(tmp_path / "a.mcap"))
    assert (len(drive), drive.odometry) == (DRIVE.frames, "log")
    for number, frame in enumerate(drive):
        assert frame.stamp_ns == DRIVE.stamp_ns(number)
        np.testing.assert_allclose(frame.scan.xyz, DRIVE.xyzi[number][:, :3] + np.float32([0, 0, 1]), atol=1e-5)
        np.testing.assert_array_equal(frame.scan.intensity, DRIVE.xyzi[number][:, 3])
        assert frame.odom_from_ego.x_m == pytest.approx(number)
        assert (frame.gnss.lat_deg, frame.gnss.lon_deg) == pytest.approx(DRIVE.place_deg(number), abs=1e-7)
    told = [note.line() for note in drive.summary.notes]
    assert "/json: odd serialized as json, which is not read" in told


def test_protobuf_with_a_broken_schema_is_one_line(tmp_path):
    path = write_foxglove(tmp_path / "a.mcap")
    path.write_bytes(path.read_bytes().replace(b"foxglove.Vector3", b"foxglove.Vector9"))
    with pytest.raises(DataError) as raised:
        list(open_drive(path))
    assert "\n" not in str(raised.value)


# packets


def velodyne_packet(azimuth, stamp_us, range_m):
    blocks = b""
    for block in range(12):
        blocks += struct.pack("<HH", 0xEEFF, (azimuth + 40 * block) % 36000)
        blocks += struct.pack("<HB", round(range_m / 0.002), 80) * 32
    return blocks + struct.pack("<I", stamp_us) + bytes([0x37, 0x22])  # strongest return, VLP-16


def test_packets_of_a_velodyne(tmp_path):
    pytest.importorskip("velodyne_decoder")
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("time stamp\nuint8[1206] data", "velodyne_msgs/msg/VelodynePacket"))
    text = "std_msgs/Header header\nvelodyne_msgs/VelodynePacket[] packets"
    store.register(get_types_from_msg(text, "velodyne_msgs/msg/VelodyneScan"))
    types = store.types
    with Writer1(tmp_path / "a.bag") as writer:
        connection = writer.add_connection("/velodyne_packets", "velodyne_msgs/msg/VelodyneScan", typestore=store)
        for number in range(3):
            begin_ns = DRIVE.stamp_ns(number)
            packets = []
            for at in range(75):
                moment_ns = begin_ns + at * 1_327_000
                data = np.frombuffer(velodyne_packet(480 * at, at * 1327, 10.0 + number), np.uint8)
                stamp = types["builtin_interfaces/msg/Time"](sec=moment_ns // 10**9, nanosec=moment_ns % 10**9)
                packets.append(types["velodyne_msgs/msg/VelodynePacket"](stamp=stamp, data=data))
            header = types["std_msgs/msg/Header"](seq=0, stamp=packets[-1].stamp, frame_id="velodyne")
            scan = types["velodyne_msgs/msg/VelodyneScan"](header=header, packets=packets)
            writer.write(connection, begin_ns, store.serialize_ros1(scan, "velodyne_msgs/msg/VelodyneScan"))
    drive = open_drive(tmp_path / "a.bag")
    assert len(drive) == 3
    for number in range(3):
        _, cloud = drive.cloud(number)
        assert len(cloud) == 75 * 12 * 32
        np.testing.assert_allclose(np.linalg.norm(cloud.xyz, axis=1), 10.0 + number, atol=0.1)
        assert set(cloud.ring.tolist()) == set(range(16))
        assert (cloud.time_s.min(), cloud.time_s.max()) == pytest.approx((-0.0982, 0.0013), abs=1e-3)


def test_packets_that_are_not_read_name_their_driver(tmp_path):
    assert driver_of("ouster_ros/msg/PacketMsg").startswith("ouster-ros")
    assert driver_of("hesai_ros_driver/msg/UdpFrame") is None
    assert driver_of("sensor_msgs/msg/LaserScan") is None
    store = Messages(ros1=True).store
    store.register(get_types_from_msg("uint8[] buf", "ouster_ros/msg/PacketMsg"))
    with Writer1(tmp_path / "a.bag") as writer:
        connection = writer.add_connection("/ouster/lidar_packets", "ouster_ros/msg/PacketMsg", typestore=store)
        message = store.types["ouster_ros/msg/PacketMsg"](buf=np.zeros(100, np.uint8))
        writer.write(connection, 1, store.serialize_ros1(message, "ouster_ros/msg/PacketMsg"))
    with pytest.raises(DataError, match=r"raw packets first: ouster_ros/msg/PacketMsg by ouster-ros"):
        open_drive(tmp_path / "a.bag")


# times of points


def timed_bag(folder, times, dtype="<f4", spoil=None):
    """Pieces of a wall ahead, seen while driving towards it at 20 m/s; the times a point as they are given."""
    made = Messages(ros1=True)
    written = []
    for number, time in enumerate(times):
        stamp_ns = DRIVE.stamp_ns(0) + time["stamp_ns"]
        seconds = time["seconds"]
        wall = np.column_stack([np.full(len(seconds), 30.0), np.linspace(-5, 5, len(seconds)), np.zeros(len(seconds))])
        seen = wall - np.column_stack([20.0 * (time["stamp_ns"] / 1e9 + seconds), 0 * seconds, 0 * seconds])
        record = np.zeros(len(seconds), [("xyz", "<f4", 3), ("time", dtype)])
        record["xyz"], record["time"] = seen, time["values"]
        if spoil is not None:
            spoil(record)
        message = made.cloud(stamp_ns, np.zeros((1, 4), np.float32))
        message.fields[3].name, message.fields[3].datatype = "time", {"<f4": 7, "<u4": 6}[dtype]
        message.data, message.width = np.frombuffer(record.tobytes(), np.uint8), len(seconds)
        message.row_step = 16 * len(seconds)
        written.append(("/points", stamp_ns, message))
        odom = made.odometry(stamp_ns, 20.0 * time["stamp_ns"] / 1e9, 0.0, 0.0, "lidar")
        written.append((ODOMETRY, stamp_ns, odom))
        number += 1
    return open_drive(write_ros1(folder / "a.bag", written))


def turns(count=1000):
    seconds = np.linspace(0.0, 0.0999, count)
    return [{"stamp_ns": 10**8 * number, "seconds": seconds, "values": seconds} for number in range(5)]


def check_wall(drive, ignore=0):
    for number in (1, 2, 3):
        x_m = np.sort(drive[number].scan.xyz[:, 0])
        assert np.ptp(x_m[ignore : len(x_m) - ignore]) < 0.02


def test_one_impossible_time_does_not_end_deskewing(tmp_path):
    def spoil(record):
        record["time"][7] = 1e9

    check_wall(timed_bag(tmp_path, turns(), spoil=spoil), ignore=1)


def test_times_of_points_that_did_not_return_do_not_count(tmp_path):
    def spoil(record):
        record["xyz"][::3], record["time"][::3] = np.nan, 4e8

    drive = timed_bag(tmp_path, turns(), spoil=spoil)
    check_wall(drive)
    assert len(drive[1].scan) == 666


def test_pieces_of_a_turn_in_nanoseconds(tmp_path):
    """Half a millisecond in ns looks like half a second in us; the time from piece to piece tells."""
    seconds = np.linspace(0.0, 0.00055, 300)
    pieces = [
        {"stamp_ns": 552_000 * number, "seconds": seconds, "values": np.round(seconds * 1e9)} for number in range(40)
    ]
    drive = timed_bag(tmp_path, pieces, dtype="<u4")
    _, cloud = drive.cloud(10)
    np.testing.assert_allclose(cloud.time_s, seconds, atol=1e-8)
