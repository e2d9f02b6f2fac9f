"""Local metres that are a Mercator map scaled to be true at its origin, as KITTI-360 and nuScenes have them."""

import numpy as np
from jaxtyping import Float

EARTH_RADIUS_M = 6378137.0


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
