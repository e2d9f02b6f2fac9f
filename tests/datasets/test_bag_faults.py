"""Bags as people have them: clocks apart, mounts by other names, fixes of every grade, files twice. All by value."""

import math
import shutil
import sqlite3
from copy import deepcopy

import numpy as np
import pytest

from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from tests.datasets.bag_writing import (
    FIX,
    IMU,
    LIDAR,
    ODOMETRY,
    Messages,
    SmallDrive,
    drive_messages,
    single_file,
    write_ros1,
    write_ros2,
)

DRIVE = SmallDrive(frames=40)
FRAME = LocalFrame(*DRIVE.origin_deg)
MOUNTS = (
    ("base_link", "lidar", (0.0, 0.0, 1.5), 0.0),
    ("base_link", "gps", (0.0, 0.0, 1.0), 0.0),
    ("base_link", "imu", (0.0, 0.0, 0.0), 0.0),
)
S = 10**9


def messages(mounts=MOUNTS):
    return drive_messages(DRIVE, Messages(ros1=True), mounts=mounts)


def opened(folder, written, **options):
    return open_drive(write_ros1(folder / "a.bag", written), LogOptions(**options))


def restamped(written, topic, shift):
    """The headers of a topic shifted by a function of the message's stamp."""
    written = deepcopy(written)
    for name, stamp_ns, message in written:
        if name == topic:
            moved_ns = shift(stamp_ns)
            message.header.stamp.sec, message.header.stamp.nanosec = moved_ns // S, moved_ns % S
    return written


def told(drive, *kinds):
    return "\n".join(note.line() for note in (drive.summary.of_kind(*kinds) if kinds else drive.summary.notes))


def off_m(drive, position, number=None):
    """How far the truth of a frame is from that of the turn that was recorded there."""
    truth = drive[position].truth
    assert truth is not None
    pose, expected = FRAME.map_from_ego(truth), FRAME.metres_from_degrees(*DRIVE.place_deg(number or position))
    return math.hypot(pose.x_m - expected[0], pose.y_m - expected[1])


def test_a_sound_bag_has_no_warning(tmp_path):
    drive = opened(tmp_path, messages())
    assert off_m(drive, 20) < 0.01
    assert told(drive, "warning") in (
        "",
        "scans: 200 points a scan (median of 12): pieces of a turn, or not a LiDAR of a vehicle?",
    )
    assert "clock: that of the headers of /lidar/points" in told(drive, "used")
    assert "frames: LiDAR 'lidar' on vehicle 'base_link' (by its name)" in told(drive, "used")
    assert "truth: 40 of 40 frames" in told(drive)
    assert "intensity: 0 to 1, taken as it is" in told(drive)


# clocks


@pytest.mark.parametrize(
    ("ahead_s", "reason"),
    [
        (37.0, "TAI against UTC"),
        (18.0, "GPS time against UTC"),
        (-37.0, "TAI against UTC"),
        (1020.0, "another clock"),
        (-5000.0, "another clock"),
        (3.0e8, "another clock"),
        (-28_800.0, "a time zone of -8 h"),
    ],
)
def test_a_lidar_on_another_clock_is_put_right(tmp_path, ahead_s, reason):
    drive = opened(tmp_path, restamped(messages(), LIDAR, lambda stamp: stamp + round(ahead_s * S)))
    assert drive[20].stamp_ns == pytest.approx(DRIVE.stamp_ns(20), abs=0.05 * S)
    assert off_m(drive, 20) < 0.02
    assert drive[20].odom_from_ego.x_m == pytest.approx(20.0, abs=0.02)
    assert f"{reason}): put right by {-ahead_s:+.3f} s" in told(drive, "assumed")


@pytest.mark.parametrize("topic", [FIX, IMU, ODOMETRY])
def test_another_topic_on_another_clock_is_put_right(tmp_path, topic):
    drive = opened(tmp_path, restamped(messages(), topic, lambda stamp: stamp + 18 * S))
    assert drive[20].stamp_ns == DRIVE.stamp_ns(20)
    assert off_m(drive, 20) < 0.02
    assert f"{topic}: 18 s ahead of" in told(drive, "assumed")


def test_a_bag_recorded_anew_from_a_player_keeps_its_headers(tmp_path):
    """Recorded a year later, at half speed, with a break."""
    played = [
        (
            topic,
            10**18 + 10**17 + 2 * (stamp - DRIVE.stamp_ns(0)) + (60 * S if stamp > DRIVE.stamp_ns(15) else 0),
            message,
        )
        for topic, stamp, message in messages()
    ]
    drive = opened(tmp_path, played)
    assert [frame.stamp_ns for frame in drive] == [DRIVE.stamp_ns(number) for number in range(40)]
    assert off_m(drive, 30) < 0.01
    assert told(drive, "lost") == ""


def test_a_player_that_began_anew_gives_no_scan_twice(tmp_path):
    again = [(topic, stamp + 60 * S, message) for topic, stamp, message in messages()]
    drive = opened(tmp_path, messages() + again)
    assert len(drive) == 40
    assert "40 of 80 scans come twice" in told(drive, "warning")


def test_a_clock_that_was_set_on_the_way(tmp_path):
    """The first tenth is of 1970, one message in the middle of 2030."""

    def shift(stamp):
        number = (stamp - DRIVE.stamp_ns(0)) // 10**8
        return stamp - 1_699_000_000 * S if number < 4 else stamp + 10**8 * S if number == 25 else stamp

    drive = opened(tmp_path, restamped(messages(), LIDAR, shift))
    for number in (0, 3, 4, 25, 39):
        assert drive[number].stamp_ns == pytest.approx(DRIVE.stamp_ns(number), abs=0.05 * S)
        assert off_m(drive, number) < 0.02
    assert "the clock of 5 of 40 headers is off by up to 1.699e+09 s" in told(drive, "warning")


@pytest.mark.parametrize("topics", [(LIDAR,), (LIDAR, FIX, IMU, ODOMETRY)])
def test_headers_that_were_never_set(tmp_path, topics):
    written = messages()
    for topic in topics:
        written = restamped(written, topic, lambda stamp: 0)
    drive = opened(tmp_path, written)
    assert drive[20].stamp_ns == pytest.approx(DRIVE.stamp_ns(20), abs=0.05 * S)
    assert off_m(drive, 20) < 0.02


def test_a_clock_that_drifts(tmp_path):
    drift = lambda stamp: stamp + 100 * S + (stamp - DRIVE.stamp_ns(0)) // 8  # noqa: E731
    drive = opened(tmp_path, restamped(messages(), LIDAR, drift))
    assert off_m(drive, 35) < 0.3
    assert "drifts by" in told(drive, "assumed")


def test_scans_recorded_out_of_order_come_in_order(tmp_path):
    written = messages()
    lidar = [item for item in written if item[0] == LIDAR]
    late = (LIDAR, lidar[10][1] + 2 * 10**8 + 1, lidar[10][2])
    drive = opened(tmp_path, sorted([item for item in written if item is not lidar[10]] + [late], key=lambda i: i[1]))
    assert [frame.stamp_ns for frame in drive] == [DRIVE.stamp_ns(number) for number in range(40)]
    assert "stamped earlier than the scan recorded before" in told(drive, "warning")


# mounts

TURNED = (
    ("base_link", "lidar", (1.0, 0.0, 1.5), math.pi / 2),
    ("base_link", "gps", (1.0, 0.0, 1.0), 0.0),
    ("base_link", "imu", (0.0, 0.0, 0.0), 0.0),
)


def turned(vehicle):
    return tuple((vehicle, child, shift, yaw) for _, child, shift, yaw in TURNED)


def check_turned(drive, position=5):
    x, y, z = DRIVE.xyzi[position][:, :3].T
    np.testing.assert_allclose(drive[position].scan.xyz, np.stack([-y, x, z], axis=1), atol=1e-4)
    assert drive[position].truth.yaw_rad == pytest.approx(DRIVE.yaw_rad, abs=1e-6)
    assert off_m(drive, position) < 0.01


def test_transforms_of_a_static_publisher_on_tf(tmp_path):
    made = Messages(ros1=True)
    written = messages(mounts=())
    for number in range(40):
        stamp = DRIVE.stamp_ns(number)
        written.append(("/tf", stamp, made.static(stamp, *TURNED)))
        moving = ("odom", "base_link", (float(number), 0.0, 0.0), 0.0)
        written.append(("/tf", stamp, made.static(stamp, moving)))
    drive = opened(tmp_path, written)
    check_turned(drive)
    assert "/tf: 3 transforms that stand still" in told(drive, "used")
    assert "those that move: odom to base_link" in told(drive, "ignored")


@pytest.mark.parametrize("vehicle", ["robot1/base_link", "chassis", "rear_axle"])
@pytest.mark.parametrize("with_odometry", [True, False])
def test_a_vehicle_of_another_name(tmp_path, vehicle, with_odometry):
    written = [item for item in messages(turned(vehicle)) if with_odometry or item[0] != ODOMETRY]
    for topic, _, message in written:
        if topic == ODOMETRY:
            message.child_frame_id = vehicle
    drive = opened(tmp_path, written)
    check_turned(drive)
    assert f"on vehicle {vehicle!r}" in told(drive, "used")


def test_a_vehicle_below_the_root_by_its_odometry(tmp_path):
    mounts = (("rig", "chassis", (0.0, 0.0, 0.0), -math.pi / 2), *turned("chassis"))
    written = messages(mounts)
    for topic, _, message in written:
        if topic == ODOMETRY:
            message.child_frame_id = "chassis"
    drive = opened(tmp_path, written)
    check_turned(drive)
    assert "vehicle 'chassis' (which odometry follows)" in told(drive)


def test_extrinsics_count_instead_of_transforms(tmp_path):
    half = math.sqrt(0.5)
    written = messages(tuple(item for item in MOUNTS if item[1] != "lidar"))
    drive = opened(tmp_path, written, extrinsics=(0.0, 0.0, 1.5, 0.0, 0.0, half, half))
    x, y, z = DRIVE.xyzi[5][:, :3].T
    np.testing.assert_allclose(drive[5].scan.xyz, np.stack([-y, x, z], axis=1), atol=1e-4)
    assert off_m(drive, 5) < 0.01
    assert "as asked for by extrinsics" in told(drive)


def test_nothing_of_a_mount_is_told(tmp_path):
    drive = opened(tmp_path, messages(mounts=()))
    assert "no transform leads from 'lidar' to a vehicle" in told(drive, "assumed")


# what counts as truth


def graded(status, kind, std_m):
    written = messages()
    for topic, _, message in written:
        if topic == FIX:
            message.status.status, message.position_covariance_type = status, kind
            message.position_covariance = np.diag([std_m**2, std_m**2, 4 * std_m**2]).ravel()
    return written


@pytest.mark.parametrize(
    ("status", "kind", "std_m", "is_truth", "reason"),
    [
        (2, 2, 0.02, True, "RTK"),
        (2, 1, 0.02, True, "RTK"),
        (2, 0, 0.0, True, "without a covariance"),
        (2, 1, 4.0, False, "RTK float"),
        (2, 2, 3.0, False, "WAAS"),
        (1, 1, 0.1, False, "corrected by satellite"),
        (1, 2, 0.1, False, "corrected by satellite"),
        (0, 3, 0.02, True, "plain by status"),
        (0, 1, 0.02, False, "plain fixes"),
        (0, 2, 1.5, False, "plain fixes"),
    ],
)
def test_fixes_of_every_grade(tmp_path, status, kind, std_m, is_truth, reason):
    drive = opened(tmp_path, graded(status, kind, std_m))
    assert (drive[20].truth is not None) == is_truth
    assert drive[20].gnss is not None
    assert reason in told(drive)
    assert ("truth: none" in told(drive, "lost")) != is_truth


def imu_messages(change):
    made = Messages(ros1=True)
    written = []
    for topic, stamp, message in messages():
        yaw_rad = change((stamp - DRIVE.stamp_ns(0)) / S) if topic == IMU else 0.0
        if yaw_rad is not None:
            written.append((topic, stamp, made.imu(stamp, yaw_rad) if topic == IMU else message))
    return written


@pytest.mark.parametrize(
    ("off_deg", "is_truth", "said"),
    [
        (0.5, True, ""),
        (3.0, True, "+3.1 degrees off"),
        (12.0, False, "12.1 degrees off"),
        (90.0, False, "90 degrees off"),
    ],
)
def test_an_imu_off_the_motion(tmp_path, off_deg, is_truth, said):
    drive = opened(tmp_path, imu_messages(lambda _: DRIVE.yaw_rad + math.radians(off_deg)))
    assert (drive[20].truth is not None) == is_truth
    assert said in told(drive, "warning", "lost")
    assert drive[20].gnss is not None


def test_an_imu_that_starts_late_costs_its_own_seconds(tmp_path):
    drive = opened(tmp_path, imu_messages(lambda since_s: DRIVE.yaw_rad if since_s >= 2.0 else None))
    assert [drive[number].truth is not None for number in (0, 10, 18, 20, 39)] == [False, False, False, True, True]
    assert "within a moment of 20 of 40 fixes" in told(drive, "lost")


def test_a_heading_is_not_held_over_a_gap(tmp_path):
    drive = opened(tmp_path, imu_messages(lambda since_s: None if 1.05 < since_s < 2.95 else DRIVE.yaw_rad))
    assert [drive[number].truth is not None for number in (5, 10, 20, 35)] == [True, True, False, True]


def test_an_imu_that_counts_clockwise_from_north(tmp_path):
    """On a way that bends, its angle to the motion is never the same."""
    bent = SmallDrive(frames=40)
    made = Messages(ros1=True)
    x_m, y_m, written = 0.0, 0.0, []
    for number in range(40):
        yaw_rad, stamp = 0.08 * number, bent.stamp_ns(number)
        x_m, y_m = x_m + math.cos(yaw_rad), y_m + math.sin(yaw_rad)
        lat, lon = FRAME.degrees_from_metres(x_m, y_m)
        written += [
            (FIX, stamp, made.fix(stamp, lat, lon, frame="lidar")),
            (IMU, stamp, made.imu(stamp, math.pi / 2 - yaw_rad, frame="lidar")),
            (LIDAR, stamp, made.cloud(stamp, bent.xyzi[number])),
        ]
    drive = opened(tmp_path, written)
    assert drive[20].truth is None
    assert "does not follow the motion" in told(drive, "lost")


def test_an_imu_upside_down_is_told_by_gravity(tmp_path):
    written = messages()
    for topic, _, message in written:
        if topic == IMU:
            message.linear_acceleration.z = -9.8
    assert "gravity: /imu/data measures gravity 180 degrees off" in told(opened(tmp_path, written), "warning")


def test_each_missing_part_of_a_truth_is_named(tmp_path):
    without = lambda *topics: [item for item in messages() if item[0] not in topics]  # noqa: E731
    for topics, reason in (((FIX,), "no NavSatFix"), ((IMU,), "no Imu messages")):
        drive = open_drive(write_ros1(tmp_path / f"{reason}.bag", without(*topics)))
        assert f"truth: none: {reason}" in told(drive, "lost")
    written = messages()
    for topic, _, message in written:
        if topic == IMU:
            message.orientation_covariance[0] = -1.0
    drive = open_drive(write_ros1(tmp_path / "c.bag", written))
    assert "truth: none: /imu/data measures no orientation" in told(drive, "lost")
    written = messages()
    for topic, _, message in written:
        if topic == FIX:
            message.status.status = -1
    drive = open_drive(write_ros1(tmp_path / "d.bag", written))
    assert "truth: none: none of the 40 messages of /gps/fix is a fix" in told(drive, "lost")


# which topics


def test_a_goal_is_no_odometry(tmp_path):
    made = Messages(ros1=True)
    written = [item for item in messages() if item[0] != ODOMETRY]
    pose = made.odometry(0, 5.0, 5.0, 0.0).pose.pose
    for number in range(40):
        stamp = DRIVE.stamp_ns(number)
        goal = made.make("geometry_msgs/msg/PoseStamped", header=made.header(stamp, "map"), pose=pose)
        written.append(("/goal_pose", stamp, goal))
    once = made.make("geometry_msgs/msg/PoseStamped", header=made.header(DRIVE.stamp_ns(3), "map"), pose=pose)
    written.append(("/dock", DRIVE.stamp_ns(3), once))
    drive = opened(tmp_path, written)
    assert (drive.odometry, drive[20].odom_from_ego) == ("none", None)
    assert "/goal_pose: poses that the vehicle was asked for" in told(drive, "ignored")
    assert "/dock: 1 poses over 0 %" in told(drive, "ignored")


def test_a_cloud_of_the_world_is_no_scan(tmp_path):
    made = Messages(ros1=True)
    registered = [
        (
            "/cloud_registered",
            DRIVE.stamp_ns(number),
            made.cloud(DRIVE.stamp_ns(number), DRIVE.xyzi[number] + 500.0, "odom"),
        )
        for number in range(40)
    ]
    drive = opened(tmp_path, messages() + registered)
    np.testing.assert_array_equal(drive[3].scan.xyz, DRIVE.xyzi[3][:, :3])
    assert "/cloud_registered: its clouds lie in the frame 'odom' of a world" in told(drive, "ignored")
    alone = [item for item in messages() if item[0] != LIDAR] + registered
    with pytest.raises(DataError, match=r"no scan about its sensor.*/cloud_registered in 'odom'"):
        open_drive(write_ros1(tmp_path / "b.bag", alone))


def test_a_cloud_far_from_its_sensor_is_told(tmp_path):
    written = messages()
    far = [
        (topic, stamp, Messages(ros1=True).cloud(stamp, DRIVE.xyzi[0] + 300.0))
        if topic == LIDAR
        else (topic, stamp, message)
        for topic, stamp, message in written
    ]
    assert "not about their sensor" in told(opened(tmp_path, far), "warning")


def test_empty_clouds_are_counted_and_left_out(tmp_path):
    written = messages()
    made = Messages(ros1=True)
    empty = {DRIVE.stamp_ns(5), DRIVE.stamp_ns(17)}
    written = [
        (
            topic,
            stamp,
            made.cloud(stamp, np.zeros((0, 4), np.float32)) if topic == LIDAR and stamp in empty else message,
        )
        for topic, stamp, message in written
    ]
    drive = opened(tmp_path, written)
    assert len(drive) == len(list(drive)) == 38
    assert off_m(drive, 10, 11) < 0.01
    assert "2 of 40 clouds are empty" in told(drive, "lost")


# which files


def test_a_bag_and_its_backup_are_one(tmp_path):
    write_ros1(tmp_path / "run.bag", messages())
    shutil.copy(tmp_path / "run.bag", tmp_path / "run.orig.bag")
    drive = open_drive(tmp_path)
    assert len(drive) == 40
    assert "run.orig.bag: a backup of run.bag" in told(drive, "ignored")


def test_a_copy_by_another_name_is_one(tmp_path):
    write_ros1(tmp_path / "run.bag", messages())
    write_ros1(tmp_path / "filtered.bag", messages()[:60])
    drive = open_drive(tmp_path)
    assert len(drive) == 40
    assert "filtered.bag: its messages are those of run.bag" in told(drive, "ignored")


def test_a_database_and_the_same_compressed_are_one(tmp_path):
    folder = write_ros2(tmp_path / "a", drive_messages(DRIVE, Messages(ros1=False)), compress="FILE")
    (packed,) = folder.glob("*.zstd")
    plain = single_file(write_ros2(tmp_path / "b", drive_messages(DRIVE, Messages(ros1=False))))
    shutil.copy(plain, folder / packed.name.removesuffix(".zstd"))
    drive = open_drive(folder)
    assert len(drive) == 40
    assert f"{packed.name}: {packed.name.removesuffix('.zstd')} is there, too" in told(drive, "ignored")


def test_messages_that_wait_in_the_write_ahead_log_are_read(tmp_path):
    file = single_file(write_ros2(tmp_path / "a", drive_messages(DRIVE, Messages(ros1=False))))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode = WAL")
    rows = database.execute("SELECT id FROM messages").fetchall()
    saved = database.execute(
        "SELECT id, topic_id, timestamp, data FROM messages WHERE id > ?", (rows[79][0],)
    ).fetchall()
    database.execute("DELETE FROM messages WHERE id > ?", (rows[79][0],))
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.executemany("INSERT INTO messages (id, topic_id, timestamp, data) VALUES (?, ?, ?, ?)", saved)
    database.commit()
    for name in (file.name, f"{file.name}-wal"):
        shutil.copy(file.parent / name, crashed / name)
    database.close()
    before = {path.name: path.read_bytes() for path in crashed.iterdir()}
    drive = open_drive(crashed / file.name)
    assert len(drive) == 40
    np.testing.assert_array_equal(drive[39].scan.xyz, DRIVE.xyzi[39][:, :3])
    assert "never moved out" in told(drive, "used")
    assert {path.name: path.read_bytes() for path in crashed.iterdir()} == before


def test_two_days_in_one_folder_are_refused(tmp_path):
    write_ros1(tmp_path / "monday.bag", messages())
    day = 86_400 * S
    write_ros1(tmp_path / "tuesday.bag", [(topic, stamp + day, message) for topic, stamp, message in messages()])
    with pytest.raises(DataError, match=r"several recordings in one folder \(monday.bag ends .*, tuesday.bag begins"):
        open_drive(tmp_path)
    assert len(open_drive(tmp_path / "monday.bag")) == 40


def test_a_part_that_metadata_lists_and_that_is_missing(tmp_path):
    folder = write_ros2(tmp_path / "a", drive_messages(DRIVE, Messages(ros1=False)))
    text = (folder / "metadata.yaml").read_text()
    name = single_file(folder).name
    (folder / "metadata.yaml").write_text(text.replace(f"- {name}", f"- {name}\n  - a_1.db3", 1))
    assert "a_1.db3: metadata.yaml lists it" in told(open_drive(folder), "lost")


def test_a_part_that_the_numbers_skip(tmp_path):
    for number in (0, 2):
        write_ros1(tmp_path / f"run_{number}.bag", messages()[number * 80 : (number + 1) * 80 - 80 * number // 4])
    drive = open_drive(tmp_path)
    assert "run_1.bag: the numbers of the files skip it" in told(drive, "warning")
    days = tmp_path / "days"
    days.mkdir()
    write_ros1(days / "2023-11-14-22-13-20.bag", messages()[:80])
    write_ros1(days / "2023-11-14-22-13-22.bag", messages()[80:])
    assert "skip it" not in told(open_drive(days))


def test_times_of_recording_that_tell_nothing(tmp_path):
    drive = opened(tmp_path, [(topic, 1, message) for topic, _, message in messages()])
    assert [frame.stamp_ns for frame in drive] == [DRIVE.stamp_ns(number) for number in range(40)]
    assert off_m(drive, 20) < 0.01


def test_a_bag_that_was_never_closed(tmp_path):
    path = write_ros1(tmp_path / "run.bag", messages()).rename(tmp_path / "run.bag.active")
    assert len(open_drive(path)) == 40


# frames that cannot be read


def spoiled(numbers):
    written = messages()
    scans = [message for topic, _, message in written if topic == LIDAR]
    for number in numbers:
        scans[number].width = 4_000_000  # a lie about its size
    return written


def test_one_bad_frame_is_counted_and_skipped(tmp_path):
    drive = opened(tmp_path, spoiled([7, 30]))
    frames = list(drive)
    assert [frame.index for frame in frames] == [number for number in range(40) if number not in (7, 30)]
    assert "2 of 40 frames cannot be read and are left out, the first: " in told(drive, "lost")
    with pytest.raises(DataError, match="declares 4000000"):
        drive[7]


def test_more_than_one_bad_frame_in_ten_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"5 of 40 frames cannot be read, the first: .*scan 1 of /lidar/points"):
        list(opened(tmp_path, spoiled([1, 2, 3, 4, 5])))


def test_a_single_fix_astray_is_left_out(tmp_path):
    written = deepcopy(messages())
    fixes = [message for topic, _, message in written if topic == FIX]
    fixes[20].latitude += 50.0 / 111_200.0
    drive = opened(tmp_path, written)
    assert off_m(drive, 20) < 0.05
    assert "1 of 40 fixes lie where no vehicle gets to and back in time" in told(drive, "lost")


def test_a_transform_that_comes_with_two_values_is_told(tmp_path):
    written = messages()
    written.append(messages((("base_link", "lidar", (0.0, 0.0, 1.5), 1.0),))[0])
    assert "base_link to lidar comes 2 times, with other values: the last one counts" in told(
        opened(tmp_path, written), "warning"
    )


def test_an_offset_that_may_be_the_way_to_the_recorder_is_told(tmp_path):
    drive = opened(tmp_path, restamped(messages(), LIDAR, lambda stamp_ns: stamp_ns + 3 * S // 10))
    assert "0.3 s ahead" in told(drive, "assumed") or "0.3 s behind" in told(drive, "assumed")
