"""A georeferenced picture as a map: the user's own topology image in place of OpenStreetMap.

What is read: a GeoTIFF, or a PNG (TIFF, JPEG, WebP) with a world file; and beside it, with the suffix .json, a
description:

    {"crs": "EPSG:25832",                        needed unless the file (GeoTIFF, .aux.xml, .prj) says it
     "legend": {"#ff0000": "road", ...}          colours of a picture in colour or with a palette, or
     "legend": {"1": "road", "2": "building"}    values of a grey one or of a palette; of any depth

or, for several things on one pixel, a meaning for every colour plane:

    {"crs": ..., "red": "areas", "green": "ways", "classes": {"areas": {"1": "building"}, "ways": {"1": "fence"}}}

Names are those of `legend.CLASS_LAYERS`. Without any legend, what is not black in a grey picture is road. Roads, paths
and rails that are drawn as thin lines get the default width of the schema, and things with a place get their disc.
Pixels without data (a mask, alpha, the value that the file marks) show nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from jaxtyping import Float, Int8

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.classes import ClassPicture, PixelKind, bits_type, classifier, needs_brightest
from bevfusion.maps.georeference import Georeference, offset_m, read_crs
from bevfusion.maps.legend import legend_of, read_description
from bevfusion.maps.raster import SUFFIXES, Picture, open_picture
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.maps.strokes import drawn
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

_COS2, _SIN2 = layer_index("road_cos2"), layer_index("road_sin2")


class ImageMap:
    """Draws tiles of a georeferenced picture (a `MapSource`), each cell from the pixel at its centre."""

    def __init__(
        self, classes: ClassPicture, place: Georeference, name: str = "", summary: InputSummary | None = None
    ) -> None:
        """Widen what is drawn thin, and estimate the direction of roads.

        Args:
            classes: what the pixels show; its bits may be changed.
            place: where the picture lies.
            name: short name for tables.
            summary: what was assumed about the picture, and what was odd.
        """
        self.frame = place.frame
        self.name = name
        self.summary = summary or InputSummary(name)
        self._place = place
        self._height, self._width = classes.bits.shape
        strokes = drawn(classes, place.map_from_pixel(self._height, self._width))
        self._bits = strokes.classes.bits
        self._layers = tuple(layer_index(layer) for layer in strokes.classes.layers)
        self._twice, self._step = strokes.twice, strokes.step
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
        summary = InputSummary(path.name)
        with open_picture(path, summary) as picture:
            description = read_description(path.with_suffix(".json"))
            crs_from_pixel = picture.crs_from_pixel()
            crs = _chosen_crs(path, description, picture, crs_from_pixel, summary)
            try:
                place = Georeference.centred(crs, crs_from_pixel, picture.height, picture.width)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            place.tell(picture.height, picture.width, summary)
            classes = _classes(picture, description, path, summary)
        if not classes.bits.any():
            why = next(
                (f"; {note.text}" for note in summary.of_kind("lost", "ignored") if note.subject == "legend"), ""
            )
            raise DataError(f"{path} shows nothing that its legend ({path.stem}.json) maps to a layer{why}")
        return cls(classes, place, path.stem, summary)

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
        bits = np.where(inside, self._bits[y, x], self._bits.dtype.type(0))
        for position, layer in enumerate(self._layers):
            layers[layer][(bits & bits.dtype.type(1 << position)) != 0] = 127
        if self._twice is not None:
            twice = self._twice[y // self._step, x // self._step]
            if self._step > 1:  # squares of pixels reach beyond the road
                twice = twice * (layers[layer_index("road")] > 0)[..., None]
            cos2, sin2 = np.moveaxis(twice * inside[..., None], -1, 0).astype(np.float32)
            c, s = np.cos(2.0 * map_from_tile.yaw_rad), np.sin(2.0 * map_from_tile.yaw_rad)
            layers[_COS2] = np.rint(c * cos2 + s * sin2)
            layers[_SIN2] = np.rint((c * sin2 - s * cos2) * (-1.0 if mirrored else 1.0))
        return layers


def classes_of(pixels: Any, description: Mapping[str, Any], path: Path, summary: InputSummary) -> ClassPicture:
    """What a picture in memory shows, (h, w) grey or (h, w, 3) red, green, blue in 8 bits.

    Raises:
        DataError: if its legend cannot be used.
    """
    stacked = pixels[..., None] if pixels.ndim == 2 else pixels
    legend = legend_of(description, path, summary)
    try:
        reader = classifier(legend, PixelKind(stacked.shape[-1], stacked.dtype, colour=stacked.shape[-1] == 3))
        chosen = stacked[..., list(reader.bands)]
        bits = reader.classify(chosen, np.ones(chosen.shape, bool))
    except ValueError as error:
        raise DataError(f"{path.with_suffix('.json')}: the legend cannot be used ({error})") from error
    reader.tell(summary)
    return ClassPicture(bits, reader.layers)


def _classes(picture: Picture, description: Mapping[str, Any], path: Path, summary: InputSummary) -> ClassPicture:
    legend = legend_of(description, path, summary)
    try:
        brightest = picture.brightest() if needs_brightest(legend, picture.kind) else None
        reader = classifier(legend, picture.kind, brightest)
        bits = np.zeros((picture.height, picture.width), bits_type(len(reader.layers)))
        for first, pixels, seen in picture.strips(reader.bands):
            bits[first : first + len(pixels)] = reader.classify(pixels, seen)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path.with_suffix('.json')}: the legend cannot be used ({error})") from error
    reader.tell(summary)
    return ClassPicture(bits, reader.layers)


def _chosen_crs(
    path: Path,
    description: Mapping[str, Any],
    picture: Picture,
    crs_from_pixel: Float[np.ndarray, "2 3"],
    summary: InputSummary,
) -> pyproj.CRS:
    """The system that the JSON names, else that of the file; if they disagree, it is said by how much."""
    named = description.get("crs")
    if named is None:
        if picture.crs is None:
            hint = f'put {path.stem}.json beside it: {{"crs": "EPSG:25832"}}'
            raise DataError(f"{path} names no coordinate system; {hint}")
        return picture.crs
    chosen = read_crs(named, str(path.with_suffix(".json")))
    if picture.crs is not None and picture.crs != chosen:
        apart_m = offset_m(chosen, picture.crs, crs_from_pixel, picture.height, picture.width)
        if not apart_m <= 0.5:
            text = f"{path.stem}.json names {chosen.name}, the file {picture.crs.name}: they lie "
            text += f"{apart_m / 1000:,.1f} km apart" if apart_m >= 1000 else f"{apart_m:.1f} m apart"
            summary.add("warning", "crs", f"{text}; the JSON counts")
    return chosen
