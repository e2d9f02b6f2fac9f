"""Where a picture lies on the globe: its coordinate reference system, and pixels <-> the map frame."""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyproj
from jaxtyping import Float
from pyproj.exceptions import CRSError, ProjError
from pyproj.transformer import AreaOfInterest, TransformerGroup

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

MAX_EXTENT_M = 200_000.0
"""Beyond this the flat map frame is a poor map."""

_SMALLEST_PIXEL_M, _LARGEST_PIXEL_M, _COARSE_PIXEL_M = 0.001, 100.0, 2.0
_LARGEST_NUMBER = 1e15  # no system of coordinates counts so far
_GOOD_M = 1.0  # datum shifts are told beyond this
_WORLD = "EPSG:4326"


@dataclass(frozen=True)
class Georeference:
    """Pixels <-> the map frame."""

    frame: LocalFrame
    crs: pyproj.CRS
    crs_from_pixel: Float[np.ndarray, "2 3"]  # of (column, row, 1) at pixel centres

    @classmethod
    def centred(
        cls, crs: pyproj.CRS, crs_from_pixel: Float[np.ndarray, "2 3"], height: int, width: int
    ) -> "Georeference":
        """With the map frame at the picture's centre.

        Raises:
            DataError: if the picture lies nowhere on the globe, or has a size that no map has.
        """
        linear = crs_from_pixel[:, :2]
        if not np.isfinite(crs_from_pixel).all() or np.abs(crs_from_pixel).max() > _LARGEST_NUMBER:
            raise DataError(f"the georeference holds numbers beyond all measure: {crs_from_pixel.tolist()}")
        if np.linalg.matrix_rank(linear) < 2:
            raise DataError(f"the georeference is without area: {crs_from_pixel.tolist()}")
        corners = np.array([[x, y, 1.0] for y in (-0.5, height - 0.5) for x in (-0.5, width - 0.5)]) @ crs_from_pixel.T
        _check_horizontal(crs, corners)
        x, y = crs_from_pixel @ (0.5 * (width - 1), 0.5 * (height - 1), 1.0)
        lon_deg, lat_deg = _transformer(crs).transform(x, y, direction="INVERSE")
        if not (np.isfinite(lon_deg) and np.isfinite(lat_deg)):
            raise DataError(f"the picture's centre ({x:g}, {y:g}) is no place in its coordinate system {crs.name}")
        place = cls(LocalFrame(float(lat_deg), float(lon_deg)), crs, crs_from_pixel)
        place._check_size(height, width)
        return place

    def _check_size(self, height: int, width: int) -> None:
        edges = np.array([[x, y] for y in (-0.5, height - 0.5) for x in (-0.5, width - 0.5)])
        corners_m = self.metres_from_pixels(edges)
        pixel_m = self.pixel_m(height, width)
        wrong = f"lies in {self.crs.name} with pixels of {pixel_m[0]:.3g} x {pixel_m[1]:.3g} m"
        if not np.isfinite(corners_m).all():
            raise DataError(f"the picture {wrong}, and its corners are no places there")
        if np.ptp(corners_m, axis=0).max() > MAX_EXTENT_M:
            raise DataError(f"the picture {wrong}: it spans more than {MAX_EXTENT_M / 1000:.0f} km; cut what you need")
        if pixel_m.min() < _SMALLEST_PIXEL_M or pixel_m.max() > _LARGEST_PIXEL_M:
            raise DataError(f"the picture {wrong}; its numbers and its coordinate system do not belong together")

    def map_from_pixel(self, height: int, width: int) -> Float[np.ndarray, "2 2"]:
        """Metres in the map frame of one pixel to the right and one down (columns), at the picture's centre."""
        middle = np.array([0.5 * (width - 1), 0.5 * (height - 1)])
        around_m = self.metres_from_pixels(middle + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        step: np.ndarray = (around_m[1:] - around_m[0]).T
        return step

    def pixel_m(self, height: int, width: int) -> Float[np.ndarray, " 2"]:
        """Metres of a pixel along columns and rows."""
        size: np.ndarray = np.hypot(*self.map_from_pixel(height, width))
        return size

    @cached_property
    def _crs_from_lon_lat(self) -> pyproj.Transformer:
        return _transformer(self.crs)

    def pixels_from_metres(self, xy_m: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Real-valued (column, row) of points of the map frame."""
        lat_lon_deg = np.array([self.frame.degrees_from_metres(float(x), float(y)) for x, y in xy_m])
        crs_xy = np.stack(self._crs_from_lon_lat.transform(lat_lon_deg[:, 1], lat_lon_deg[:, 0]), axis=1)
        pixels: np.ndarray = np.linalg.solve(self.crs_from_pixel[:, :2], (crs_xy - self.crs_from_pixel[:, 2]).T).T
        return pixels

    def metres_from_pixels(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Points of the map frame at real-valued (column, row)."""
        crs_xy = pixels @ self.crs_from_pixel[:, :2].T + self.crs_from_pixel[:, 2]
        lon, lat = self._crs_from_lon_lat.transform(crs_xy[:, 0], crs_xy[:, 1], direction="INVERSE")
        return self.frame.many_metres_from_degrees(np.stack([lat, lon], axis=1))

    def tell(self, height: int, width: int, summary: InputSummary) -> None:
        """Note a datum that WGS84 knows only roughly, and pixels that are coarse."""
        lon, lat = self.frame.origin_lon_deg, self.frame.origin_lat_deg
        area = AreaOfInterest(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of missing grids: they are told below
            ways = TransformerGroup(self.crs, _WORLD, always_xy=True, area_of_interest=area)
        accuracy_m = ways.transformers[0].accuracy if ways.transformers else -1.0
        if self.crs.geodetic_crs is not None and accuracy_m > _GOOD_M:
            better = "; a grid that PROJ lacks here would be better" if not ways.best_available else ""
            summary.add("assumed", "datum", f"{self.crs.name} is turned into WGS84 to {accuracy_m:g} m{better}")
        largest_m = self.pixel_m(height, width).max()
        if largest_m > _COARSE_PIXEL_M:
            summary.add("warning", "pixels", f"one pixel is {largest_m:.1f} m wide: walls and kerbs stand only so well")


def read_crs(named: object, path: str) -> pyproj.CRS:
    """The system that the JSON beside a picture names: "EPSG:25832", 25832, PROJ or WKT text, PROJJSON.

    Raises:
        DataError: if it is none.
    """
    if isinstance(named, str) and named.strip().isdecimal():
        named = int(named) if len(named) < 10 else named
    elif isinstance(named, bool) or not isinstance(named, str | int | dict) or named == "":
        raise DataError(f'{path}: crs must be a code or a text such as "EPSG:25832"')
    try:
        return pyproj.CRS.from_user_input(named)
    except (CRSError, TypeError, ValueError, OverflowError, RecursionError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: the coordinate system cannot be read ({reason})") from error


def offset_m(
    one: pyproj.CRS, other: pyproj.CRS, crs_from_pixel: Float[np.ndarray, "2 3"], height: int, width: int
) -> float:
    """How far apart two systems put a picture: the larger distance of two opposite corners; infinite if one cannot."""
    corners = np.array([[-0.5, -0.5, 1.0], [width - 0.5, height - 0.5, 1.0]]) @ crs_from_pixel.T
    places = []
    for crs in (one, other):
        try:
            lon, lat = _transformer(crs).transform(corners[:, 0], corners[:, 1], direction="INVERSE")
        except (DataError, ProjError):
            return math.inf
        places.append((lon, lat))
    if not np.isfinite(places).all():
        return math.inf
    _, _, distance_m = pyproj.Geod(ellps="WGS84").inv(*places[0], *places[1])
    return float(np.max(distance_m))


def _transformer(crs: pyproj.CRS) -> pyproj.Transformer:
    """From (longitude, latitude) WGS84 to (x, y) as GIS files hold them: east or longitude first."""
    try:
        return pyproj.Transformer.from_crs(_WORLD, crs, always_xy=True)
    except ProjError as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"the coordinate system {crs.name} is not one of the Earth's surface ({reason})") from error


def _check_horizontal(crs: pyproj.CRS, corners: Float[np.ndarray, "4 2"]) -> None:
    """Refuse systems that do not say where on the globe a flat picture lies, and degrees that are metres."""
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if not (crs.is_geographic or crs.is_projected) or crs.is_geocentric:
        kind = "geocentric" if crs.is_geocentric else "vertical" if crs.is_vertical else crs.type_name
        raise DataError(
            f"the coordinate system {crs.name} ({kind}) does not say where on the globe a picture lies; "
            "name a projected one such as EPSG:25832"
        )
    if crs.is_geographic:
        units = [axis.unit_conversion_factor for axis in crs.axis_info] or [math.pi / 180.0]
        lon, lat = np.abs(corners).max(axis=0) * units[0]
        if lon > 2.0 * math.pi + 1e-6 or lat > 0.5 * math.pi + 1e-6:
            raise DataError(
                f"the coordinate system {crs.name} counts degrees, and the picture's corner is "
                f"({corners[0, 0]:.10g}, {corners[0, 1]:.10g}): name the projected system of these numbers"
            )
