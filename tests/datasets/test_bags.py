"""Bags of every kind give the drive that was written; broken ones a part of it and a warning, or one line."""

import math
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader

from bevfusion.datasets.bag import Bag
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from tests.datasets.bag_writing import (
    FIX,
    IMU,
    KINDS,
    LIDAR,
    ODOMETRY,
    STATIC,
    SmallDrive,
    drive_messages,
    single_file,
    write_ros1,
    write_ros2,
)
from tests.datasets.bag_writing import Messages as BagMessages

SMALL = SmallDrive()
LEVER_M = (-0.5, 0.3)
MOUNTS = (
    ("base_link", "lidar", (1.0, 0.0, 1.5), 0.0),
    ("base_link", "gps", (1.0 + LEVER_M[0], LEVER_M[1], 1.0), 0.0),
    ("base_link", "imu", (0.0, 0.0, 0.0), 0.0),
)


def small_drive(messages):
    return drive_messages(SMALL, messages, mounts=MOUNTS, lever_m=LEVER_M)


def without(*topics):
    return lambda messages: [item for item in small_drive(messages) if item[0] not in topics]


def told(drive, *kinds):
    """What a drive says of itself, one note a line."""
    return "\n".join(note.line() for note in (drive.summary.of_kind(*kinds) if kinds else drive.summary.notes))


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A path for each kind of bag, all of the same drive."""
    folder = tmp_path_factory.mktemp("bags")
    return {kind: write(folder, small_drive) for kind, write in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_drive(bags, kind):
    drive = open_drive(bags[kind])
    assert (len(drive), drive.odometry) == (SMALL.frames, "log")
    frame_m = LocalFrame(*SMALL.origin_deg)
    for number, frame in enumerate(drive):
        assert frame.stamp_ns == SMALL.stamp_ns(number)
        np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])
        np.testing.assert_array_equal(frame.scan.intensity, SMALL.xyzi[number][:, 3])
        assert frame.truth is not None
        assert frame.gnss is not None
        pose = frame_m.map_from_ego(frame.truth)
        expected = frame_m.metres_from_degrees(*SMALL.place_deg(number))
        assert (pose.x_m, pose.y_m) == pytest.approx(expected, abs=5e-3)
        assert pose.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)
        # base_link moves straight ahead, the LiDAR a metre before it
        assert frame.odom_from_ego is not None
        assert (frame.odom_from_ego.x_m, frame.odom_from_ego.y_m) == pytest.approx((number + 1.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_index_and_bytes_are_those_of_the_formats_own_reader(bags, kind):
    bag = Bag(bags[kind])
    with AnyReader([bags[kind]]) as reader:
        theirs = {}
        for connection, stamp_ns, raw in reader.messages():
            theirs.setdefault(connection.topic, []).append((stamp_ns, bytes(raw)))
    assert theirs.keys() == bag.topics.keys()
    for name, topic in bag.topics.items():
        raw = [bag._files[file].read(position, offset) for file, _, position, offset in topic.places.tolist()]
        assert list(zip(topic.stamps_ns.tolist(), raw, strict=True)) == theirs[name]


def test_a_drive_survives_pickling(bags):
    drive = pickle.loads(pickle.dumps(open_drive(bags["ros1 lz4"])))
    np.testing.assert_array_equal(drive[4].scan.xyz, SMALL.xyzi[4][:, :3])
    with pytest.raises(IndexError):
        drive[5]


def test_a_recording_without_its_metadata_is_read(bags):
    file = single_file(bags["ros2 sqlite3"])
    np.testing.assert_array_equal(open_drive(file)[2].scan.xyz, SMALL.xyzi[2][:, :3])


def test_split_bags_are_joined_in_order(tmp_path):
    messages = small_drive(BagMessages(ros1=True))
    for number, part in enumerate((messages[:9], messages[9:])):
        write_ros1(tmp_path / f"part_{number}.bag", part)
    assert [frame.stamp_ns for frame in open_drive(tmp_path)] == [SMALL.stamp_ns(n) for n in range(5)]


def test_scans_are_turned_into_the_axes_of_the_vehicle(tmp_path):
    mounts = (("base_link", "roof", (0, 0, 1.0), 0.0), ("roof", "lidar", (1.0, 0, 0.5), math.pi / 2))
    made = drive_messages(SMALL, BagMessages(ros1=True), mounts=mounts)
    frame = open_drive(write_ros1(tmp_path / "a.bag", made))[0]
    x, y, z = SMALL.xyzi[0][:, :3].T
    np.testing.assert_allclose(frame.scan.xyz, np.stack([-y, x, z], axis=1), atol=1e-5)
    assert frame.odom_from_ego is not None
    assert frame.odom_from_ego.yaw_rad == pytest.approx(0.0, abs=1e-9)


def test_gnss_alone_is_no_truth(tmp_path):
    drive = open_drive(write_ros1(tmp_path / "a.bag", without(IMU)(BagMessages(ros1=True))))
    assert drive[2].truth is None
    assert drive[2].gnss is not None
    assert "truth: none: no Imu messages" in told(drive, "lost")
    # it moves, so it faces where it moves to; and the lever arm is turned with it
    assert drive[2].gnss.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-2)


def test_a_fix_without_correction_is_no_truth(tmp_path):
    messages = BagMessages(ros1=True)
    made = small_drive(messages)
    for _, _, message in made:
        if message.__msgtype__.endswith("NavSatFix"):
            message.status.status = 0
    drive = open_drive(write_ros1(tmp_path / "a.bag", made))
    assert drive[2].truth is None
    assert drive[2].gnss is not None


def test_the_covariance_of_a_fix_comes_with_it(tmp_path):
    made = small_drive(BagMessages(ros1=True))
    fixes = [message for _, _, message in made if message.__msgtype__.endswith("NavSatFix")]
    for message, (kind, east_m2, north_m2) in zip(
        fixes, [(2, 9.0, 16.0), (1, 4.0, 1.0), (0, 9.0, 9.0), (2, 0.0, 0.0), (2, np.nan, np.nan)], strict=True
    ):
        message.status.status = 0
        message.position_covariance_type = kind
        message.position_covariance = np.array([east_m2, 0, 0, 0, north_m2, 0, 0, 0, 99.0])
    drive = open_drive(write_ros1(tmp_path / "a.bag", made))
    said = [frame.gnss_std_m for frame in drive]
    assert said[:2] == [pytest.approx(4.0), pytest.approx(2.0)]
    assert said[2:] == [None, None, None]


def test_a_relative_orientation_is_no_heading(tmp_path):
    messages = BagMessages(ros1=True)
    made = [
        (topic, stamp, messages.imu(stamp, 0.0) if topic == IMU else message)
        for topic, stamp, message in small_drive(messages)
    ]
    drive = open_drive(write_ros1(tmp_path / "a.bag", made))
    assert drive[2].truth is None
    assert "truth: none: the orientation of /imu/data is 60 degrees off the motion" in told(drive)


def test_a_missing_transform_is_warned_of(tmp_path):
    drive = open_drive(write_ros1(tmp_path / "a.bag", without(STATIC)(BagMessages(ros1=True))))
    assert "no static transform from 'gps' to 'lidar'" in told(drive, "warning")


def test_several_lidars_are_refused_with_a_list(tmp_path):
    made = small_drive(BagMessages(ros1=True))
    made += [("/rear/points", stamp, message) for topic, stamp, message in made if topic == LIDAR][:3]
    path = write_ros1(tmp_path / "a.bag", made)
    with pytest.raises(DataError, match=r"several LiDARs.*/lidar/points \(PointCloud2, 5\), /rear/points"):
        open_drive(path)
    assert len(open_drive(path, LogOptions(topics=(("lidar", "/rear/points"),)))) == 3
    with pytest.raises(DataError, match="no lidar topic /front"):
        open_drive(path, LogOptions(topics=(("lidar", "/front"),)))
    with pytest.raises(DataError, match="got radar"):
        open_drive(path, LogOptions(topics=(("radar", "/front"),)))


def test_scans_alone_are_a_drive(tmp_path):
    only = without(FIX, IMU, ODOMETRY, STATIC)
    drive = open_drive(write_ros2(tmp_path / "a", only(BagMessages(ros1=False))))
    assert (drive.odometry, drive[0].truth, drive[0].gnss, drive[0].odom_from_ego) == ("none", None, None, None)


def test_a_bag_without_scans_names_its_topics(tmp_path):
    path = write_ros1(tmp_path / "a.bag", without(LIDAR)(BagMessages(ros1=True)))
    with pytest.raises(DataError, match=r"no PointCloud2.*/gps/fix"):
        open_drive(path)


def test_lying_sizes_are_one_line(tmp_path):
    made = small_drive(BagMessages(ros1=True))
    for _, _, message in made:
        if message.__msgtype__.endswith("PointCloud2"):
            message.width = 4_000_000
    drive = open_drive(write_ros1(tmp_path / "a.bag", made))
    with pytest.raises(DataError, match=r"scan 0 of /lidar/points: PointCloud2 declares 4000000 x 1 .* holds 3200"):
        drive[0]


@pytest.mark.parametrize("kind", ["ros1", "ros1 lz4", "mcap", "mcap zstd"])
def test_a_bag_cut_off_is_read_up_to_the_break(bags, kind, tmp_path):
    whole = bags[kind].read_bytes()
    counts = []
    for share in (0.5, 0.75, 0.9):
        cut = tmp_path / f"cut_{share}{bags[kind].suffix}"
        cut.write_bytes(whole[: int(share * len(whole))])
        try:
            drive = open_drive(cut)
            frames = list(drive)
        except DataError as error:  # where everything lies in one chunk, and nothing readable before the cut
            assert kind == "mcap zstd"
            check_one_line(error)
            continue
        counts.append(len(frames))
        assert "read in part" in told(drive, "lost")
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])
    assert counts == sorted(counts)
    assert kind == "mcap zstd" or 1 <= counts[0] <= 4


def test_a_database_cut_off_is_read_up_to_the_break(tmp_path):
    big = SmallDrive(frames=20, points=2000)
    file = single_file(write_ros2(tmp_path / "a", drive_messages(big, BagMessages(ros1=False))))
    cut = tmp_path / "cut.db3"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    drive = open_drive(cut)
    assert "read in part" in told(drive, "lost")
    assert 5 <= len(drive) <= 12
    for number, frame in enumerate(drive):
        np.testing.assert_array_equal(frame.scan.xyz, big.xyzi[number][:, :3])


def check_one_line(error):
    assert "\n" not in str(error)


def _read_all(path: Path) -> None:
    """Everything a drive can say, or one line of what is wrong."""
    try:
        drive = open_drive(path)
    except DataError as error:
        check_one_line(error)
        return
    for position in range(len(drive)):
        try:
            frame = drive[position]
        except DataError as error:
            check_one_line(error)
        else:
            assert np.isfinite(frame.scan.xyz).all()
            assert np.abs(frame.scan.xyz).max() <= 1e4 * 1.8


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["ros1", "ros1 bz2", "ros1 lz4", "ros2 sqlite3", "mcap", "mcap zstd"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bags_never_leave_a_traceback(bags, kind, tmp_path, data):
    source = bags[kind] if bags[kind].is_file() else single_file(bags[kind])
    raw = bytearray(source.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        del raw[data.draw(st.integers(0, len(raw)), label="at") :]
    for _ in range(data.draw(st.integers(0, 12), label="flips")):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"broken{source.suffix}"
    path.write_bytes(raw)
    _read_all(path)


def test_memory_does_not_grow_with_the_bag(tmp_path):
    drive = SmallDrive(frames=60, points=20_000)
    path = write_ros1(tmp_path / "a.bag", drive_messages(drive, BagMessages(ros1=True)), chunk_bytes=400_000)
    del drive
    assert path.stat().st_size > 19_000_000
    tracemalloc.start()
    try:
        for _ in open_drive(path):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000


def test_real_bags_without_scans(shared_data):
    for name in ("example-lz4.bag", "example-bz2.bag"):
        path = shared_data / "formats/rosbag1" / name
        with pytest.raises(DataError, match="no PointCloud2"):
            open_drive(path)
        bag = Bag(path)
        assert {topic.name: len(topic) for topic in bag.of_type("tf/msg/tfMessage")} == {"/tf": 2688}
        assert sum(1 for _ in bag.messages(bag.of_type("tf/msg/tfMessage"))) == 2688


@pytest.mark.parametrize(
    ("relative", "message"),
    [
        ("rosbag1/empty-file.bag", "an empty file"),
        ("rosbag1/no-messages.bag", "no messages"),
        ("rosbag1/asci-file.txt", "read are"),
        ("mcap_bad/uncompressed.mcap", "Git LFS"),
    ],
)
def test_real_broken_bags(shared_data, relative, message, tmp_path):
    with pytest.raises(DataError, match=message) as raised:
        open_drive(shared_data / "formats" / relative)
    assert "\n" not in str(raised.value)


def test_a_text_named_as_a_bag(shared_data, tmp_path):
    for suffix in (".bag", ".mcap", ".db3"):
        path = tmp_path / f"text{suffix}"
        path.write_bytes((shared_data / "formats/rosbag1/asci-file.txt").read_bytes())
        with pytest.raises(DataError, match="not a"):
            open_drive(path)
