"""OpenStreetMap extracts from an Overpass server: asked for once, politely, and kept on disk.

The Overpass API (https://wiki.openstreetmap.org/wiki/Overpass_API) answers with status 200 also where a query was
stopped half-way: a <remark> tells it. So an answer counts only if it is whole: complete XML, no remark, every way with
all of its nodes.
"""

import gzip
import hashlib
import http.client
import io
import json
import logging
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import osmium

from bevfusion import __version__
from bevfusion.files import atomic_file, check_writable, user_cache, write_text
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.parsing import read_json
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

PUBLIC_SERVER = "https://overpass-api.de/api/interpreter"
ATTRIBUTION = "(c) OpenStreetMap contributors, Open Database License (ODbL) 1.0, openstreetmap.org/copyright"
FORMATS = (".osm.pbf", ".pbf", ".osm", ".osm.gz", ".osm.bz2")
"""Suffixes of files that can be written."""

MAX_SIDE_M = 20_000.0
"""Wider boxes are refused: servers are shared, and whole cities are offered as files elsewhere."""

TIMEOUT_S = 180.0
WAITS_S = (2.0, 10.0, 30.0)
"""Pauses before a request is repeated that the server was too busy for."""

_MAX_NOTE_BYTES = 1 << 20
_MAX_BYTES = 500_000_000
_LONGEST_WAIT_S = 90.0
_GRACE_S = 10.0  # so much longer than the server may take is waited
_OLD_DAYS = 180
_BUSY = (429, 502, 503, 504)
_AGENT = f"bevfusion/{__version__} (LiDAR localization on OpenStreetMap)"
_SUFFIX = ".osm.pbf"
_QUERY = """[out:xml][timeout:{timeout_s}];
(node({box});way({box});relation["type"="multipolygon"]({box}););
(._;>;);
out body;"""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in degrees WGS84.

    Raises:
        DataError: if it has no area, reaches over the antimeridian or a pole, or is too large to be asked for.
    """

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        values = (self.south, self.west, self.north, self.east)
        if not all(map(math.isfinite, values)) or abs(self.south) > 85.0 or abs(self.north) > 85.0:
            raise DataError(f"no extract can be fetched near a pole: {self}")
        if not (self.south < self.north and -180.0 <= self.west < self.east <= 180.0):
            raise DataError(f"no extract can be fetched for a box without area, or across the antimeridian: {self}")
        width_m, height_m = self.size_m
        if max(width_m, height_m) > MAX_SIDE_M:
            raise DataError(
                f"an extract of {width_m / 1000:.1f} x {height_m / 1000:.1f} km is too large to be fetched (at most "
                f"{MAX_SIDE_M / 1000:.0f} km a side); take the file of the region (download.geofabrik.de) as --map"
            )

    @classmethod
    def around(cls, places: Sequence[GeoPose], margin_m: float) -> "Box":
        """The smallest box that holds all places and so much around each.

        Raises:
            DataError: as the class, or if there are no places.
        """
        if not places:
            raise DataError("no extract can be fetched without a place")
        longitudes = [place.lon_deg for place in places]
        if max(longitudes) - min(longitudes) > 180.0:
            raise DataError("no extract can be fetched across the antimeridian; give the map as a file")
        if max(abs(place.lat_deg) for place in places) > 85.0:
            raise DataError("no extract can be fetched near a pole; give the map as a file")
        boxes = [_around(place.lat_deg, place.lon_deg, margin_m) for place in places]
        if any(box[1] > box[3] for box in boxes):
            raise DataError("no extract can be fetched across the antimeridian; give the map as a file")
        south, west, north, east = zip(*boxes, strict=True)
        return cls(min(south), min(west), max(north), max(east))

    @property
    def size_m(self) -> tuple[float, float]:
        """(width, height)."""
        frame = LocalFrame(0.5 * (self.south + self.north), 0.5 * (self.west + self.east))
        (x0, y0), (x1, y1) = (
            frame.metres_from_degrees(self.south, self.west),
            frame.metres_from_degrees(self.north, self.east),
        )
        return abs(x1 - x0), abs(y1 - y0)

    def holds(self, other: "Box") -> bool:
        """Whether another box lies within this one."""
        return (
            self.south <= other.south
            and self.west <= other.west
            and self.north >= other.north
            and self.east >= other.east
        )

    def text(self) -> str:
        """South, west, north, east, as Overpass has it."""
        return f"{self.south:.7f},{self.west:.7f},{self.north:.7f},{self.east:.7f}"


def _around(lat_deg: float, lon_deg: float, margin_m: float) -> tuple[float, float, float, float]:
    frame = LocalFrame(lat_deg, lon_deg)
    south, north = (frame.degrees_from_metres(0.0, sign * margin_m)[0] for sign in (-1.0, 1.0))
    west, east = (frame.degrees_from_metres(sign * margin_m, 0.0)[1] for sign in (-1.0, 1.0))
    return south, west, north, east


def cache_folder() -> Path:
    """Where extracts are kept: in the user's folder for caches."""
    return user_cache("overpass")


def cached_extract(box: Box, server: str = PUBLIC_SERVER, folder: Path | None = None, **options: Any) -> Path:
    """The extract of a box: one that is kept and holds it, else fetched and kept, with its date and attribution.

    Args:
        box: of which the extract is needed.
        server: address of the Overpass interpreter.
        folder: of the cache; None: `cache_folder`.
        options: of `fetch_extract`.

    Raises:
        DataError: if the server does not give it, whole.
    """
    folder = folder or cache_folder()
    for path, about in sorted(_kept(folder), key=lambda pair: str(pair[1].get("fetched")), reverse=True):
        if about.get("server") == server and Box(**about["box"]).holds(box):
            age_days = (datetime.now(timezone.utc) - datetime.fromisoformat(about["fetched"])).days
            hint = f"; {age_days} days old: delete it to fetch it anew" if age_days > _OLD_DAYS else ""
            log.info("map: %s, OpenStreetMap of %s%s; %s", path, about.get("data_date"), hint, ATTRIBUTION)
            return path
    name = hashlib.sha256(f"{server} {box.text()}".encode()).hexdigest()[:16]
    path = folder / f"{name}{_SUFFIX}"
    data_date = fetch_extract(box, path, server, **options)
    about = {
        "box": asdict(box),
        "server": server,
        "fetched": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S+00:00}",
        "data_date": data_date,
        "attribution": ATTRIBUTION,
    }
    write_text(folder / f"{name}.json", json.dumps(about, indent=1))
    log.info("map: %s, OpenStreetMap of %s, fetched from %s; %s", path, data_date, server, ATTRIBUTION)
    return path


def _kept(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Extracts with what is known of them; what was not finished or was tampered with is left alone."""
    for file in folder.glob("*.json"):
        path = file.with_name(file.stem + _SUFFIX)
        try:
            about = read_json(file, _MAX_NOTE_BYTES)
            Box(**about["box"])
            datetime.fromisoformat(about["fetched"])
        except (ValueError, TypeError, KeyError, OSError):
            continue
        if path.is_file():
            yield path, about


def fetch_extract(
    box: Box,
    path: Path,
    server: str = PUBLIC_SERVER,
    *,
    timeout_s: float = TIMEOUT_S,
    waits_s: Sequence[float] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Ask an Overpass server for all of a box, and write it, sorted and each object once, with the box in its header.

    Args:
        box: what to ask for.
        path: file to write, in the format that its suffix says.
        server: address of the interpreter.
        timeout_s: of the query, and of each answer.
        waits_s: pauses before the request is repeated, where the server is busy or the connection breaks;
            None: `WAITS_S`.
        sleep: waits.

    Returns:
        The date of the data.

    Raises:
        DataError: if the server refuses, stays busy, or does not answer whole.
    """
    if not path.name.lower().endswith(FORMATS):
        raise DataError(f"{path}: an extract is written as {', '.join(FORMATS)}")
    check_writable(path)
    query = _QUERY.format(timeout_s=int(timeout_s), box=box.text())
    answer = _asked(_address(server), query, timeout_s, WAITS_S if waits_s is None else waits_s, sleep)
    data_date = _checked(answer, server)
    _write(answer, box, data_date, path)
    return data_date or f"{datetime.now(timezone.utc):%Y-%m-%d}"


def _address(server: str) -> str:
    parts = urllib.parse.urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise DataError(f"--overpass expects the address of an Overpass interpreter, such as {PUBLIC_SERVER}")
    return server if parts.path.strip("/") else urllib.parse.urljoin(server, "/api/interpreter")


class _BusyError(Exception):
    """The server may answer later."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def _asked(
    address: str, query: str, timeout_s: float, waits_s: Sequence[float], sleep: Callable[[float], None]
) -> bytes:
    """The answer to a query, asked again after each pause while the server is busy."""
    for wait_s in (*waits_s, None):
        try:
            return _answer(address, query, timeout_s)
        except _BusyError as error:
            if wait_s is None:
                raise DataError(
                    f"{address}: {error}, {len(waits_s) + 1} times; try again later, or another --overpass server"
                ) from error
            pause_s = min(max(wait_s, error.wait_s), _LONGEST_WAIT_S)
            log.info("%s: %s; asking again in %.0f s", address, error, pause_s)
            sleep(pause_s)
    raise AssertionError("unreachable")


def _answer(address: str, query: str, timeout_s: float) -> bytes:
    request = urllib.request.Request(
        address,
        urllib.parse.urlencode({"data": query}).encode(),
        {"User-Agent": _AGENT, "Accept-Encoding": "gzip", "Accept": "application/osm3s+xml"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s + _GRACE_S) as reply:
            content: bytes = reply.read(_MAX_BYTES + 1)
            packed = reply.headers.get("Content-Encoding", "") == "gzip"
        if packed:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        said = _said(error.read(20_000)) or error.reason
        if error.code in _BUSY:
            raise _BusyError(f"it is too busy (status {error.code}: {said})", _retry_after_s(error)) from error
        raise DataError(f"{address} refuses the request (status {error.code}: {said})") from error
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException, ConnectionError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        timed_out = isinstance(reason, TimeoutError)
        incomplete = isinstance(reason, http.client.IncompleteRead)
        what = "it does not answer in time" if timed_out else "its answer broke off" if incomplete else f"{reason}"
        raise _BusyError(f"{what}" if what else type(reason).__name__) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _BusyError("its answer broke off") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{address} answers with more than {_MAX_BYTES // 1_000_000} MB; ask for a smaller box")
    if content.lstrip()[:6] == b"<osm " or (content.lstrip().startswith(b"<?xml") and b"<osm" in content[:2000]):
        if not content.rstrip().endswith(b"</osm>"):
            raise _BusyError("its answer broke off")
        return content
    said = _said(content)
    if "rate_limited" in said or "too busy" in said or "Too Many Requests" in said:
        raise _BusyError(f"it is too busy ({said})")
    raise DataError(f"{address} does not answer with OpenStreetMap data but says: {said or 'nothing'}")


def _retry_after_s(error: urllib.error.HTTPError) -> float:
    after = error.headers.get("Retry-After", "")
    return float(after) if re.fullmatch(r"\d{1,4}", after) else 0.0


def _said(page: bytes) -> str:
    """The text of an error page, in short."""
    text = page.decode("utf-8", errors="replace")
    body = re.sub(r"(?is)<(head|style|script)\b.*?</\1>", " ", text)
    errors = re.findall(r"(?is)<p>\s*<strong[^>]*>\s*Error\s*</strong>(.*?)</p>", body)
    shown = re.sub(r"(?s)<[^>]*>", " ", " ".join(errors) or body)
    return " ".join(shown.split()).lstrip(": ")[:300]


def _checked(answer: bytes, server: str) -> str:
    """The date of an answer's data, if it is whole.

    Raises:
        DataError: if it is not, or empty.
    """
    remark = re.search(rb"<remark>(.*?)</remark>", answer, re.DOTALL)
    if remark:
        said = " ".join(remark[1].decode("utf-8", errors="replace").split())[:300]
        raise DataError(f"{server} did not finish ({said}); ask for a smaller box, or later")
    ways = 0
    nodes: set[int] = set()
    wanted: set[int] = set()
    try:
        for item in osmium.FileProcessor(osmium.io.FileBuffer(answer, "osm")):
            if isinstance(item, osmium.osm.Node):
                nodes.add(item.id)
            elif isinstance(item, osmium.osm.Way):
                ways += 1
                wanted.update(node.ref for node in item.nodes)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{server} answers with damaged data ({' '.join(str(error).split())})") from error
    missing = len(wanted - nodes)
    if missing:
        raise DataError(f"{server} answers with half of the data: {missing} nodes of its {ways} ways are missing")
    if not ways:
        raise DataError(f"{server} knows no ways there; check the place")
    date = re.search(rb'osm_base="([^"]{10,40})"', answer[:4000])
    return date[1].decode("ascii", errors="replace") if date else ""


def _write(answer: bytes, box: Box, data_date: str, path: Path) -> None:
    header = osmium.io.Header()
    header.set("generator", f"bevfusion {__version__}, Overpass; {ATTRIBUTION}")
    if data_date:
        header.set("osmosis_replication_timestamp", data_date)
    header.add_box(osmium.osm.Box(box.west, box.south, box.east, box.north))
    merged = osmium.MergeInputReader()
    merged.add_buffer(answer, "osm")
    with atomic_file(path) as draft:
        writer = osmium.SimpleWriter(str(draft), header=header)
        try:
            merged.apply(writer, simplify=True)
        finally:
            writer.close()
