"""Which map file that was, and how old: for reports."""

import hashlib
from datetime import datetime, timezone
from pathlib import Path

import osmium

from bevfusion.maps.osm import osm_format
from bevfusion.maps.tile_file import SUFFIX, TileFile

_SEARCHED_BYTES = 30_000_000
"""Larger files are not read through for their newest edit; their header may still tell a date."""

_EDITED = (osmium.osm.Node, osmium.osm.Way, osmium.osm.Relation)
_HEADER_DATES = ("osmosis_replication_timestamp", "timestamp")


def map_provenance(path: Path) -> dict[str, str | None]:
    """File, content hash, date of the data (ISO, as the file itself says; None where it does not) and of the file."""
    written = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {
        "file": str(path),
        "sha256": digest.hexdigest(),
        "data_date": _data_date(path),
        "file_date": f"{written:%Y-%m-%d}",
    }


def _data_date(path: Path) -> str | None:
    if path.suffix == SUFFIX:
        return TileFile(path).contents.made_from.get("data_date")
    return _osm_date(path) if osm_format(path) is not None else None


def _osm_date(path: Path) -> str | None:
    """What the header says, else the newest edit of any object."""
    try:
        stream = osmium.FileProcessor(osmium.io.File(str(path), osm_format(path) or ""))
        for key in _HEADER_DATES:
            if stream.header.get(key):
                return str(stream.header.get(key))[:10]
        if path.stat().st_size > _SEARCHED_BYTES:
            return None
        edits = (item.timestamp for item in stream if isinstance(item, _EDITED))
        newest = max(edits, default=None)
    except (RuntimeError, ValueError):
        return None  # the map was read, so this is no reason to stop
    return None if newest is None or newest.year < 2004 else f"newest edit {newest:%Y-%m-%d}"
