import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.simulate.drive import DriveOptions, Simulation, rotation, simulate_drive, true_way
from bevfusion.simulate.surfaces import BUILDING, FENCE, POLE, ROAD, SIGN, TRUNK, VEGETATION
from bevfusion.structures import DataError
from tests.simulate.scenes import FRAME, ring_map

OPTIONS = DriveOptions(frames=6, columns=400, spacing_m=8.0, seed=3, missing=0.0, shifted=0.0, new=0.0, map_noise_m=0.0)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_drive(ring_map(), tmp_path_factory.mktemp("drives") / "drive_a", OPTIONS)


def read(drive: Path, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(points, labels, rotation of the LiDAR in the map, its position), read as a KITTI user would."""
    name = f"{index:010d}"
    points = np.fromfile(drive / "velodyne_points" / "data" / f"{name}.bin", "<f4").reshape(-1, 4)
    labels = np.fromfile(drive / "labels" / f"{name}.label", "<u4")
    values = [float(text) for text in (drive / "oxts" / "data" / f"{name}.txt").read_text().split()]
    assert len(values) == 30
    lat, lon, alt, roll, pitch, yaw = values[:6]
    imu = FRAME.map_from_ego(GeoPose(lat, lon, yaw))
    turn = rotation(roll, pitch, imu.yaw_rad)
    calibration = dict(line.split(":", 1) for line in (drive / "calib_imu_to_velo.txt").read_text().splitlines())
    r = np.array([float(v) for v in calibration["R"].split()]).reshape(3, 3)
    t = np.array([float(v) for v in calibration["T"].split()])
    # p_map = turn @ p_imu + imu;  p_imu = r.T @ (p_lidar - t)
    return points, labels, turn @ r.T, np.array([imu.x_m, imu.y_m, alt]) - turn @ r.T @ t


def test_a_drive_of_a_single_frame(tmp_path: Path) -> None:
    single = simulate_drive(ring_map(), tmp_path / "single", replace(OPTIONS, frames=1))
    assert len(list((single / "velodyne_points" / "data").iterdir())) == 1


def test_layout(drive: Path) -> None:
    for folder in ("oxts/data", "velodyne_points/data", "labels"):
        assert len(list((drive / folder).iterdir())) == OPTIONS.frames
    for sensor in ("oxts", "velodyne_points"):
        lines = (drive / sensor / "timestamps.txt").read_text().splitlines()
        assert len(lines) == OPTIONS.frames
        assert lines == sorted(lines)
    summary = json.loads((drive / "simulation.json").read_text())
    assert summary["map"] == "ring"
    assert summary["options"]["sensor"] == "hdl64e"
    assert summary["buildings"] == {"missing": [], "shifted": {}, "new": []}


def test_walls_line_up_with_the_map_at_the_true_pose_only(drive: Path) -> None:
    walls = shapely.union_all([shapely.LineString(area.outer_m) for area in ring_map().areas])
    shapely.prepare(walls)
    for index in range(OPTIONS.frames):
        points, labels, turn, place = read(drive, index)
        seen = (points[labels == BUILDING, :3].astype(float) @ turn.T + place)[::3, :2]

        def on_walls(x: float, y: float, seen: np.ndarray = seen) -> float:
            return float((shapely.distance(shapely.points(seen + np.array([x, y])), walls) < 0.25).mean())

        true = on_walls(0.0, 0.0)
        assert true > 0.6
        for shift in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            assert on_walls(*shift) < 0.9 * true
        wrong = seen - place[:2]
        cos, sin = np.cos(0.1), np.sin(0.1)
        turned = wrong @ np.array([[cos, sin], [-sin, cos]]) + place[:2]
        assert on_walls(0.0, 0.0, turned) < 0.9 * true


def test_the_road_lies_below_the_vehicle(drive: Path) -> None:
    streets = shapely.union_all([shapely.LineString(road.xy_m) for road in ring_map().roads])
    points, labels, turn, place = read(drive, 2)
    asphalt = points[(labels == ROAD) & (np.hypot(*points[:, :2].T) < 10.0), :3] @ turn.T + place
    assert len(asphalt) > 500
    assert shapely.distance(shapely.points(asphalt[:, :2]), streets).max() < 0.5 * 6.5 * 1.4 + 0.5
    assert abs(np.median(place[2] - asphalt[:, 2]) - 1.73) < 0.15


def test_classes_and_intensities_are_sensible(drive: Path) -> None:
    points, labels, _, _ = read(drive, 0)
    assert 10_000 < len(points) < 64 * 400
    share = {int(label): float((labels == label).mean()) for label in np.unique(labels)}
    assert share[ROAD] > 0.1
    assert 0.02 < share[BUILDING] < 0.6
    assert (points[:, 3] >= 0.0).all()
    assert (points[:, 3] < 1.0).all()
    assert np.isfinite(points).all()


def test_same_seed_same_bytes(drive: Path, tmp_path: Path) -> None:
    again = simulate_drive(ring_map(), tmp_path / "again", replace(OPTIONS, frames=OPTIONS.frames))
    for name in ("velodyne_points/data/0000000004.bin", "labels/0000000004.label", "oxts/data/0000000004.txt"):
        assert (again / name).read_bytes() == (drive / name).read_bytes()


def test_half_the_roadside_leaves_the_rest_of_the_world_as_it_is(drive: Path, tmp_path: Path) -> None:
    """The same way, the same houses; fewer trees, hedges, fences, poles and signs, and none of them new."""
    half = simulate_drive(ring_map(), tmp_path / "half", replace(OPTIONS, roadside=0.5))
    bare = simulate_drive(ring_map(), tmp_path / "bare", replace(OPTIONS, roadside=0.0))
    kinds = (FENCE, VEGETATION, TRUNK, POLE, SIGN)
    seen = {name: np.zeros(2) for name in ("whole", "half", "bare")}
    for index in range(OPTIONS.frames):
        for name, folder in (("whole", drive), ("half", half), ("bare", bare)):
            _, labels, turn, place = read(folder, index)
            seen[name] += np.isin(labels, kinds).sum(), (labels == BUILDING).sum()
            np.testing.assert_array_equal(place, read(drive, index)[3])
            np.testing.assert_array_equal(turn, read(drive, index)[2])
    assert seen["bare"][0] == 0
    assert 0.2 * seen["whole"][0] < seen["half"][0] < 0.9 * seen["whole"][0]
    assert seen["whole"][1] < seen["half"][1] < seen["bare"][1], "what stood behind is seen now"


def test_progress_and_other_sensors(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    options = replace(OPTIONS, sensor="vlp16", frames=2)
    out = simulate_drive(ring_map(), tmp_path / "vlp", options, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert 2000 < len(read(out, 0)[0]) <= 16 * 400


def test_nothing_half_written_on_failure(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_drive(ring_map(), tmp_path / "drive", OPTIONS, stop)
    with pytest.raises(DataError, match="drivable"):
        simulate_drive(replace(ring_map(), roads=()), tmp_path / "drive", OPTIONS)
    assert not list(tmp_path.iterdir())


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists already"):
        simulate_drive(ring_map(), tmp_path, OPTIONS)
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sensor": "radar"},
        {"frames": 0},
        {"spacing_m": 0.0},
        {"seed": -1},
        {"vehicles": -1.0},
        {"hills": 5.0},
        {"map_noise_m": -1.0},
        {"roadside": 1.5},
    ],
)
def test_senseless_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError):
        DriveOptions(**wrong)


def test_the_way_of_a_drive_is_known_without_building_its_world():
    """The same path, and the roads as wide as in the world, from the same numbers."""
    options = replace(OPTIONS, map_warp_m=0.8, vehicles=0.5)
    simulation = Simulation(ring_map(), options)
    path, roads = true_way(ring_map(), options)
    assert np.array_equal(path.xy_m, simulation.path.xy_m)
    assert [road.width_m for road in roads] == [road.width_m for road in simulation.world.roads]
    assert all(np.array_equal(a.xy_m, b.xy_m) for a, b in zip(roads, simulation.world.roads, strict=True))
