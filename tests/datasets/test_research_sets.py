"""KITTI odometry, KITTI-360, nuScenes and Argoverse 2: layouts written small, and real data where there are any."""

import json
import math
import shutil

import numpy as np
import pyproj
import pytest

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.mercator import degrees_from_mercator
from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from tests.datasets.bag_writing import SmallDrive

SMALL = SmallDrive()
CALIB = "calib_time: now\nR: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n"
# x of the camera is right, y down, z ahead
TR = np.array([[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.3]], float)


def text(matrix):
    return " ".join(repr(float(value)) for value in np.asarray(matrix).ravel()[:12])


def scans(folder, digits=6):
    folder.mkdir(parents=True)
    for number, xyzi in enumerate(SMALL.xyzi):
        xyzi.astype("<f4").tofile(folder / f"{number:0{digits}d}.bin")


def square(matrix):
    return np.vstack([matrix, [0, 0, 0, 1]])


def ahead(number):
    """LiDAR poses on an arc: 1 m and 0.1 rad a frame."""
    cos, sin = math.cos(0.1 * number), math.sin(0.1 * number)
    return np.array([[cos, -sin, 0, number], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


@pytest.fixture
def sequence(tmp_path):
    path = tmp_path / "sequences" / "07"
    scans(path / "velodyne")
    (path / "calib.txt").write_text(f"P0: {text(np.eye(4))}\nTr: {text(TR)}\n")
    (path / "times.txt").write_text("".join(f"{0.1 * n:e}\n" for n in range(5)))
    poses = [square(TR) @ ahead(n) @ np.linalg.inv(square(TR)) for n in range(5)]
    (path / "poses.txt").write_text("".join(text(pose) + "\n" for pose in poses))
    (path / "labels").mkdir()
    np.full(SMALL.points, 40 | 7 << 16, "<u4").tofile(path / "labels/000002.label")
    return path


def packets():
    return [f"{lat!r} {lon!r} 0 0 0 {SMALL.yaw_rad}" + " 0" * 24 for lat, lon in map(SMALL.place_deg, range(5))]


def test_kitti_odometry(sequence):
    drive = open_drive(sequence)
    assert (drive.name, len(drive), drive.odometry) == ("07", 5, "truth")
    for number, frame in enumerate(drive):
        np.testing.assert_array_equal(frame.scan.xyz, SMALL.xyzi[number][:, :3])
        odom = frame.odom_from_ego
        assert (odom.x_m, odom.y_m, odom.yaw_rad) == pytest.approx((number, 0.0, 0.1 * number), abs=1e-9)
        assert frame.truth is None
        assert frame.stamp_ns == number * 10**8
    assert drive[1].scan.labels is None
    assert set(drive[2].scan.labels.tolist()) == {40}


@pytest.mark.parametrize("one_file", [True, False])
def test_kitti_odometry_with_gps(sequence, one_file):
    if one_file:
        (sequence / "oxts.txt").write_text("\n".join(packets()) + "\n")
    else:
        (sequence / "oxts/data").mkdir(parents=True)
        for number, packet in enumerate(packets()):
            (sequence / f"oxts/data/{number:010d}.txt").write_text(packet)
    with pytest.raises(DataError, match="calib_imu_to_velo"):
        open_drive(sequence)
    (sequence / "calib_imu_to_velo.txt").write_text(CALIB)
    truth = open_drive(sequence)[3].truth
    assert (truth.lat_deg, truth.lon_deg) == pytest.approx(SMALL.place_deg(3), abs=1e-9)
    assert truth.yaw_rad == pytest.approx(SMALL.yaw_rad, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("times.txt", "0\n1\n", "for each of 5 frames, got 2"),
        ("times.txt", "zero\n", "seconds a line"),
        ("poses.txt", "1 2 3\n", "line 1 is not a pose of 12 numbers"),
        ("calib.txt", "P0: 1\n", "expected a line 'Tr:'"),
        ("oxts.txt", "49 8\n", r"oxts.txt: line 1: expected 30 numbers"),
    ],
)
def test_kitti_odometry_faults(sequence, name, content, told):
    (sequence / name).write_text(content)
    with pytest.raises(DataError, match=told):
        open_drive(sequence)


def test_real_scans_as_an_odometry_sequence(shared_data, tmp_path):
    """A raw drive with its files laid out as in the benchmark gives what the raw drive gives."""
    raw = shared_data / "kitti_raw/2011_09_30/2011_09_30_drive_0027_sync"
    path = tmp_path / "07"
    path.mkdir()
    (path / "velodyne").symlink_to(raw / "velodyne_points/data")
    (path / "oxts").symlink_to(raw / "oxts")
    (path / "calib.txt").write_text(f"Tr: {text(TR)}\n")
    (path / "labels").symlink_to(raw / "labels")
    shutil.copy(shared_data / "kitti_raw/calib_imu_to_velo.txt", path)
    for ours, theirs in zip(open_drive(path), KittiRawDrive(raw), strict=True):
        np.testing.assert_array_equal(ours.scan.xyz, theirs.scan.xyz)
        np.testing.assert_array_equal(ours.scan.labels, theirs.scan.labels)
        assert ours.truth.lat_deg == pytest.approx(theirs.truth.lat_deg, abs=1e-9)
        assert ours.truth.yaw_rad == pytest.approx(theirs.truth.yaw_rad, abs=1e-6)


def test_mercator_is_true_at_its_origin_and_keeps_angles():
    places = degrees_from_mercator(np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]]), 49.0, 8.4)
    assert places[0] == pytest.approx([49.0, 8.4])
    frame = LocalFrame(49.0, 8.4)
    assert frame.metres_from_degrees(*places[1]) == pytest.approx((1000.0, 0.0), abs=4.0)  # a sphere for an ellipsoid
    assert frame.metres_from_degrees(*places[2]) == pytest.approx((0.0, 1000.0), abs=4.0)


@pytest.fixture
def kitti360(tmp_path):
    name = "2013_05_28_drive_0000_sync"
    path = tmp_path / "data_3d_raw" / name
    scans(path / "velodyne_points/data", digits=10)
    stamps = "".join(f"2013-05-28 08:46:02.{n}00000000\n" for n in range(5))
    (path / "velodyne_points/timestamps.txt").write_text(stamps)
    (tmp_path / "calibration").mkdir()
    velo_from_camera = np.linalg.inv(square(TR))
    pose_from_velo = np.diag([1.0, -1.0, -1.0, 1.0])  # x ahead, y right, z down
    pose_from_velo[0, 3] = 0.8
    (tmp_path / "calibration/calib_cam_to_velo.txt").write_text(text(velo_from_camera))
    (tmp_path / "calibration/calib_cam_to_pose.txt").write_text(
        f"image_00: {text(pose_from_velo @ velo_from_camera)}\n"
    )
    (tmp_path / "data_poses" / name).mkdir(parents=True)
    lines = []
    for number in (0, 1, 3, 4):
        world_from_velo = ahead(number)
        world_from_velo[:2, 3] += [100.0, 50.0]
        lines.append(f"{number} {text(world_from_velo @ np.linalg.inv(pose_from_velo))}\n")
    (tmp_path / "data_poses" / name / "poses.txt").write_text("".join(lines))
    return path


def test_kitti360(kitti360):
    drive = open_drive(kitti360)
    assert (len(drive), drive.odometry) == (5, "none")
    np.testing.assert_array_equal(drive[1].scan.xyz, SMALL.xyzi[1][:, :3])
    for number in range(5):
        expected = degrees_from_mercator(np.array([[100.0 + number, 50.0]]), 48.9843445, 8.4295857)[0]
        truth = drive[number].truth
        assert (truth.lat_deg, truth.lon_deg) == pytest.approx(tuple(expected), abs=1e-8)
        assert truth.yaw_rad == pytest.approx(0.1 * number, abs=1e-6)


def test_kitti360_faults(kitti360):
    poses = kitti360.parents[1] / "data_poses" / kitti360.name / "poses.txt"
    poses.write_text("0 1 2\n")
    with pytest.raises(DataError, match="12 numbers"):
        open_drive(kitti360)
    poses.unlink()
    assert open_drive(kitti360)[0].truth is None
    (kitti360 / "velodyne_points/timestamps.txt").write_text("2013-05-28 08:46:02.0\n")
    with pytest.raises(DataError, match="no timestamp of frame 1"):
        open_drive(kitti360)


def quaternion(yaw_rad):
    return [math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]


@pytest.fixture
def nuscenes(tmp_path):
    """A scene of five sweeps, the car at 2 m a sweep northwards, and another without any."""
    tables = tmp_path / "v1.0-mini"
    tables.mkdir()
    folder = tmp_path / "sweeps/LIDAR_TOP"
    folder.mkdir(parents=True)
    data, poses = [], []
    for number in range(5):
        xyzi = SMALL.xyzi[number]
        # the sensor looks to the right: turned by -90 degrees
        raw = np.column_stack([-xyzi[:, 1], xyzi[:, 0], xyzi[:, 2], 255 * xyzi[:, 3], np.zeros(len(xyzi))])
        raw.astype("<f4").tofile(folder / f"{number}.pcd.bin")
        data.append(
            {
                "token": f"d{number}",
                "sample_token": f"s{number // 3}",
                "calibrated_sensor_token": "c",
                "ego_pose_token": f"p{number}",
                "timestamp": 1_532_402_927_000_000 + number * 50_000,
                "filename": f"sweeps/LIDAR_TOP/{number}.pcd.bin",
            }
        )
        poses.append(
            {"token": f"p{number}", "translation": [300, 500 + 2 * number, 0], "rotation": quaternion(math.pi / 2)}
        )
    data.append({**data[0], "calibrated_sensor_token": "camera", "filename": "x.jpg"})
    data.append({**data[0], "sample_token": "other"})
    content = {
        "scene": [
            {"token": "a", "name": "scene-0061", "log_token": "l"},
            {"token": "b", "name": "scene-0103", "log_token": "l"},
        ],
        "log": [{"token": "l", "location": "singapore-onenorth"}],
        "sample": [{"token": "s0", "scene_token": "a"}, {"token": "s1", "scene_token": "a"}],
        "sensor": [{"token": "t", "channel": "LIDAR_TOP"}, {"token": "u", "channel": "CAM_FRONT"}],
        "calibrated_sensor": [
            {"token": "c", "sensor_token": "t", "translation": [0.9, 0, 1.8], "rotation": quaternion(-math.pi / 2)},
            {"token": "camera", "sensor_token": "u", "translation": [1, 0, 1], "rotation": [1, 0, 0, 0]},
        ],
        "sample_data": data[::-1],
        "ego_pose": poses,
    }
    for name, rows in content.items():
        (tables / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def test_nuscenes(nuscenes):
    drive = open_drive(nuscenes / "scene-0061")
    assert (drive.name, len(drive)) == ("scene-0061", 5)
    for number, frame in enumerate(drive):
        np.testing.assert_allclose(frame.scan.xyz, SMALL.xyzi[number][:, :3], atol=1e-5)
        np.testing.assert_allclose(frame.scan.intensity, SMALL.xyzi[number][:, 3], atol=1e-6)
        place = degrees_from_mercator(np.array([[300.0, 500.9 + 2 * number]]), 1.2882100868743724, 103.78475189208984)[
            0
        ]
        assert (frame.truth.lat_deg, frame.truth.lon_deg) == pytest.approx(tuple(place), abs=1e-8)
        assert frame.truth.yaw_rad == pytest.approx(math.pi / 2, abs=1e-6)
    truth = open_drive(nuscenes / "scene-0061", LogOptions(odometry="truth"))
    assert truth.odometry == "truth"
    moved = truth[0].odom_from_ego.inverse() @ truth[2].odom_from_ego
    assert (moved.x_m, moved.y_m) == pytest.approx((4.0, 0.0), abs=0.03)


def test_nuscenes_faults(nuscenes):
    with pytest.raises(DataError, match=r"2 scenes, name one, .* there are scene-0061, scene-0103"):
        open_drive(nuscenes)
    with pytest.raises(DataError, match=r"no scene scene-9999"):
        open_drive(nuscenes / "scene-9999")
    with pytest.raises(DataError, match="no sweep of LIDAR_TOP of scene-0103"):
        open_drive(nuscenes / "scene-0103")
    path = nuscenes / "v1.0-mini/sample_data.json"
    rows = json.loads(path.read_text())
    rows[3]["filename"] = "../../../etc/passwd"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match="lies outside"):
        open_drive(nuscenes / "scene-0061")
    for broken, told in (
        ("[{}]", "KeyError"),
        ("{", "not a table"),
        ('{"a": 1}', "list of rows"),
        ("[1]", "list of rows"),
    ):
        path.write_text(broken)
        with pytest.raises(DataError, match=told):
            open_drive(nuscenes / "scene-0061")
    path.write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="not a table"):
        open_drive(nuscenes / "scene-0061")


@pytest.fixture
def argoverse(shared_data):
    pytest.importorskip("pyarrow", reason="extra argoverse2 is not installed")
    (path,) = (shared_data / "formats/argoverse2").iterdir()
    return path


def test_argoverse2(argoverse):
    drive = open_drive(argoverse)
    assert (drive.name, len(drive), drive.odometry) == (argoverse.name, 2, "none")
    first, second = drive
    assert first.stamp_ns == 315966265259836000
    assert len(first.scan) > 90_000
    assert 0.02 < first.scan.intensity.mean() < 0.3
    # the ground lies below the LiDAR on the roof
    ground = np.percentile(first.scan.xyz[:, 2], 10)
    assert -2.2 < ground < -1.2
    # Pittsburgh, by the same log's map: UTM of the origin and the pose there, worked out without the reader
    assert (first.truth.lat_deg, first.truth.lon_deg) == pytest.approx((40.4627, -79.9510), abs=1e-3)
    frame = LocalFrame(first.truth.lat_deg, first.truth.lon_deg)
    moved = frame.map_from_ego(first.truth).inverse() @ frame.map_from_ego(second.truth)
    assert math.hypot(moved.x_m, moved.y_m) < 3.0
    if moved.x_m > 0.3:
        assert abs(math.atan2(moved.y_m, moved.x_m)) < math.radians(10)


def test_argoverse2_headings_count_from_true_east(argoverse):
    """A step along the vehicle's x axis in city metres, taken to latitude and longitude, points along its heading."""
    from bevfusion.datasets.argoverse2 import CITIES, read_columns
    from bevfusion.datasets.rigid import rotations

    columns = ("timestamp_ns", "qx", "qy", "qz", "qw", "tx_m", "ty_m")
    rows = read_columns(argoverse / "city_SE3_egovehicle.feather", columns, 10**6)
    drive = open_drive(argoverse)
    row = int(np.argmin(np.abs(rows["timestamp_ns"] - drive[0].stamp_ns)))
    ahead = rotations(np.array([[rows[name][row] for name in ("qx", "qy", "qz", "qw")]]))[0][:2, 0] * 10
    zone, lat, lon = CITIES["PIT"]
    utm = pyproj.Proj(proj="utm", zone=zone, datum="WGS84")
    east, north = utm(lon, lat)
    here = utm(rows["tx_m"][row] + east, rows["ty_m"][row] + north, inverse=True)
    there = utm(rows["tx_m"][row] + east + ahead[0], rows["ty_m"][row] + north + ahead[1], inverse=True)
    azimuth_deg = pyproj.Geod(ellps="WGS84").inv(*here, *there)[0]
    assert math.degrees(drive[0].truth.yaw_rad) == pytest.approx(90 - azimuth_deg, abs=0.05)


def test_argoverse2_faults(argoverse, tmp_path):
    log = tmp_path / argoverse.name
    shutil.copytree(argoverse, log, copy_function=shutil.copyfile)
    for file in [log, *log.rglob("*")]:
        file.chmod(0o755)
    sweep = log / "sensors/lidar/315966265259836000.feather"
    raw = sweep.read_bytes()
    rng = np.random.default_rng(5)
    for case in range(60):
        damaged = bytearray(raw[: rng.integers(len(raw))] if case % 3 == 0 else raw)
        reach = min(len(damaged), 2000)
        for _ in range(rng.integers(1, 10)):
            if damaged:
                at = rng.integers(reach) if case % 2 else len(damaged) - 1 - rng.integers(reach)
                damaged[at] = rng.integers(256)
        sweep.write_bytes(damaged)
        try:
            open_drive(log)[0]
        except DataError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1
    (log / "calibration/egovehicle_SE3_sensor.feather").unlink()
    with pytest.raises(DataError, match="no such file"):
        open_drive(log)
