"""Latitude and longitude <-> local metres: by pyproj, or by the scaled Mercator map of KITTI-360 and nuScenes."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyproj
from jaxtyping import Float

from bevfusion.geometry.se2 import SE2, wrap_angle

EARTH_RADIUS_M = 6378137.0


@dataclass(frozen=True, slots=True)
class GeoPose:
    """A place on the globe and a heading there: degrees WGS84, yaw in radians counter-clockwise from true east.

    Raises:
        ValueError: if a value is not finite or off the globe.
    """

    lat_deg: float
    lon_deg: float
    yaw_rad: float = 0.0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.lat_deg) and math.isfinite(self.lon_deg) and math.isfinite(self.yaw_rad)
        if not finite or abs(self.lat_deg) > 90.0 or abs(self.lon_deg) > 180.0:
            raise ValueError(f"expected latitude in [-90, 90] and longitude in [-180, 180], got {self}")


@dataclass(frozen=True)
class LocalFrame:
    """East-north metres about an origin: the map frame.

    An azimuthal equidistant projection of the WGS84 ellipsoid: at 5 km from the origin it differs from the tangent
    plane by less than a millimetre, and height plays no part, as it should on a flat map.
    """

    origin_lat_deg: float
    origin_lon_deg: float

    @cached_property
    def _projection(self) -> pyproj.Proj:
        return pyproj.Proj(proj="aeqd", lat_0=self.origin_lat_deg, lon_0=self.origin_lon_deg, datum="WGS84", units="m")

    def metres_from_degrees(self, lat_deg: float, lon_deg: float) -> tuple[float, float]:
        """(x east, y north) in metres."""
        x_m, y_m = self._projection(lon_deg, lat_deg)
        return x_m, y_m

    def many_metres_from_degrees(self, lat_lon_deg: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """The same for many points at once: (lat, lon) in, (x, y) out."""
        return np.stack(self._projection(lat_lon_deg[:, 1], lat_lon_deg[:, 0]), axis=1)

    def degrees_from_metres(self, x_m: float, y_m: float) -> tuple[float, float]:
        """(lat, lon) in degrees: the inverse of `metres_from_degrees`."""
        lon_deg, lat_deg = self._projection(x_m, y_m, inverse=True)
        return lat_deg, lon_deg

    def _convergence_rad(self, lat_deg: float, lon_deg: float) -> float:
        """Angle of true north at a place, counter-clockwise from the map's y axis (0.1 degrees at 10 km, 49 N)."""
        step_deg = 1e-5 if lat_deg < 89.9 else -1e-5
        x0_m, y0_m = self.metres_from_degrees(lat_deg, lon_deg)
        x1_m, y1_m = self.metres_from_degrees(lat_deg + step_deg, lon_deg)
        sign = math.copysign(1.0, step_deg)
        return math.atan2(-sign * (x1_m - x0_m), sign * (y1_m - y0_m))

    def map_from_ego(self, pose: GeoPose) -> SE2:
        """The pose in map axes, with the meridian's convergence taken into account."""
        x_m, y_m = self.metres_from_degrees(pose.lat_deg, pose.lon_deg)
        return SE2(x_m, y_m, wrap_angle(pose.yaw_rad + self._convergence_rad(pose.lat_deg, pose.lon_deg)))

    def geo_pose(self, map_from_ego: SE2) -> GeoPose:
        """The inverse of `map_from_ego`."""
        lat_deg, lon_deg = self.degrees_from_metres(map_from_ego.x_m, map_from_ego.y_m)
        return GeoPose(lat_deg, lon_deg, wrap_angle(map_from_ego.yaw_rad - self._convergence_rad(lat_deg, lon_deg)))


def degrees_from_mercator(
    xy_m: Float[np.ndarray, "n 2"], origin_lat_deg: float, origin_lon_deg: float
) -> Float[np.ndarray, "n 2"]:
    """Latitude and longitude of points x east, y north of an origin.

    The projection keeps angles, and its north is the meridian's everywhere: headings need no correction.
    """
    scale_m = EARTH_RADIUS_M * np.cos(np.deg2rad(origin_lat_deg))
    northing = np.log(np.tan(0.25 * np.pi + 0.5 * np.deg2rad(origin_lat_deg))) + xy_m[:, 1] / scale_m
    lat_deg = np.rad2deg(2.0 * np.arctan(np.exp(northing)) - 0.5 * np.pi)
    lon_deg = origin_lon_deg + np.rad2deg(xy_m[:, 0] / scale_m)
    return np.stack([lat_deg, lon_deg], axis=1)
