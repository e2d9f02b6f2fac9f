"""What a map is to the rest of the package, and opening one by the suffix of its file."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int8

from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.image import ImageMap
from bevfusion.maps.raster import SUFFIXES
from bevfusion.maps.reading import check_foreign, holds_features, read_features
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.tile_file import SUFFIX, TileFile
from bevfusion.maps.tiled import TiledMap
from bevfusion.maps.vector import SUFFIXES as VECTOR_SUFFIXES
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

log = logging.getLogger(__name__)


@runtime_checkable  # the type checks of the tests ask for it
class MapSource(Protocol):
    """Anything that draws tiles: an OpenStreetMap extract, what was drawn of one to disk, a georeferenced picture."""

    @property
    def frame(self) -> LocalFrame:
        """The map frame."""

    @property
    def name(self) -> str:
        """Short name for tables and reports."""

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max of the box in the map frame that the map covers."""

    @property
    def summary(self) -> InputSummary:
        """What was read of the file, what was left, assumed and lost."""

    def covers(self, x_m: float, y_m: float) -> bool:
        """Whether a place of the map frame lies on the map."""

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> Int8[np.ndarray, "l h w"]:
        """All layers over a grid in the order of `schema.LAYERS`, 127 for 1.0, directions in tile axes.

        With `mirrored` the tile's y axis is turned round: its point (x, y) is map_from_tile.apply((x, -y)).
        """


def open_map(path: str | os.PathLike[str]) -> MapSource:
    """The map in a file, read according to its suffix; what there is to know about it is logged.

    Raises:
        DataError: if the suffix is unknown or the file cannot be used.
    """
    source = _opened(Path(path))
    source.summary.log(log)
    return source


def _opened(path: Path) -> MapSource:
    if holds_features(path):
        return OsmRenderer(read_features(path))
    if path.suffix.lower() in SUFFIXES:
        return ImageMap.open(path)
    if path.suffix == SUFFIX:
        return TiledMap(TileFile(path))
    check_foreign(path)
    vectors, pictures = ", ".join(VECTOR_SUFFIXES), ", ".join(SUFFIXES)
    raise DataError(
        f"{path} is no map by its suffix; maps are extracts of OpenStreetMap (.osm, .osm.pbf, .o5m, .osc, .osm.json, "
        f"also .gz, .bz2, .xz, .zst, .zip), vector files ({vectors}), pictures ({pictures}) and {SUFFIX}"
    )


def first_covering(sources: Sequence[MapSource], place: GeoPose) -> tuple[int, SE2] | None:
    """Which of several maps is the first to cover a place, and the pose in its frame; None if none does."""
    for index, source in enumerate(sources):
        pose = source.frame.map_from_ego(place)
        if source.covers(pose.x_m, pose.y_m):
            return index, pose
    return None


def off_all_maps(sources: Sequence[MapSource], place: GeoPose, name: str) -> str:
    """What to say of a place that no map covers: where each map lies, and whether the other order of numbers would do.

    Args:
        sources: the maps.
        place: that none of them covers.
        name: what it is to the user.
    """
    swapped = GeoPose(place.lon_deg, place.lat_deg) if abs(place.lon_deg) <= 90.0 else None
    hint = "" if swapped is None or first_covering(sources, swapped) is None else "; latitude and longitude swapped?"
    extents = "; ".join(f"{source.name}: {_extent_told(source)}" for source in sources)
    return f"{name} {place.lat_deg:.6f}, {place.lon_deg:.6f} lies on none of the maps ({extents}){hint}"


def _extent_told(source: MapSource) -> str:
    """The box of a map in degrees."""
    x0, y0, x1, y1 = source.bounds_m
    south, west = source.frame.degrees_from_metres(x0, y0)
    north, east = source.frame.degrees_from_metres(x1, y1)
    return f"latitude {south:.5f} to {north:.5f}, longitude {west:.5f} to {east:.5f}"
