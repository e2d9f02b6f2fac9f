"""The ground surface against invented land of known height, and against the labels of real scans."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from bevfusion.lidar.ground import fit_ground, height_above_ground

Land = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x, y -> height of the ground, 0 below the sensor
GROUND_CLASSES = (40, 44, 48, 49, 60, 72)  # road, parking, pavement, other ground, marking, terrain
NOT_COUNTED = (0, 1, 70)  # unlabelled, outlier, and vegetation, which is grass as well as trees


def flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


def slope(grade: float, aside: float = 0.0) -> Land:
    return lambda x, y: grade * x + aside * y


def crest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Up 10 % behind the vehicle and down 10 % ahead of it, rounded over 20 m."""
    return -0.1 * (np.hypot(x, 10.0) - 10.0)


def dip(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -crest(x, y)


def ditch(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A ditch 0.7 m deep along the road, 7 m to the left."""
    return -0.7 * np.exp(-0.5 * ((y - 7.0) / 1.5) ** 2)


def embankment(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """To the right of the road the land rises by 2.5 m in 8 m, then it is level."""
    return 2.5 * np.clip((-y - 6.0) / 8.0, 0.0, 1.0)


LANDS: dict[str, Land] = {
    "flat": flat,
    "up 15 %": slope(0.15),
    "down 15 %": slope(-0.15),
    "crossfall": slope(0.04, 0.05),
    "crest": crest,
    "dip": dip,
    "ditch": ditch,
}


def scan_of(
    land: Land, *, beams: int = 64, height_m: float = 1.73, tilt_deg: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """What a spinning LiDAR sees of a street: (N, 3) points and the true height of each above the ground.

    On the land stand house fronts 11 m to both sides, parked cars, a hedge, and trunks. Rays are followed in steps of
    5 cm to 4 m, the last crossing is refined by bisection.
    """
    rng = np.random.default_rng(beams)
    elevation = np.radians(np.linspace(-25.0, 5.0, beams))
    azimuth = np.linspace(-np.pi, np.pi, 900, endpoint=False)
    e, a = (values.ravel() for values in np.meshgrid(elevation, azimuth, indexing="ij"))
    ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1) @ _tilted(*tilt_deg).T

    def under(range_m: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Whether the end of each ray lies in something: land or what stands on it."""
        x, y, z = (rays * range_m[:, None]).T
        above = z + height_m - land(x, y)
        front = (np.abs(y) > 11.0) & (np.abs(x) % 14.0 < 11.0) & (above < 8.0)
        car = (np.abs(np.abs(y) - 4.5) < 0.9) & (np.abs(x) % 12.0 < 4.4) & (np.abs(x) > 6.0) & (above < 1.5)
        hedge = (np.abs(y + 9.0) < 0.4) & (x > 5.0) & (above < 1.2)
        return (above < 0.0) | front | car | hedge

    met_m = np.full(len(ray), np.inf)
    step_m = np.concatenate([np.arange(1.5, 12.0, 0.05), np.arange(12.0, 40.0, 0.15), np.arange(40.0, 60.0, 0.5)])
    open_ = np.arange(len(ray))
    for before_m, after_m in itertools.pairwise(step_m):
        hits = open_[under(np.full(len(open_), after_m), ray[open_])]
        low, high = np.full(len(hits), before_m), np.full(len(hits), after_m)
        for _ in range(6):
            middle = 0.5 * (low + high)
            inside = under(middle, ray[hits])
            low, high = np.where(inside, low, middle), np.where(inside, middle, high)
        met_m[hits] = high
        open_ = open_[~np.isin(open_, hits)]
    seen = np.isfinite(met_m)
    xyz = ray[seen] * (met_m[seen] + rng.normal(0.0, 0.015, seen.sum()))[:, None]
    above_m = xyz[:, 2] + height_m - land(xyz[:, 0], xyz[:, 1])
    return (xyz @ _tilted(*tilt_deg)).astype(np.float32), above_m


def _tilted(pitch_deg: float, roll_deg: float) -> np.ndarray:
    """map_R_sensor: nose down, then left side up."""
    (cp, cr), (sp, sr) = np.cos(np.radians([pitch_deg, roll_deg])), np.sin(np.radians([pitch_deg, roll_deg]))
    return np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]]) @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])


def share_within(xyz: np.ndarray, above_m: np.ndarray, limit_m: float = 0.15, reach_m: float = 40.0) -> float:
    """Share of the ground points, out to 40 m, whose height is right to 15 cm."""
    ground = (np.abs(above_m) < 0.05) & (np.hypot(xyz[:, 0], xyz[:, 1]) < reach_m)
    return float(np.mean(np.abs(height_above_ground(xyz) - above_m)[ground] < limit_m))


@pytest.mark.parametrize("name", LANDS)
def test_the_ground_follows_the_land(name: str):
    assert share_within(*scan_of(LANDS[name])) > 0.95


def test_a_bank_of_30_percent_is_followed_to_a_quarter_metre():
    assert share_within(*scan_of(embankment), limit_m=0.25) > 0.95


@pytest.mark.parametrize("beams", [16, 32, 128])
@pytest.mark.parametrize("name", ["crest", "up 15 %"])
def test_it_does_so_for_few_beams_and_for_many(name: str, beams: int):
    assert share_within(*scan_of(LANDS[name], beams=beams)) > 0.95


@pytest.mark.parametrize("height_m", [0.4, 0.9, 2.5])
def test_it_does_so_however_high_the_sensor_is_mounted(height_m: float):
    assert share_within(*scan_of(LANDS["dip"], height_m=height_m)) > 0.95


@pytest.mark.parametrize("tilt_deg", [(5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (3.5, -3.5)])
def test_it_does_so_for_a_tilted_sensor(tilt_deg: tuple[float, float]):
    assert share_within(*scan_of(LANDS["up 15 %"], tilt_deg=tilt_deg)) > 0.95


def test_it_does_so_for_a_cloud_of_several_scans():
    single, above_m = scan_of(crest, beams=32)
    # the same land from 4 and 8 m farther on: the points of a scan there, in the frame of the first
    shifts = [np.array([s, 0.0, crest(np.array(s), np.array(0.0))], np.float32) for s in (4.0, 8.0)]
    later = [scan_of(lambda x, y, by=by: crest(x + by[0], y) - by[2], beams=32) for by in shifts]
    xyz = np.concatenate([single, *(points + by for (points, _), by in zip(later, shifts, strict=True))])
    assert share_within(xyz, np.concatenate([above_m, *(above for _, above in later)])) > 0.95


@pytest.mark.parametrize("land", [flat, slope(0.15), embankment], ids=["flat", "up 15 %", "embankment"])
def test_it_does_not_climb_onto_cars_hedges_and_walls(land: Land):
    xyz, above_m = scan_of(land)
    near = np.hypot(xyz[:, 0], xyz[:, 1]) < 30.0
    on_top = near & (above_m > 1.0) & (np.abs(xyz[:, 1]) < 10.0)  # roofs of cars, the top of the hedge
    walls = near & (above_m > 2.0)
    found_m = height_above_ground(xyz)
    assert on_top.sum() > 200
    assert np.quantile(found_m[on_top], 0.02) > 0.7
    assert np.quantile(found_m[walls], 0.02) > 1.5


def test_a_street_on_a_ramp_beside_a_lower_one_keeps_its_own_ground():
    rng = np.random.default_rng(0)
    ramp = np.column_stack([rng.uniform(-35, 35, 20000), rng.uniform(-4, 4, 20000)])
    lower = np.column_stack(
        [rng.uniform(-35, 35, 8000), rng.uniform(14, 35, 8000)]
    )  # hidden behind the parapet till there
    parapet = np.column_stack([rng.uniform(-35, 35, 4000), np.full(4000, 4.2)])
    z = np.concatenate([0.08 * ramp[:, 0], np.full(8000, -4.0), 0.08 * parapet[:, 0] + rng.uniform(0, 1, 4000)]) - 1.7
    xyz = np.column_stack([np.concatenate([ramp, lower, parapet]), z]).astype(np.float32)
    found_m = height_above_ground(xyz)
    assert np.mean(np.abs(found_m[:20000]) < 0.15) > 0.95


def test_mirrored_returns_below_the_road_change_nothing():
    xyz, above_m = scan_of(flat)
    rng = np.random.default_rng(0)
    below = np.column_stack([rng.uniform(-30, 30, (40, 2)), rng.uniform(-5.0, -3.0, 40)]).astype(np.float32)
    assert (
        share_within(xyz, above_m) - share_within(np.concatenate([xyz, below]), np.append(above_m, [9.9] * 40)) < 0.01
    )


def test_the_surface_is_what_heights_are_measured_from():
    xyz, _ = scan_of(crest)
    surface_m = fit_ground(xyz).z_m(xyz[:, :2])
    np.testing.assert_allclose(xyz[:, 2] - surface_m, height_above_ground(xyz), atol=1e-4)


def test_the_surface_is_continuous():
    ground = fit_ground(scan_of(embankment)[0])
    way = np.column_stack([np.linspace(-70.0, 70.0, 14001), np.linspace(-60.0, 61.0, 14001)])  # 1.3 cm a step
    assert np.abs(np.diff(ground.z_m(way))).max() < 0.02


def test_what_lies_out_of_reach_is_measured_from_the_plane_going_on():
    xyz, _ = scan_of(slope(0.1))
    far = np.array([[80.0, 0.0, 8.0 - 1.73 + 3.0]], np.float32)
    assert height_above_ground(np.concatenate([xyz, far]))[-1] == pytest.approx(3.0, abs=0.5)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_points_give_level_ground(count: int):
    xyz = np.random.default_rng(0).uniform(-5, 5, (count, 3)).astype(np.float32)
    ground = fit_ground(xyz)
    assert ground.plane[0] == ground.plane[1] == 0.0
    assert np.isfinite(ground.z_m(np.zeros((1, 2)))).all()
    assert np.isfinite(height_above_ground(xyz)).all()


def test_no_point_at_all_leaves_the_ground_170_cm_below():
    assert fit_ground(np.zeros((0, 3), np.float32)).z_m(np.zeros((1, 2)))[0] == pytest.approx(-1.7)


def test_order_of_points_does_not_count():
    xyz, _ = scan_of(dip, beams=32)
    shuffled = np.random.default_rng(0).permutation(len(xyz))
    np.testing.assert_allclose(height_above_ground(xyz)[shuffled], height_above_ground(xyz[shuffled]), atol=1e-5)


def test_real_ground_is_found_as_labelled(shared_data):
    """F1 of "within 15 cm of the surface" against SemanticKITTI, to 50 m, on four drives, one of them hilly."""
    hits, misses, false = 0, 0, 0
    for path in sorted((shared_data / "kitti_raw").glob("*/*/velodyne_points/data/*.bin"))[::3]:
        labelled = path.parents[2] / "labels" / f"{path.stem}.label"
        if not labelled.is_file():
            continue
        xyz = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]
        labels = np.fromfile(labelled, np.uint32) & 0xFFFF
        range_m = np.hypot(xyz[:, 0], xyz[:, 1])
        counted = ~np.isin(labels, NOT_COUNTED) & (range_m > 2.7) & (range_m < 50.0)
        truth, found = np.isin(labels, GROUND_CLASSES) & counted, (height_above_ground(xyz) < 0.15) & counted
        hits, misses, false = (
            hits + (truth & found).sum(),
            misses + (truth & ~found).sum(),
            false + (found & ~truth).sum(),
        )
    assert hits > 0
    assert 2.0 * hits / (2.0 * hits + misses + false) > 0.965


def test_real_sensor_stands_173_cm_above_the_road(shared_data):
    scans = sorted((shared_data / "kitti_raw").glob("*/*/velodyne_points/data/*.bin"))
    below = np.array([[0.0, 0.0]])
    heights = [-fit_ground(np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]).z_m(below)[0] for path in scans]
    assert np.median(heights) == pytest.approx(1.73, abs=0.06)
    assert np.max(np.abs(np.array(heights) - 1.73)) < 0.2
