import math

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.se2 import SE2

KARLSRUHE = LocalFrame(49.0, 8.4)
within_5km = st.floats(-5000.0, 5000.0)


@given(within_5km, within_5km)
def test_degrees_and_metres_round_trip_to_a_millimetre(x_m: float, y_m: float):
    lat_deg, lon_deg = KARLSRUHE.degrees_from_metres(x_m, y_m)
    assert KARLSRUHE.metres_from_degrees(lat_deg, lon_deg) == pytest.approx((x_m, y_m), abs=1e-3)


@given(within_5km, within_5km)
def test_distance_and_azimuth_are_the_geodesic_ones(x_m: float, y_m: float):
    lat_deg, lon_deg = KARLSRUHE.degrees_from_metres(x_m, y_m)
    azimuth_deg, _, distance_m = pyproj.Geod(ellps="WGS84").inv(8.4, 49.0, lon_deg, lat_deg)
    assert distance_m == pytest.approx(math.hypot(x_m, y_m), abs=1e-3)
    if distance_m > 1.0:
        along_m = np.array([math.sin(math.radians(azimuth_deg)), math.cos(math.radians(azimuth_deg))]) * distance_m
        np.testing.assert_allclose(along_m, [x_m, y_m], atol=1e-3)


def test_many_points_equal_one_by_one():
    lat_lon = np.array([[49.01, 8.41], [48.99, 8.38]])
    expected = [KARLSRUHE.metres_from_degrees(lat, lon) for lat, lon in lat_lon]
    np.testing.assert_allclose(KARLSRUHE.many_metres_from_degrees(lat_lon), expected)


@pytest.mark.parametrize("lon_deg", [8.3, 8.4, 8.5])
def test_true_north_is_followed_away_from_the_origin(lon_deg: float):
    # Walk 10 m to true north: the pose's own y axis must point there.
    step = pyproj.Geod(ellps="WGS84").fwd(lon_deg, 49.0, 0.0, 10.0)
    here = KARLSRUHE.map_from_ego(GeoPose(49.0, lon_deg, 0.0))
    there = KARLSRUHE.metres_from_degrees(step[1], step[0])
    np.testing.assert_allclose(here.apply(np.array([[0.0, 10.0]])), [there], atol=1e-4)


@given(within_5km, within_5km, st.floats(-3.0, 3.0))
def test_geo_pose_round_trip(x_m: float, y_m: float, yaw_rad: float):
    pose = KARLSRUHE.map_from_ego(KARLSRUHE.geo_pose(SE2(x_m, y_m, yaw_rad)))
    assert (pose.x_m, pose.y_m, pose.yaw_rad) == pytest.approx((x_m, y_m, yaw_rad), abs=1e-3)


def test_off_the_globe_is_refused():
    with pytest.raises(ValueError, match="latitude"):
        GeoPose(99.0, 8.0)
