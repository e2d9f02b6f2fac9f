"""A nuScenes data set of two scenes, written small."""

import json
import math

import numpy as np
import pytest

from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.geometry.geodesy import degrees_from_mercator
from bevfusion.structures import DataError
from tests.datasets.bag_writing import SmallDrive

SMALL = SmallDrive()


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
        order = np.argsort(SMALL.xyzi[number][:, 3])  # counted to 255: the order is kept, see intensity.py
        assert (np.diff(frame.scan.intensity[order]) >= 0).all()
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
        ("{", "no JSON"),
        ('{"a": 1}', "list of rows"),
        ("[1]", "list of rows"),
    ):
        path.write_text(broken)
        with pytest.raises(DataError, match=told):
            open_drive(nuscenes / "scene-0061")
    path.write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match="no text in UTF-8"):
        open_drive(nuscenes / "scene-0061")


def test_sweeps_on_another_disk(nuscenes, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk") / "sweeps"
    (nuscenes / "sweeps").rename(disk)
    (nuscenes / "sweeps").symlink_to(disk)
    assert len(open_drive(nuscenes / "scene-0061")) == 5
