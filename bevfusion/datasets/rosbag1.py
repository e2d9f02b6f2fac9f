"""ROS 1 bags (format 2.0), whole or cut off: the index is read off the records themselves, without the tail's.

A record is a header (fields NAME=VALUE) and data, both with their length before them. Messages lie in chunks; behind
each chunk an index record for every connection says where its messages lie. https://wiki.ros.org/Bags/Format/2.0
"""

import struct
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import NamedTuple

from bevfusion.datasets.container import MAX_CHUNK_BYTES, Connection, MessageIndex, decompressed, ros_type
from bevfusion.decompression import most_bytes
from bevfusion.structures import DataError

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7
MAX_HEADER_BYTES = 1 << 20
INDEX_ENTRY = struct.Struct("<III")  # seconds, nanoseconds, offset in the chunk


class _Record(NamedTuple):
    fields: dict[bytes, bytes]
    data_position: int
    data_size: int

    @property
    def op(self) -> int:
        return self.fields.get(b"op", b"\0")[0] if self.fields.get(b"op") else 0

    def number(self, name: bytes) -> int:
        value = self.fields.get(name, b"")
        if len(value) not in (4, 8):
            raise _BreakError(f"a record without its field {name.decode()}")
        return int.from_bytes(value, "little")


class _Chunk(NamedTuple):
    position: int  # of its data in the file
    size: int  # there, compressed
    plain_size: int
    compression: str


class _BreakError(Exception):
    """From here on the file makes no sense."""


class Rosbag1:
    """A ROS 1 bag; its index is built when it is opened, message by message nothing is read until asked for.

    Attributes:
        connections: by number.
        foreign: nothing here; other containers hold messages of other encodings.
        index: `position` numbers the chunk, `offset` counts bytes in it.
        broken: what ended the reading before the end of the file, or None.

    Raises:
        DataError: if it is no bag, or nothing in it can be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks: list[_Chunk] = []
        self._held: tuple[int, bytes] = (-1, b"")
        self._plain_bytes = 0  # of all compressed chunks
        self.connections: dict[int, Connection] = {}
        self.foreign: dict[str, str] = {}
        self.index = MessageIndex()
        self.broken: str | None = None
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            if head != MAGIC:
                raise DataError(f"{path}: not a ROS 1 bag of format 2.0 (it begins with {head[:13]!r})")
            self._build_index(file, path.stat().st_size)

    def read(self, position: int, offset: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        """One message as it was serialized, or its first `limit` bytes.

        Raises:
            DataError: if it is damaged.
        """
        chunk = self._chunks[position]
        try:
            if chunk.compression == "none":  # no need to read the others
                with self._path.open("rb") as file:
                    file.seek(chunk.position + offset)
                    return _message(file, chunk.position + chunk.size, limit)
            plain = BytesIO(self._plain(position))
            plain.seek(offset)
            return _message(plain, len(plain.getbuffer()), limit)
        except _BreakError as error:
            raise DataError(f"{self._path}: a message in chunk {position} is damaged ({error})") from error

    def _plain(self, number: int) -> bytes:
        """The decompressed chunk; the last one is kept."""
        if self._held[0] != number:
            chunk = self._chunks[number]
            with self._path.open("rb") as file:
                file.seek(chunk.position)
                data = file.read(chunk.size)
            source = f"{self._path}: chunk {number}"
            self._held = (number, decompressed(data, chunk.compression, chunk.plain_size, source))
        return self._held[1]

    def _build_index(self, file: BufferedIOBase, size: int) -> None:
        before_chunk = 0  # messages in the index before the last chunk
        closed = False
        while (start := file.tell()) < size:
            try:
                record = _read_record(file, size)
                if record.op == BAG_HEADER:
                    if record.fields.get(b"encryptor"):
                        raise DataError(f"{self._path}: the bag is encrypted")
                    closed = 0 < record.number(b"index_pos") <= size
                elif record.op == CHUNK:
                    before_chunk = len(self.index)
                    self._add_chunk(record, size)
                elif record.op == INDEX:
                    self._add_index(file, record)
                elif record.op == CONNECTION:
                    self._add_connection(file, record)
                elif record.op not in (CHUNK_INFO, MESSAGE):
                    raise _BreakError(f"a record of the unknown kind {record.op}")
                if record.data_position + record.data_size > size:
                    raise _BreakError("a record that goes on past the end of the file")
                file.seek(record.data_position + record.data_size)
            except _BreakError as error:
                self.broken = f"{error} at byte {start} of {size}"
                break
        if self.broken is None and not closed:
            self.broken = f"its index is missing: cut off at byte {size}, or never closed"
        if self.broken is not None and self._chunks:
            self.index.cut(before_chunk)
            self._scan_chunk(len(self._chunks) - 1, messages=True)
        known = set(self.connections)
        for row, connection in enumerate(self.index.connection):
            if connection not in known:  # the tail that lists them is lost: their first chunk names them, too
                self._scan_chunk(self.index.position[row], messages=False)
                known |= {connection, *self.connections}

    def _add_chunk(self, record: _Record, size: int) -> None:
        compression = record.fields.get(b"compression", b"").decode("ascii", "replace")
        if compression not in ("none", "bz2", "lz4"):
            raise _BreakError(f"a chunk of the unknown compression {compression[:20]!r}")
        plain_size = record.number(b"size")
        if compression != "none" and plain_size > MAX_CHUNK_BYTES:
            raise _BreakError(f"a chunk of {plain_size} bytes (at most {MAX_CHUNK_BYTES} are read)")
        if compression != "none":
            self._plain_bytes += plain_size
            if self._plain_bytes > most_bytes(size):
                raise _BreakError(f"chunks that unpack to {self._plain_bytes} bytes, more than any log's,")
        here = min(record.data_size, size - record.data_position)
        self._chunks.append(_Chunk(record.data_position, here, plain_size, compression))

    def _add_index(self, file: BufferedIOBase, record: _Record) -> None:
        if not self._chunks:
            raise _BreakError("an index without a chunk before it")
        connection = record.number(b"conn")
        data = file.read(record.data_size)
        if len(data) != record.data_size or len(data) % INDEX_ENTRY.size:
            raise _BreakError("an index that is cut off")
        for seconds, nanoseconds, offset in INDEX_ENTRY.iter_unpack(data):
            self.index.add(connection, seconds * 10**9 + nanoseconds, len(self._chunks) - 1, offset)

    def _add_connection(self, file: BufferedIOBase, record: _Record) -> None:
        number = record.number(b"conn")
        data = file.read(min(record.data_size, MAX_HEADER_BYTES))
        if len(data) != record.data_size:
            raise _BreakError("a connection that is cut off")
        topic = record.fields.get(b"topic", b"").decode("utf-8", "replace")
        msgtype = _fields(data).get(b"type", b"").decode("ascii", "replace")
        self.connections[number] = Connection(topic, ros_type(msgtype), "ros1")

    def _scan_chunk(self, number: int, *, messages: bool) -> None:
        """Connections of a chunk, and its messages if wanted, from its own records."""
        chunk = self._chunks[number]
        try:
            if chunk.compression == "none":
                with self._path.open("rb") as file:
                    file.seek(chunk.position)
                    self._scan_records(file, chunk.position, chunk.position + chunk.size, number, messages)
            else:
                plain = BytesIO(self._plain(number))
                self._scan_records(plain, 0, len(plain.getbuffer()), number, messages)
        except (_BreakError, DataError):  # what comes behind the damage is lost
            return

    def _scan_records(self, file: BufferedIOBase, begin: int, end: int, number: int, messages: bool) -> None:
        while (start := file.tell()) < end:
            record = _read_record(file, end)
            if record.data_position + record.data_size > end:
                return
            if record.op == CONNECTION:
                self._add_connection(file, record)
            elif record.op == MESSAGE and messages:
                stamp = record.fields.get(b"time", b"").ljust(8, b"\0")
                seconds, nanoseconds = struct.unpack("<II", stamp[:8])
                self.index.add(record.number(b"conn"), seconds * 10**9 + nanoseconds, number, start - begin)
            file.seek(record.data_position + record.data_size)


def _message(file: BufferedIOBase, end: int, limit: int) -> bytes:
    """Data of the first message at or behind the current position (some writers index the connection before it)."""
    while True:
        record = _read_record(file, end)
        if record.data_position + record.data_size > end or record.data_size > MAX_CHUNK_BYTES:
            raise _BreakError(f"it declares {record.data_size} bytes")
        if record.op == MESSAGE:
            return file.read(min(record.data_size, limit))
        if record.op != CONNECTION:
            raise _BreakError(f"a record of kind {record.op} in its place")
        file.seek(record.data_position + record.data_size)


def _read_record(file: BufferedIOBase, end: int) -> _Record:
    """The header of the record at the current position; its data may reach past `end`."""
    length = file.read(4)
    header_size = int.from_bytes(length, "little")
    if len(length) < 4 or header_size > min(MAX_HEADER_BYTES, end - file.tell()):
        raise _BreakError("a record that is cut off or damaged")
    fields = _fields(file.read(header_size))
    length = file.read(4)
    if len(length) < 4:
        raise _BreakError("a record that is cut off")
    return _Record(fields, file.tell(), int.from_bytes(length, "little"))


def _fields(header: bytes) -> dict[bytes, bytes]:
    fields = {}
    at = 0
    while at < len(header):
        size = int.from_bytes(header[at : at + 4], "little")
        name, equals, value = header[at + 4 : at + 4 + size].partition(b"=")
        if not equals or at + 4 + size > len(header):
            raise _BreakError("a damaged record")
        fields[name] = value
        at += 4 + size
    return fields
