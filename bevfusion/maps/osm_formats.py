"""What a file with OpenStreetMap data really is: by its first bytes, whatever its name says."""

import bz2
import gzip
import lzma
import sys
import zipfile
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

from bevfusion.decompression import BoundedStream, most_bytes
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES: tuple[str, ...] = (
    *(
        f"{kind}{packed}"
        for kind in (".osm", ".xml", ".osc", ".osh")
        for packed in ("", ".gz", ".bz2", ".xz", ".zst", ".zip")
    ),
    *(".osm.pbf", ".osh.pbf", ".pbf", ".o5m", ".osm.json", ".json"),
)
"""Of OpenStreetMap files; what is in them is told by their bytes. The longest suffix that fits counts."""

Content = Literal["xml", "json", "pbf", "o5m"]

_HEAD_BYTES = 4096
_MAX_WRAPPINGS = 3
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_FOREIGN = {
    b"SQLite format 3\x00": "an SQLite file (GeoPackage, SpatiaLite or MBTiles)",
    b"PAR1": "a Parquet file (GeoParquet, as Overture has it)",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"II*\x00": "a TIFF picture",
    b"MM\x00*": "a TIFF picture",
    b"version https://git-lfs": "a pointer of Git LFS to a file that was not fetched (`git lfs pull`)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b'{"format": "bevfusion tiles"': "a file of tiles; name it .tiles",
}
PACKING_ERRORS = (
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    zstd.ZstdError,
    NotImplementedError,
)
"""What reading a damaged packed stream raises."""


class Opened(NamedTuple):
    """A file's content, unpacked."""

    content: Content
    stream: BufferedIOBase
    packed: bool


def suffix_of(path: Path) -> str | None:
    """The suffix by which a file is known as OpenStreetMap's; None if it has none."""
    name = path.name.lower()
    fitting = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    return max(fitting, key=len, default=None)


def open_content(path: Path, summary: InputSummary | None = None) -> Opened:
    """Open a file and unpack it; the caller closes the stream.

    Args:
        path: the file.
        summary: is told where the name says something else.

    Raises:
        DataError: if it is missing, empty, or something else than OpenStreetMap data, which is said.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give an OpenStreetMap extract ({', '.join(SUFFIXES)})")
    wrappings = []
    try:
        stream: BufferedIOBase = path.open("rb")
        for _ in range(_MAX_WRAPPINGS):
            head = _head_of(stream)
            packing = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
            if packing is None:
                break
            wrappings.append(packing)
            limit = most_bytes(path.stat().st_size)
            stream = BoundedStream(_unpacked(stream, packing, path), limit, path)
        head = _head_of(stream)
    except PACKING_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is not a readable OpenStreetMap file ({reason}); fetch or export it again") from error
    content = _content_of(head, path)
    if summary is not None:
        _note_name(path, content, wrappings, summary)
    return Opened(content, stream, bool(wrappings))


def _head_of(stream: BufferedIOBase) -> bytes:
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    return head


def _unpacked(packed: BufferedIOBase, packing: str, path: Path) -> BufferedIOBase:
    stream = cast(IO[bytes], packed)
    if packing == "gzip":
        return gzip.GzipFile(fileobj=stream)
    if packing == "bzip2":
        return bz2.BZ2File(stream)
    if packing == "xz":
        return lzma.LZMAFile(stream)
    if packing == "zstd":
        return cast(BufferedIOBase, zstd.ZstdFile(stream))
    archive = zipfile.ZipFile(stream)
    files = [entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX")]
    maps = [entry for entry in files if suffix_of(Path(entry.filename))] or files
    if len(maps) != 1:
        names = ", ".join(entry.filename for entry in maps[:3])
        raise DataError(f"{path} is a zip archive of {len(maps)} files ({names}); unpack it and give the map")
    if maps[0].flag_bits & 1:
        raise DataError(f"{path} is a zip archive with a password; unpack it and give the map")
    return cast(BufferedIOBase, archive.open(maps[0]))


def _content_of(head: bytes, path: Path) -> Content:
    if not head:
        raise DataError(f"{path} is empty; fetch or export it again")
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {name}, no OpenStreetMap extract")
    if b"OSMHeader" in head[:32] or b"OSMData" in head[:32]:
        return "pbf"
    if head.startswith(b"\xff\xe0"):
        return "o5m"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"{" or text[:1] == b"[":
        return "json"
    if text[:1] == b"<" or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "xml"
    raise DataError(
        f"{path} is not a readable OpenStreetMap file (neither XML nor PBF nor JSON); fetch or export it again"
    )


def _note_name(path: Path, content: Content, wrappings: list[str], summary: InputSummary) -> None:
    """Say what the file is, where its name says something else."""
    suffix = suffix_of(path) or ""
    spoken = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
    by_name = [spoken[ending] for ending in spoken if suffix.endswith(ending)]
    kind = (
        "pbf" if suffix.endswith("pbf") else "o5m" if suffix.endswith("o5m") else "json" if "json" in suffix else "xml"
    )
    if (kind, by_name) != (content, wrappings):
        told = " in ".join([content.upper(), *reversed(wrappings)])
        summary.add("assumed", "format", f"the file is {told}, whatever its name says")
