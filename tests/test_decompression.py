"""What would unpack to far more than it should: refused in one line, soon, and without the memory for it."""

import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from bevfusion.datasets.container import decompressed, decompressed_head, unpack, zstd
from bevfusion.decompression import FREE_BYTES, MAX_RATIO, BoundedStream, most_bytes
from bevfusion.maps.osm import read_osm
from bevfusion.structures import DataError

BLANK = b" " * (1 << 20)


def test_up_to_the_limit_all_comes_out() -> None:
    stream = BoundedStream(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(BLANK))), len(BLANK), "it")
    assert stream.read(10) == BLANK[:10]
    assert stream.tell() == 10
    assert stream.seek(0) == 0
    assert stream.read() == BLANK
    assert stream.read() == b""
    assert stream.seek(0, io.SEEK_END) == len(BLANK)


@pytest.mark.parametrize("size", [-1, 1 << 16])
def test_beyond_the_limit_it_is_refused(size: int) -> None:
    stream = BoundedStream(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(BLANK))), len(BLANK) - 1, "it")
    with pytest.raises(DataError, match="it: unpacks to more than"):
        list(iter(lambda: stream.read(size), b""))


def bomb(kind: str, megabytes: int) -> bytes:
    with io.BytesIO() as file:
        if kind == "zip":
            with (
                zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
                archive.open("map.osm", "w", force_zip64=True) as member,
            ):
                for _ in range(megabytes):
                    member.write(BLANK)
            return file.getvalue()
        writers = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open, "zst": zstd.open}
        with writers[kind](file, "wb") as packed:  # type: ignore[operator]
            packed.write(b'<osm version="0.6">')
            for _ in range(megabytes):
                packed.write(BLANK)
        return file.getvalue()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst", "zip"])
def test_maps_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("bevfusion.maps.osm_formats.most_bytes", lambda size: MAX_RATIO * size + (1 << 22))
    path = tmp_path / f"map.osm.{kind}"
    path.write_bytes(bomb(kind, 12))
    tracemalloc.start()
    with pytest.raises(DataError) as refused:
        read_osm(path)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()
    assert "\n" not in str(refused.value)
    if kind != "zip":  # there white space before the root is no XML either
        assert "unpacks to more than" in str(refused.value)


def test_a_chunk_may_hold_no_more_than_its_size_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.datasets.container.FREE_MESSAGE_BYTES", 1 << 21)
    packed = bz2.compress(BLANK * 4)
    with pytest.raises(DataError, match="may unpack to"):
        decompressed(packed, "bz2", 1 << 28, "chunk 3")
    with pytest.raises(DataError, match="it declares"):
        decompressed(packed, "bz2", 100, "chunk 4")
    assert decompressed(bz2.compress(BLANK), "bz2", len(BLANK), "chunk 5") == BLANK


def test_of_a_message_only_what_is_asked_for_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zstd.compress(bytes(16 << 20))
    tracemalloc.start()
    assert decompressed_head(packed, 1000, "message 1") == bytes(1000)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with pytest.raises(DataError, match="cannot be decompressed"):
        decompressed_head(packed[:4] + b"\xff" * 20, 1000, "message 2")
    monkeypatch.setattr("bevfusion.datasets.container.FREE_MESSAGE_BYTES", 1 << 20)
    with pytest.raises(DataError, match="unpack to more than"):
        decompressed_head(packed, 1 << 29, "message 3")


def test_a_file_packed_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.datasets.container.most_bytes", lambda size: 1 << 20)
    (tmp_path / "a.db3.zstd").write_bytes(zstd.compress(b"\0" * (2 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(tmp_path / "a.db3.zstd", tmp_path / "a.db3")


def test_the_limit_grows_with_the_file() -> None:
    assert most_bytes(0) == FREE_BYTES
    assert most_bytes(1000) - most_bytes(0) == 1000 * MAX_RATIO
