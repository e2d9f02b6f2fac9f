"""A map file that holds features -> `OsmMap`, by whichever reader its suffix asks for.

`maps/source.py` opens any map to draw tiles of it; simulating and tiling need the features themselves.
"""

from pathlib import Path

from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm import read_osm
from bevfusion.maps.osm_formats import suffix_of
from bevfusion.maps.vector import SUFFIXES as VECTOR_SUFFIXES
from bevfusion.maps.vector import is_vector, read_vector
from bevfusion.structures import DataError

_CONVERTED = {
    ".kml .kmz .gml .dxf .tab .mif .gdb .sqlite .topojson .mbtiles .pmtiles": "ogr2ogr -f GPKG {stem}.gpkg {path}",
    ".vrt .jp2 .img .asc .bil .gif .bmp .ecw .pdf": "gdal_translate {path} {stem}.tif",
    ".opl .o5c": "osmium cat {path} --output {stem}.osm.pbf",
}
"""Suffixes of maps that other programs turn into one that is read, and how."""

_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz")


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
    check_foreign(path)
    raise DataError(
        f"{path} holds no roads and walls as features, by its suffix: give the extract that it was drawn from (.osm, "
        f".osm.pbf, ..., {', '.join(VECTOR_SUFFIXES)}); `bevfusion map LAT,LON --output town.osm.pbf` fetches one"
    )


def check_foreign(path: Path) -> None:
    """Refuse maps of other programs, with the command that converts them.

    Raises:
        DataError: if a path is one of those by its suffix.
    """
    suffix = path.suffix.lower()
    for suffixes, command in _CONVERTED.items():
        if suffix in suffixes.split():
            how = command.format(stem=path.stem, path=path.name)
            raise DataError(f"{path} is no map by its suffix; convert it: {how}")
    if suffix in _ARCHIVES:
        raise DataError(f"{path} is an archive; unpack it, and give the map in it")
