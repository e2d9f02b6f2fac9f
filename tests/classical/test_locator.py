import math
from dataclasses import replace

import numpy as np
import pytest

from bevfusion.classical.locator import ClassicalLocator
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import DataError, Locator, Scan

NARROW, ANY = math.radians(10.0), math.pi
PRIORS = [(0.0, 0.0, 0.0), (7.3, -11.9, 6.4), (-18.6, 17.2, -9.1), (19.9, 3.3, 2.2)]


def errors(estimate, truth):
    """(distance in m, heading error in degrees) of a pose."""
    found = estimate.map_from_ego
    turn_deg = abs(math.degrees(wrap_angle(found.yaw_rad - truth.yaw_rad)))
    return math.hypot(found.x_m - truth.x_m, found.y_m - truth.y_m), turn_deg


def test_is_a_locator(street):
    assert isinstance(ClassicalLocator(street.source()), Locator)


@pytest.mark.parametrize("displaced", PRIORS)
def test_finds_the_pose(street, on_the_street, moved, displaced):
    locator = ClassicalLocator(street.source())
    estimate = locator.locate(street.scan(on_the_street), moved(on_the_street, *displaced), 20.0, NARROW)
    distance_m, heading_deg = errors(estimate, on_the_street)
    assert distance_m < 0.3
    assert heading_deg < 0.5
    assert estimate.confidence > 0.6


def test_finds_the_pose_at_any_heading(street, on_the_street, moved):
    prior = moved(on_the_street, -13.2, 8.8, -171.0)
    estimate = ClassicalLocator(street.source()).locate(street.scan(on_the_street), prior, 20.0, ANY)
    distance_m, heading_deg = errors(estimate, on_the_street)
    assert distance_m < 0.3
    assert heading_deg < 0.5


def test_a_turned_car_is_seen_to_be_turned(street, on_the_street, moved):
    turned = moved(on_the_street, 0.0, 0.0, 140.0)
    estimate = ClassicalLocator(street.source()).locate(street.scan(turned), on_the_street, 5.0, ANY)
    assert errors(estimate, turned)[1] < 0.5


def test_finds_the_pose_by_the_roads_of_a_crossing(crossing_without_houses, on_the_street, moved):
    world = crossing_without_houses
    prior = moved(on_the_street, 6.1, -9.3, 5.7)
    estimate = ClassicalLocator(world.source()).locate(world.scan(on_the_street), prior, 20.0, NARROW)
    distance_m, heading_deg = errors(estimate, on_the_street)
    assert distance_m < 0.6
    assert heading_deg < 0.5


@pytest.mark.parametrize(("gain", "kerb_m"), [(1.0, 0.0), (0.0, 0.1)], ids=["by reflectance", "by kerbs"])
def test_finds_the_lane_of_a_straight_road(street, on_the_street, moved, gain, kerb_m):
    world = replace(street, houses=(), roads=street.roads[:1], gain=gain, kerb_m=kerb_m)
    prior = moved(on_the_street, 6.1, -9.3, 5.7)
    estimate = ClassicalLocator(world.source()).locate(world.scan(on_the_street), prior, 20.0, NARROW)
    ends_m = world.roads[0].xy_m
    along = (ends_m[1] - ends_m[0]) / np.linalg.norm(ends_m[1] - ends_m[0])
    across = np.array([-along[1], along[0]])
    found = estimate.map_from_ego
    assert abs(across @ (found.x_m - on_the_street.x_m, found.y_m - on_the_street.y_m)) < 0.3
    assert errors(estimate, on_the_street)[1] < 0.5
    # and it knows that it does not know where along the road
    covariance = estimate.covariance[:2, :2]
    assert along @ covariance @ along > 9.0 * (across @ covariance @ across)
    assert estimate.confidence < 0.5


@pytest.mark.parametrize("without", [("roads",), ()], ids=["no roads mapped", "roads mapped"])
def test_finds_the_pose_without_reflectance_and_kerbs(street, on_the_street, moved, without):
    scan = replace(street, gain=0.0, kerb_m=0.0).scan(on_the_street)
    locator = ClassicalLocator(street.without(*without).source())
    estimate = locator.locate(scan, moved(on_the_street, 7.3, -11.9, 6.4), 20.0, NARROW)
    distance_m, heading_deg = errors(estimate, on_the_street)
    assert distance_m < 0.3
    assert heading_deg < 0.5


def test_belief_falls_away_from_the_pose(street, on_the_street):
    belief = ClassicalLocator(street.source()).locate(street.scan(on_the_street), on_the_street, 20.0, NARROW).belief
    volume = belief.log_prob[0].numpy()
    r, y, x = (round(b) for b in belief.window.bins_from_offset(SE2()))
    for far in (2, 5):  # 1 m, 2.5 m
        for there in ((r, y, x + far), (r, y, x - far), (r, y + far, x), (r, y - far, x)):
            assert volume[there] < volume[r, y, x]
    for turn in (2, 4):
        assert max(volume[r - turn, y, x], volume[r + turn, y, x]) < volume[r, y, x]
    for step in ((0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0)):
        near, far = (volume[r, y + d * step[1], x + d * step[2]] for d in (2, 5))
        assert far < near


def test_estimate_and_belief_are_one(street, on_the_street, moved):
    prior = moved(on_the_street, 3.1, -4.7, -3.3)
    estimate = ClassicalLocator(street.source()).locate(street.scan(on_the_street), prior, 12.0, NARROW)
    volume, window = estimate.belief.log_prob[0], estimate.belief.window
    assert tuple(volume.shape) == window.shape
    assert float(volume.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    best = window.offset_from_bins(*(float(b) for b in np.unravel_index(int(volume.argmax()), window.shape)))
    assert abs(prior.x_m + best.x_m - estimate.map_from_ego.x_m) <= 0.5 * window.cell_m
    assert abs(prior.y_m + best.y_m - estimate.map_from_ego.y_m) <= 0.5 * window.cell_m
    assert estimate.prior == prior
    assert np.linalg.eigvalsh(estimate.covariance).min() > 0.0
    assert 0.0 < estimate.heading_std_rad < math.radians(5.0)


@pytest.mark.parametrize("offset_rad", [NARROW, ANY])
def test_an_empty_map_leaves_the_prior(street, on_the_street, offset_rad):
    locator = ClassicalLocator(street.without("houses", "roads").source())
    estimate = locator.locate(street.scan(on_the_street), on_the_street, 8.0, offset_rad)
    volume = estimate.belief.log_prob
    assert float(volume.max() - volume.min()) < 0.01
    assert abs(estimate.map_from_ego.x_m - on_the_street.x_m) < 0.5
    assert abs(estimate.map_from_ego.y_m - on_the_street.y_m) < 0.5
    assert estimate.confidence < 0.15


def test_same_scan_same_answer(street, on_the_street):
    locator, scan = ClassicalLocator(street.source()), street.scan(on_the_street)
    first, again = (locator.locate(scan, on_the_street, 5.0, NARROW) for _ in range(2))
    assert first.map_from_ego == again.map_from_ego


def test_an_empty_scan_is_an_error(street):
    empty = Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    with pytest.raises(DataError, match="none of the scan's 0 points"):
        ClassicalLocator(street.source()).locate(empty, SE2(), 20.0, NARROW)


def test_a_window_without_extent_is_an_error(street, on_the_street):
    with pytest.raises(ValueError, match="pose window"):
        ClassicalLocator(street.source()).locate(street.scan(on_the_street), SE2(), 0.0, NARROW)
