"""Which map file that was, and how old: for reports."""

import hashlib
import re
from datetime import datetime, timezone
from io import BufferedIOBase
from pathlib import Path

import osmium

from bevfusion.maps.osm_formats import PACKING_ERRORS, open_content, suffix_of
from bevfusion.maps.tile_file import SUFFIX, TileFile

_SEARCHED_BYTES = 30_000_000
"""Larger files are not read through for their newest edit; their header may still tell a date."""

_EDITED = (osmium.osm.Node, osmium.osm.Way, osmium.osm.Relation)
_HEADER_DATES = ("osmosis_replication_timestamp", "timestamp")
_DATE = rb"(\d{4}-\d\d-\d\d)T"
_SERVER_DATE = re.compile(rb"\b(?:timestamp_)?osm_base\"?\s*[=:]\s*[\"']" + _DATE)
_EDIT_DATE = re.compile(rb"\btimestamp\"?\s*[=:]\s*[\"']" + _DATE)
_OVERLAP_BYTES = 64


def map_provenance(path: Path) -> dict[str, str | None]:
    """File, content hash, date of the data (ISO, as the file itself says; None where it does not) and of the file."""
    written = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    digest = hashlib.sha256()
    for part in [path] if path.is_file() else sorted(part for part in path.iterdir() if part.is_file()):
        with part.open("rb") as file:
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
    if suffix_of(path) is None:
        return None
    try:
        content, stream, packed = open_content(path)
        with stream:
            if content in ("xml", "json"):
                return _date_of_text(stream)
            return None if packed else _date_of_binary(path, content)
    except (RuntimeError, ValueError, *PACKING_ERRORS):
        return None  # the map was read, so this is no reason to stop


def _date_of_text(stream: BufferedIOBase) -> str | None:
    """What a server says of its data, else the newest edit of any object, in a file of moderate size."""
    newest, searched, rest = "", 0, b""
    while (block := stream.read(1 << 20)) and searched < _SEARCHED_BYTES:
        text = rest + block
        server = _SERVER_DATE.search(text)
        if server is not None:
            return server[1].decode()
        newest = max((newest, *(date.decode() for date in _EDIT_DATE.findall(text))))
        searched, rest = searched + len(block), block[-_OVERLAP_BYTES:]
    return _newest_edit(newest) if searched < _SEARCHED_BYTES else None


def _date_of_binary(path: Path, content: str) -> str | None:
    """What the header says, else the newest edit of any object, in a file of moderate size."""
    stream = osmium.FileProcessor(osmium.io.File(str(path), content))
    for key in _HEADER_DATES:
        if stream.header.get(key):
            return str(stream.header.get(key))[:10]
    if path.stat().st_size > _SEARCHED_BYTES:
        return None
    edits = (item.timestamp for item in stream if isinstance(item, _EDITED))
    newest = max(edits, default=None)
    return None if newest is None else _newest_edit(f"{newest:%Y-%m-%d}")


def _newest_edit(date: str) -> str | None:
    """OpenStreetMap began in 2004; what is older is no date."""
    return f"newest edit {date}" if date >= "2004" else None
