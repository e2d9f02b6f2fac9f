"""A map file that holds features -> `OsmMap`, by whichever reader its suffix asks for.

`maps/source.py` opens any map to draw tiles of it; simulating and tiling need the features themselves.
"""

from pathlib import Path

from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm import read_osm
from bevfusion.maps.osm_formats import SUFFIXES as OSM_SUFFIXES
from bevfusion.maps.osm_formats import suffix_of
from bevfusion.maps.vector import SUFFIXES as VECTOR_SUFFIXES
from bevfusion.maps.vector import is_vector, read_vector
from bevfusion.structures import DataError

SUFFIXES: tuple[str, ...] = (*OSM_SUFFIXES, *VECTOR_SUFFIXES)
"""Of files that hold features; a folder of vector files is one map, too."""


def holds_features(path: Path) -> bool:
    """Whether a path is such a file by its suffix."""
    return suffix_of(path) is not None or is_vector(path)


def read_features(path: Path) -> OsmMap:
    """Roads, areas, lines and points of an OpenStreetMap extract or of vector files (GeoPackage, GeoJSON, Overture).

    Raises:
        DataError: if the file holds no features by its suffix, or cannot be read.
    """
    if suffix_of(path) is not None:
        return read_osm(path)
    if is_vector(path):
        return read_vector(path)
    raise DataError(
        f"{path} holds no roads and walls as features, by its suffix: give the extract that it was drawn from "
        f"({', '.join(SUFFIXES)}); `bevfusion map LAT,LON --output town.osm.pbf` fetches one"
    )
