"""Files are what their bytes say, and what is no map says what it is."""

import bz2
import gzip
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bevfusion.maps.osm import read_osm
from bevfusion.maps.osm_formats import suffix_of
from bevfusion.maps.provenance import map_provenance
from bevfusion.maps.source import open_map
from bevfusion.structures import DataError
from tests.maps.dialects import assert_is_town, document, notes_of, town

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_TEXT = document('<meta osm_base="2026-01-02T00:00:00Z"/>', town()).encode()


def _zipped(content: bytes) -> bytes:
    import io

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("readme.txt", "a map")
        archive.writestr("town.osm", content)
    return packed.getvalue()


_PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
    ".zip": _zipped,
}


@pytest.mark.parametrize("suffix", _PACK)
def test_packed_files_are_read_under_any_name(suffix: str, tmp_path: Path) -> None:
    for name, told in ((f"town.osm{suffix}", []), ("other.osm.pbf", [("assumed", None, None)])):
        path = tmp_path / name
        path.write_bytes(_PACK[suffix](_TEXT))
        osm_map = read_osm(path)
        assert_is_town(osm_map)
        assert notes_of(osm_map, "format") == told
        assert map_provenance(path)["data_date"] == "2026-01-02"
    assert osm_map.name == "other"


def test_a_packed_pbf_is_read(tmp_path: Path) -> None:
    import osmium

    plain, pbf = tmp_path / "town.osm", tmp_path / "town.pbf"
    plain.write_bytes(_TEXT)
    with osmium.SimpleWriter(str(pbf)) as writer:
        for element in osmium.FileProcessor(str(plain)):
            writer.add(element)
    packed = tmp_path / "town.osm.gz"
    packed.write_bytes(gzip.compress(pbf.read_bytes()))
    assert_is_town(read_osm(packed))
    assert open_map(packed).summary.source == "town.osm.gz"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"SQLite format 3\x00", "GeoPackage"),
        (b"PAR1", "Parquet"),
        (b"\x89PNG\r\n", "PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"%PDF-1.4", "PDF"),
        (b"hello", "neither XML nor PBF"),
        (b'{"a": 1}', "without `elements`"),
        (_TEXT[:-20], "XML"),
        (gzip.compress(_TEXT)[:-20], "gzip|end-of-stream|Compressed"),
        (lzma.compress(_TEXT)[:-20], "ended|Compressed"),
        (zstd.compress(_TEXT)[:-20], "ended|incomplete|Compressed|frame"),
        (_zipped(_TEXT)[:-30], "zip"),
    ],
)
def test_what_is_no_map_says_what_it_is(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "town.osm"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read_osm(path)
    assert "\n" not in str(caught.value)


def test_archives_of_several_maps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "towns.osm.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.osm", "a")
        archive.writestr("b.osm", "b")
    with pytest.raises(DataError, match=r"2 files \(a.osm, b.osm\)"):
        read_osm(path)


def test_suffixes() -> None:
    assert suffix_of(Path("a.OSM.PBF")) == ".osm.pbf"
    assert suffix_of(Path("a.osm.zst")) == ".osm.zst"
    assert suffix_of(Path("a.png")) is None
