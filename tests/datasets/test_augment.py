import numpy as np
import pytest

from bevfusion.datasets.augment import (
    MAPPED_KINDS,
    VEHICLE_CLASSES,
    drop_beams,
    drop_mapped_kinds,
    drop_points,
    insert_vehicles,
    mirrored,
    place_vehicles,
    without_vehicles,
)
from bevfusion.maps.schema import LAYER_NAMES, layer_index
from bevfusion.structures import Scan


def room(half_m: float = 30.0, sensor_m: float = 1.7) -> Scan:
    """What a sensor in the middle of a square walled yard sees, without noise: labelled road and building."""
    azimuth, elevation = np.meshgrid(np.linspace(-np.pi, np.pi, 720, endpoint=False), np.deg2rad(np.arange(-24.0, 3.0)))
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1)
    ray = ray.reshape(-1, 3)
    to_wall = half_m / np.abs(ray[:, :2]).max(1)
    to_ground = np.where(ray[:, 2] < 0, -sensor_m / np.minimum(ray[:, 2], -1e-9), np.inf)
    labels = np.where(to_ground < to_wall, 40, 50).astype(np.uint32)
    xyz = ray * np.minimum(to_wall, to_ground)[:, None]
    return Scan(xyz.astype(np.float32), np.full(len(xyz), 0.3, np.float32), labels)


def test_inserted_vehicles_hide_what_is_behind_and_keep_every_ray():
    before = room()
    after = insert_vehicles(before, 10, np.random.default_rng(0))
    assert len(after) == len(before)
    rays = [scan.xyz / np.linalg.norm(scan.xyz, axis=1, keepdims=True) for scan in (before, after)]
    np.testing.assert_allclose(rays[0], rays[1], atol=1e-4)
    moved = np.linalg.norm(after.xyz - before.xyz, axis=1) > 1e-3
    assert moved.sum() > 100
    assert (np.linalg.norm(after.xyz, axis=1) <= np.linalg.norm(before.xyz, axis=1) + 1e-3).all()
    assert after.labels is not None
    assert set(after.labels[moved]) == {10}
    grazed = (after.labels == 10) & ~moved  # where a vehicle touches the ground, both are at the same place
    assert grazed.sum() < 0.02 * moved.sum()


def test_inserted_vehicles_stand_on_the_ground_and_are_as_high_as_vehicles():
    after = insert_vehicles(room(), 10, np.random.default_rng(1))
    assert after.labels is not None
    z = after.xyz[after.labels == 10, 2]
    assert z.min() > -1.75
    assert -0.5 < z.max() < -1.7 + 3.25


@pytest.mark.parametrize("labelled", [True, False])
def test_vehicles_stand_side_by_side_not_inside_one_another(labelled: bool):
    yard = room() if labelled else Scan(room().xyz, room().intensity)
    vehicles = place_vehicles(yard, 40, np.random.default_rng(0))
    assert len(vehicles) == 40
    boxes = np.array([vehicle.footprint_m() for vehicle in vehicles])
    for i, (x, y, half_x, half_y) in enumerate(boxes):
        assert max(abs(x) - half_x, abs(y) - half_y) > 0.5  # the sensor is in none
        for other in boxes[:i]:
            assert abs(other[0] - x) > half_x + other[2] or abs(other[1] - y) > half_y + other[3]


def test_vehicles_are_spread_over_the_road_as_it_is_not_as_it_is_scanned():
    yard = room()
    placed = [v for seed in range(10) for v in place_vehicles(yard, 8, np.random.default_rng(seed))]
    assert np.mean([np.hypot(*vehicle.centre_m[:2]) > 15.0 for vehicle in placed]) > 0.4
    assert (np.hypot(*yard.xyz[yard.labels == 40, :2].T) > 15.0).mean() < 0.3


def test_no_vehicles_is_no_change():
    np.testing.assert_allclose(insert_vehicles(room(), 0, np.random.default_rng(0)).xyz, room().xyz)


def test_without_vehicles_takes_out_what_was_put_in():
    scan = insert_vehicles(room(), 10, np.random.default_rng(0))
    rest = without_vehicles(scan)
    assert scan.labels is not None
    assert rest.labels is not None
    assert len(rest) == (~np.isin(scan.labels, VEHICLE_CLASSES)).sum() < len(scan)
    with pytest.raises(ValueError, match="labels"):
        without_vehicles(Scan(scan.xyz, scan.intensity))


def test_instances_in_the_upper_bits_of_a_label_do_not_matter():
    scan = Scan(
        np.zeros((2, 3), np.float32), np.zeros(2, np.float32), np.array([10 | 7 << 16, 50 | 3 << 16], np.uint32)
    )
    assert len(without_vehicles(scan)) == 1


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_points_and_beams_are_dropped_by_their_share(share: float):
    rng = np.random.default_rng(0)
    assert len(drop_points(room(), share, rng)) == pytest.approx((1 - share) * len(room()), rel=0.03)
    kept = drop_beams(room(), share, rng)
    levels = np.unique(np.round(np.rad2deg(np.arcsin(kept.xyz[:, 2] / np.linalg.norm(kept.xyz, axis=1))), 1))
    assert len(levels) == 27 if share == 0.0 else 8 < len(levels) < 24


def test_mirror_twice_is_the_scan():
    scan = room()
    np.testing.assert_array_equal(mirrored(mirrored(scan)).xyz, scan.xyz)
    np.testing.assert_array_equal(mirrored(scan).xyz[:, 1], -scan.xyz[:, 1])


def test_kinds_of_things_go_from_the_map_as_a_whole_and_streets_stay():
    full = np.full((len(LAYER_NAMES), 4, 4), 127, np.int8)
    share, rng = 0.4, np.random.default_rng(0)
    tiles = [drop_mapped_kinds(full, share, rng) for _ in range(400)]
    assert (full == 127).all()  # it may be a view of a block that others read
    gone = np.array([(tile == 0).all(axis=(1, 2)) for tile in tiles])
    assert (gone | np.array([(tile == 127).all(axis=(1, 2)) for tile in tiles])).all()
    for kind in MAPPED_KINDS:
        together = gone[:, [layer_index(name) for name in kind]]
        assert (together.all(1) == together.any(1)).all()
        assert together[:, 0].mean() == pytest.approx(share, abs=0.08)
    streets = [i for i, name in enumerate(LAYER_NAMES) if not any(name in kind for kind in MAPPED_KINDS)]
    assert {LAYER_NAMES[i] for i in streets} >= {"road", "road_centre", "road_cos2", "junction"}
    assert not gone[:, streets].any()


def test_a_map_of_which_nothing_is_dropped_stays():
    full = np.full((len(LAYER_NAMES), 4, 4), 127, np.int8)
    np.testing.assert_array_equal(drop_mapped_kinds(full, 0.0, np.random.default_rng(0)), full)
