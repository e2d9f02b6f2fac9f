"""A georeferenced picture as a map: the user's own topology image in place of OpenStreetMap.

What is read: a GeoTIFF, or a PNG (or TIFF) with a world file; and beside it, with the suffix .json, a description:

    {"crs": "EPSG:25832",                        needed unless a GeoTIFF says it
     "legend": {"#ff0000": "road", ...}          colours of a colour picture, or
     "legend": {"1": "road", "2": "building"}    values of a grey one}

or, for several things on one pixel, a meaning for every colour plane:

    {"crs": ..., "red": "areas", "green": "ways", "classes": {"areas": {"1": "building"}, "ways": {"1": "fence"}}}

Names are those of `legend.CLASS_LAYERS`. Without any legend, what is not black in a grey picture is road. Roads, paths
and rails that are drawn as thin lines get the default width of the schema, and things with a place get their disc.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyproj
from jaxtyping import Bool, Float, Int8, UInt8, UInt32

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps import geotiff
from bevfusion.maps.legend import Masks, masks_of, read_description
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

SUFFIXES = (".png", ".tif", ".tiff")
MAX_PIXELS = 150_000_000
"""Larger pictures are refused before they are unpacked: they would not fit into memory."""

_LINE_WIDTH_M = 0.5
_BIT = {layer.name: np.uint32(1 << position) for position, layer in enumerate(LAYERS)}
_COS2, _SIN2 = layer_index("road_cos2"), layer_index("road_sin2")


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
        """With the map frame at the picture's centre."""
        x, y = crs_from_pixel @ (0.5 * (width - 1), 0.5 * (height - 1), 1.0)
        lon_deg, lat_deg = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
        if not (np.isfinite(lon_deg) and np.isfinite(lat_deg)):
            raise DataError(f"the picture's centre ({x}, {y}) is no place in its coordinate system {crs.name}")
        return cls(LocalFrame(float(lat_deg), float(lon_deg)), crs, crs_from_pixel)

    @cached_property
    def _crs_from_lon_lat(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)

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


class ImageMap:
    """Draws tiles of a georeferenced picture (a `MapSource`), each cell from the pixel at its centre."""

    def __init__(self, masks: Masks, place: Georeference, name: str = "") -> None:
        """Widen what is drawn thin, and estimate the direction of roads.

        Args:
            masks: for each layer that the picture shows, where (row 0 is the picture's first).
            place: where the picture lies.
            name: short name for tables.
        """
        self.frame = place.frame
        self.name = name
        self.summary = InputSummary(name)
        self._place = place
        self._height, self._width = next(iter(masks.values())).shape
        middle = np.array([0.5 * (self._width - 1), 0.5 * (self._height - 1)])
        # metres in the map frame of one pixel to the right and one down, at the picture's centre
        around_m = place.metres_from_pixels(middle + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        map_from_pixel = (around_m[1:] - around_m[0]).T
        pixel_m = np.hypot(*map_from_pixel)
        if "road" in masks:
            centre = masks["road"] if _is_thin(masks["road"]) else _ridge(masks["road"])
            masks = {"road_centre": centre, **masks}
        self._bits: UInt32[np.ndarray, "h w"] = np.zeros((self._height, self._width), np.uint32)
        widened = {layer: _widened(mask, layer, pixel_m) for layer, mask in masks.items()}
        for layer, mask in widened.items():
            self._bits[mask] |= _BIT[layer]
        self._layers = sorted(layer_index(layer) for layer in widened)
        self._twice: Int8[np.ndarray, "h w 2"] | None = None
        if "road" in widened:
            self._twice = _road_directions(widened["road"], map_from_pixel)
        edge = np.array([-0.5, -0.5]), np.array([self._width - 0.5, self._height - 0.5])
        corners_m = place.metres_from_pixels(
            np.array([[x, y] for x in (edge[0][0], edge[1][0]) for y in (edge[0][1], edge[1][1])])
        )
        low_m, high_m = corners_m.min(axis=0), corners_m.max(axis=0)
        self.bounds_m = (float(low_m[0]), float(low_m[1]), float(high_m[0]), float(high_m[1]))

    @classmethod
    def open(cls, path: Path) -> "ImageMap":
        """Read a picture, its place and its legend (see the top of this file).

        Raises:
            DataError: if the picture, its place or its legend is missing or cannot be used.
        """
        if not path.is_file():
            raise DataError(f"{path} is not a file; give a map picture ({', '.join(SUFFIXES)})")
        description = read_description(path.with_suffix(".json"))
        fields = geotiff.read_tiff_fields(path) if path.suffix.lower() != ".png" else {}
        crs_from_pixel = geotiff.crs_from_tiff_pixel(fields)
        if crs_from_pixel is None:
            crs_from_pixel = geotiff.read_world_file(path)
        if crs_from_pixel is None:
            raise DataError(f"{path} has no place on the globe; put a world file ({path.stem}.pgw, .tfw) beside it")
        if not np.isfinite(crs_from_pixel).all() or np.linalg.det(crs_from_pixel[:, :2]) == 0.0:
            raise DataError(f"{path} has a georeference without area: {crs_from_pixel.tolist()}")
        crs = _read_crs(path, description, fields)
        pixels = _read_pixels(path, fields)
        masks = masks_of(pixels, description, path)
        if not any(mask.any() for mask in masks.values()):
            raise DataError(f"{path} shows nothing that its legend ({path.stem}.json) maps to a layer")
        place = Georeference.centred(crs, crs_from_pixel, *pixels.shape[:2])
        return cls(masks, place, path.stem)

    def covers(self, x_m: float, y_m: float) -> bool:
        """Whether a place of the map frame lies on the picture."""
        col, row = self._place.pixels_from_metres(np.array([[x_m, y_m]]))[0]
        return bool(-0.5 <= col < self._width - 0.5 and -0.5 <= row < self._height - 0.5)

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> Int8[np.ndarray, "l h w"]:
        """All layers over a grid; see `MapSource.draw`. One-way directions are never known."""
        layers = np.zeros((len(LAYERS), grid.height, grid.width), np.int8)
        # projections bend too little over a tile to matter: three cells fix an affine map for the rest
        span = np.array([[0.0, 0.0], [float(grid.height), 0.0], [0.0, float(grid.width)]])
        tile_m = grid.metres_from_cells(span) * (1.0, -1.0 if mirrored else 1.0)
        origin, down, right = self._place.pixels_from_metres(map_from_tile.apply(tile_m))
        per_row, per_col = (down - origin) / grid.height, (right - origin) / grid.width
        rows, cols = np.arange(grid.height)[:, None], np.arange(grid.width)[None, :]
        x = np.floor(origin[0] + 0.5 + per_row[0] * rows + per_col[0] * cols)
        y = np.floor(origin[1] + 0.5 + per_row[1] * rows + per_col[1] * cols)
        inside = (x >= 0) & (x < self._width) & (y >= 0) & (y < self._height)
        x = np.clip(x, 0, self._width - 1).astype(np.int64)
        y = np.clip(y, 0, self._height - 1).astype(np.int64)
        bits = np.where(inside, self._bits[y, x], np.uint32(0))
        for layer in self._layers:
            layers[layer][(bits & np.uint32(1 << layer)) != 0] = 127
        if self._twice is not None:
            cos2, sin2 = np.moveaxis(self._twice[y, x] * inside[..., None], -1, 0).astype(np.float32)
            c, s = np.cos(2.0 * map_from_tile.yaw_rad), np.sin(2.0 * map_from_tile.yaw_rad)
            layers[_COS2] = np.rint(c * cos2 + s * sin2)
            layers[_SIN2] = np.rint((c * sin2 - s * cos2) * (-1.0 if mirrored else 1.0))
        return layers


def _is_thin(mask: Bool[np.ndarray, "h w"]) -> bool:
    """Whether a mask is made of lines or dots one to two pixels wide: little of it survives an erosion."""
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return bool(core.sum() < 0.2 * mask.sum())


def _ridge(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The middle of broad roads: where the distance to the border is highest around."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    highest: np.ndarray = cv2.dilate(depth, np.ones((3, 3), np.uint8))
    return mask & (depth >= highest - 0.25)


def _widened(mask: Bool[np.ndarray, "h w"], layer: str, pixel_m: Float[np.ndarray, " 2"]) -> Bool[np.ndarray, "h w"]:
    """A thin mask with the real width of its layer; areas and what is broad already stay as they are."""
    entry = LAYERS[layer_index(layer)]
    if entry.geometry == "area" or not mask.any() or (entry.geometry != "line" and not _is_thin(mask)):
        return mask
    width_m = entry.size_m or _LINE_WIDTH_M
    size = [2 * int(0.5 * width_m / step_m) + 1 for step_m in pixel_m]
    if entry.geometry == "line" and max(size) == 1:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def _road_directions(
    road: Bool[np.ndarray, "h w"], map_from_pixel: Float[np.ndarray, "2 2"]
) -> Int8[np.ndarray, "h w 2"]:
    """(cos, sin) of twice the road's direction in the map frame on road pixels, by the structure tensor of the mask."""
    sigma = 3.0 / np.hypot(*map_from_pixel)  # half the width of a road, in pixels along columns and rows
    smooth = cv2.GaussianBlur(road.astype(np.float32), (0, 0), sigmaX=0.5 * sigma[0], sigmaY=0.5 * sigma[1])
    slope = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], axis=-1)
    # a gradient is a covector: it turns with the inverse, and the road runs at a right angle to it
    across = slope @ np.linalg.inv(map_from_pixel).astype(np.float32)
    twice = -np.stack([across[..., 0] ** 2 - across[..., 1] ** 2, 2.0 * across[..., 0] * across[..., 1]], axis=-1)
    twice = cv2.GaussianBlur(twice, (0, 0), sigmaX=float(sigma[0]), sigmaY=float(sigma[1]))
    length = np.hypot(twice[..., 0], twice[..., 1])
    unit = twice / np.maximum(length, 1e-12)[..., None]
    return np.where((road & (length > 1e-9))[..., None], np.rint(127.0 * unit), 0.0).astype(np.int8)


def _read_crs(path: Path, description: Mapping[str, Any], fields: geotiff.Fields) -> pyproj.CRS:
    try:
        named = description.get("crs")
        crs = pyproj.CRS.from_user_input(named) if named else geotiff.crs_of_tiff(fields)
    except pyproj.exceptions.CRSError as error:
        raise DataError(f"{path}: the coordinate system cannot be read ({error})") from error
    if crs is None:
        raise DataError(f'{path} names no coordinate system; put {path.stem}.json beside it: {{"crs": "EPSG:25832"}}')
    return crs


def _read_pixels(path: Path, fields: geotiff.Fields) -> UInt8[np.ndarray, "h w *c"]:
    """Grey (h, w) or red, green, blue (h, w, 3); transparent pixels and those without data are 0."""
    if path.suffix.lower() == ".png":
        with path.open("rb") as file:
            head = file.read(24)
        if not head.startswith(b"\x89PNG"):
            raise DataError(f"{path} is no PNG picture; export it again")
        size = (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
    else:
        size = (int(fields.get(geotiff.WIDTH, (0,))[0]), int(fields.get(geotiff.HEIGHT, (0,))[0]))
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{path} has {size[0]} x {size[1]} pixels; cut it to at most {MAX_PIXELS // 1_000_000} million")
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError(f"{path} is not a readable picture; export it again")
    if pixels.dtype != np.uint8:
        if pixels.min() < 0 or pixels.max() > 255 or np.issubdtype(pixels.dtype, np.floating):
            raise DataError(f"{path} holds {pixels.dtype} values beyond 0..255; a map picture has classes or colours")
        pixels = pixels.astype(np.uint8)
    nodata = geotiff.nodata_value(fields)
    if pixels.ndim == 3:
        seen = pixels[..., 3] > 0 if pixels.shape[2] == 4 else np.ones(pixels.shape[:2], bool)
        pixels = np.where(seen[..., None], pixels[..., 2::-1], np.uint8(0))
    elif nodata is not None:
        pixels = np.where(pixels == nodata, np.uint8(0), pixels)
    return pixels
