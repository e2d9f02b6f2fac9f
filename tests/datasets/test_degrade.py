"""Scans made worse, by value."""

import math

import numpy as np
import pytest

from bevfusion.datasets.cloud import deskewed
from bevfusion.datasets.degrade import (
    fewer_beams,
    in_weather,
    insert_people,
    raised,
    smeared,
    tilted,
    turned,
    within_range,
    without_sector,
)
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.structures import Scan


def scan_of(xyz: np.ndarray, labels: bool = False) -> Scan:
    xyz = np.asarray(xyz, np.float32)
    return Scan(xyz, np.full(len(xyz), 0.5, np.float32), np.full(len(xyz), 40, np.uint32) if labels else None)


def ring_scan(rings: int = 64, columns: int = 90, range_m: float = 10.0) -> Scan:
    """A sphere of returns: `rings` elevations from -24 to 2 degrees."""
    elevation = np.repeat(np.radians(np.linspace(-24.0, 2.0, rings)), columns)
    azimuth = np.tile(np.linspace(-math.pi, math.pi, columns, endpoint=False), rings)
    unit = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    return scan_of(range_m * np.stack(unit, axis=1))


def plain(half_m: float = 30.0, z_m: float = -1.7) -> Scan:
    """Flat ground, a point each half metre."""
    x_m, y_m = np.meshgrid(np.arange(-half_m, half_m, 0.5), np.arange(-half_m, half_m, 0.5))
    return scan_of(np.stack([x_m.ravel(), y_m.ravel(), np.full(x_m.size, z_m)], axis=1), labels=True)


@pytest.mark.parametrize("beams", [32, 16, 8, 1])
def test_beams_are_dropped_evenly(beams: int):
    kept = fewer_beams(ring_scan(), beams)
    elevations = np.unique(np.round(np.degrees(np.arcsin(kept.xyz[:, 2] / 10.0)), 2))
    assert len(elevations) == pytest.approx(beams, abs=1)
    assert len(kept) == pytest.approx(beams * 90, rel=0.15, abs=90)
    if beams > 4:
        assert np.ptp(elevations) > 20.0  # low ones and high ones are left
    assert fewer_beams(ring_scan(), 64) is not None


def test_more_beams_than_there_are_cannot_be_had():
    with pytest.raises(ValueError, match="from 1 to 64"):
        fewer_beams(ring_scan(), 128)
    assert len(fewer_beams(scan_of(np.zeros((0, 3))), 8)) == 0


def test_range_and_sector_are_cut():
    scan = scan_of([[10.0, 0.0, 0.0], [40.0, 0.0, 0.0], [0.0, 20.0, 25.0], [-10.0, 0.1, 0.0]])
    assert within_range(scan, 30.0).xyz[:, 0].tolist() == [10.0, -10.0]
    assert without_sector(scan, 0.5 * math.pi).xyz[:, 0].tolist() == [0.0, -10.0]
    behind = without_sector(scan, 0.5 * math.pi, math.pi)  # across the seam of the angles
    assert behind.xyz[:, 0].tolist() == [10.0, 40.0, 0.0]
    assert len(without_sector(scan, 0.0)) == 4


def test_weather_takes_returns_as_it_should_and_gives_back_near_ones():
    """Of returns at R the share exp(-2 alpha R) is left; those that come back are exponential, cut at R."""
    rng = np.random.default_rng(0)
    count, range_m, visibility_m = 40_000, 30.0, 300.0
    scan = scan_of(np.tile([range_m, 0.0, 0.0], (count, 1)), labels=True)
    loss = 2.0 * math.log(50.0) / visibility_m
    rain = in_weather(scan, visibility_m, 0.0, rng)
    assert len(rain) / count == pytest.approx(math.exp(-loss * range_m), abs=0.01)
    snow = in_weather(scan, visibility_m, 1.0, rng)
    assert len(snow) == count
    near = snow.xyz[:, 0] < range_m - 1e-3
    assert near.mean() == pytest.approx(1.0 - math.exp(-loss * range_m), abs=0.01)
    mean_m = 1.0 / loss - range_m / (math.exp(loss * range_m) - 1.0)  # of an exponential distribution cut at R
    assert snow.xyz[near, 0].mean() == pytest.approx(mean_m, rel=0.02)
    assert snow.labels is not None
    assert set(snow.labels[near].tolist()) == {1}
    assert in_weather(scan, math.inf, 0.5, rng) is scan


def test_a_turned_sensor_sees_things_turned_the_other_way():
    (ahead,) = turned(scan_of([[10.0, 0.0, 1.0]]), math.radians(5.0)).xyz
    assert ahead == pytest.approx([10.0 * math.cos(math.radians(5.0)), -10.0 * math.sin(math.radians(5.0)), 1.0])


def test_a_nose_that_hangs_down_lifts_the_road_ahead_and_a_lean_to_the_right_what_is_on_the_right():
    ground = scan_of([[10.0, 0.0, -1.7], [0.0, -10.0, -1.7]])
    assert tilted(ground, math.radians(2.0)).xyz[0, 2] == pytest.approx(-1.7 + 10.0 * math.radians(2.0), abs=0.01)
    assert tilted(ground, 0.0, math.radians(2.0)).xyz[1, 2] == pytest.approx(-1.7 + 10.0 * math.radians(2.0), abs=0.01)
    for change in (tilted(ground, 0.1, 0.2), turned(ground, 1.0)):
        assert np.linalg.norm(change.xyz, axis=1) == pytest.approx(np.linalg.norm(ground.xyz, axis=1), rel=1e-6)


def test_a_raised_sensor_sees_the_ground_lower():
    assert raised(plain(), 0.4).xyz[:, 2] == pytest.approx(np.full(len(plain()), -2.1))


def test_motion_smears_what_is_seen_before_and_after_the_stamp():
    """10 m/s, 0.1 s a turn: to the left a quarter of a turn before, 0.25 m behind; to the right as much after."""
    scan = scan_of([[10.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, -10.0, 0.0]])
    seen = smeared(scan, 10.0).xyz
    assert seen[0] == pytest.approx([10.0, 0.0, 0.0])
    assert seen[1] == pytest.approx([0.25, 10.0, 0.0])
    assert seen[2] == pytest.approx([-0.25, -10.0, 0.0])
    turning = smeared(scan, 0.0, math.radians(40.0)).xyz  # a degree in a quarter of a turn
    assert math.degrees(math.atan2(turning[1, 1], turning[1, 0])) == pytest.approx(91.0, abs=1e-3)
    assert math.degrees(math.atan2(turning[2, 1], turning[2, 0])) == pytest.approx(-91.0, abs=1e-3)


def test_smearing_is_what_deskewing_undoes():
    rng = np.random.default_rng(1)
    scan = scan_of(rng.uniform(-30.0, 30.0, (200, 3)))
    rate_rad_s, stamp_ns = math.radians(30.0), 10**18
    # of small turns the path is straight to the millimetre: x = v t, y = 0
    steps = np.arange(-5, 6)
    xy_m = np.stack([8.0 * 0.02 * steps, np.zeros(11)], axis=1)
    track = PoseTrack(stamp_ns + steps * 20_000_000, xy_m, rate_rad_s * 0.02 * steps)
    times_s = -np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0]) / (2.0 * math.pi) * 0.1
    again = deskewed(smeared(scan, 8.0, rate_rad_s).xyz, times_s, stamp_ns, track)
    assert again == pytest.approx(scan.xyz, abs=1e-3)


def test_people_stand_on_the_ground_and_hide_what_is_behind():
    scan = plain()
    crowd = insert_people(scan, 30, np.random.default_rng(2))
    moved = (crowd.xyz != scan.xyz).any(axis=1)
    assert 5 < moved.sum() < 0.3 * len(scan)  # a person nearby hides much of a plain
    assert crowd.labels is not None
    assert set(crowd.labels[moved].tolist()) == {30}
    assert (crowd.xyz[moved, 2] > -1.75).all()
    assert (crowd.xyz[moved, 2] < -1.7 + 1.8).all()
    assert (np.linalg.norm(crowd.xyz[moved], axis=1) < np.linalg.norm(scan.xyz[moved], axis=1)).all()
    assert insert_people(scan, 0, np.random.default_rng(2)) is scan
