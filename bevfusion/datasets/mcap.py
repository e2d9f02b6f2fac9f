"""MCAP files of ROS 1, ROS 2 or protobuf messages, whole or cut off: the index is read off the data section itself.

A record is one byte of kind, eight of length, and data. Messages lie in chunks, or bare in the file; behind a chunk an
index record for every channel may say where its messages lie. https://mcap.dev/spec
"""

import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

from bevfusion.datasets.container import MAX_CHUNK_BYTES, Connection, Encoding, MessageIndex, decompressed, ros_type
from bevfusion.decompression import most_bytes
from bevfusion.structures import DataError

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, DATA_END = 2, 3, 4, 5, 6, 7, 15
LAST_KIND = 15  # above: of the writer's own, skipped
MESSAGE_HEAD = 22  # channel u16, sequence u32, log time u64, publish time u64
MAX_SMALL_BYTES = 1 << 24  # schemas, channels, message indexes
ENCODINGS: dict[str, Encoding] = {"ros1": "ros1", "cdr": "cdr", "protobuf": "protobuf"}
IN_FILE = -1  # position of messages outside chunks; their offset counts from the start of the file


class _Chunk(NamedTuple):
    position: int  # of its compressed records in the file
    size: int  # there
    plain_size: int
    crc: int
    compression: str


class _BreakError(Exception):
    """From here on the file makes no sense."""


class Mcap:
    """An MCAP file; its index is built when it is opened, message by message nothing is read until asked for.

    Attributes:
        connections: by number of the channel.
        foreign: topics of encodings that are not read, and which.
        index: `position` numbers the chunk (-1: none), `offset` counts bytes in it.
        broken: what ended the reading before the end of the file, or None.

    Raises:
        DataError: if it is no MCAP file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks: list[_Chunk] = []
        self._held: tuple[int, bytes] = (-1, b"")
        self._plain_bytes = 0  # of all chunks
        self._schemas: dict[int, tuple[str, bytes]] = {}
        self.connections: dict[int, Connection] = {}
        self.foreign: dict[str, str] = {}
        self.index = MessageIndex()
        self.broken: str | None = None
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            if head != MAGIC:
                kind = "a Git LFS pointer (run `git lfs pull`)" if head == b"version " else f"begins with {head!r}"
                raise DataError(f"{path}: not an MCAP file, {kind}")
            self._build_index(file, path.stat().st_size)

    def read(self, position: int, offset: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        """One message as it was serialized, or its first `limit` bytes.

        Raises:
            DataError: if it is damaged.
        """
        if position != IN_FILE and self._chunks[position].compression:
            record = self._plain(position)[offset : offset + 9 + MESSAGE_HEAD + limit]
        elif position != IN_FILE and offset >= self._chunks[position].size:
            record = b""
        else:
            start = offset + (0 if position == IN_FILE else self._chunks[position].position)
            with self._path.open("rb") as file:
                file.seek(start)
                head = file.read(9)
                size = int.from_bytes(head[1:], "little")
                record = head + file.read(min(size, MAX_CHUNK_BYTES, MESSAGE_HEAD + limit))
        size = int.from_bytes(record[1:9], "little")
        here = min(size, MESSAGE_HEAD + limit)
        if len(record) < 9 + MESSAGE_HEAD or record[0] != MESSAGE or not MESSAGE_HEAD <= here <= len(record) - 9:
            raise DataError(f"{self._path}: a message in chunk {position} is damaged")
        return record[9 + MESSAGE_HEAD : 9 + here]

    def _plain(self, number: int) -> bytes:
        """The decompressed chunk, checked if it carries a checksum; the last one is kept."""
        if self._held[0] != number:
            chunk = self._chunks[number]
            with self._path.open("rb") as file:
                file.seek(chunk.position)
                data = file.read(chunk.size)
            plain = decompressed(data, chunk.compression, chunk.plain_size, f"{self._path}: chunk {number}")
            if chunk.crc and len(plain) == chunk.plain_size and zlib.crc32(plain) != chunk.crc:
                raise DataError(f"{self._path}: chunk {number} is damaged, its checksum differs")
            self._held = (number, plain)
        return self._held[1]

    def _build_index(self, file: BufferedIOBase, size: int) -> None:
        before_chunk = indexed = 0  # messages in the index before the last chunk; and whether it has index records
        ended = False
        while (start := file.tell()) < size and not ended:
            try:
                head = file.read(9)
                kind, length = head[0], int.from_bytes(head[1:], "little")
                end = file.tell() + length
                if len(head) < 9 or (end > size and kind != CHUNK):
                    raise _BreakError("a record that is cut off")
                if kind == 0:
                    raise _BreakError("a record of no kind")
                if kind != MESSAGE_INDEX and self._chunks and len(self.index) == before_chunk and not indexed:
                    self._scan_chunk(len(self._chunks) - 1)
                    indexed = 1
                if kind == CHUNK:
                    before_chunk, indexed = len(self.index), 0
                    self._add_chunk(file, end, size)
                elif kind == MESSAGE_INDEX:
                    self._add_index(_small(file, length))
                    indexed = 1
                elif kind == MESSAGE:
                    fields = file.read(MESSAGE_HEAD)
                    self.index.add(_u(fields, 0, 2), _u(fields, 6, 8), IN_FILE, start)
                elif kind in (SCHEMA, CHANNEL):
                    self._add_description(kind, _small(file, length))
                ended = kind == FOOTER
                if end > size:
                    raise _BreakError("a chunk that is cut off")
                file.seek(end)
            except _BreakError as error:
                self.broken = f"{error} at byte {start} of {size}"
                break
        if self.broken is None and not ended:
            self.broken = f"its end is missing: cut off at byte {size}"
        if self.broken is not None and self._chunks:
            self.index.cut(before_chunk)
            self._scan_chunk(len(self._chunks) - 1)
        seen: set[int] = set()
        for row, channel in enumerate(self.index.connection):
            if channel not in seen and channel not in self.connections and self.index.position[row] != IN_FILE:
                self._scan_chunk(self.index.position[row], messages=False)  # the summary that repeats it is lost
            seen.add(channel)

    def _add_chunk(self, file: BufferedIOBase, end: int, size: int) -> None:
        head = file.read(32)  # start time, end time, plain size, crc, length of the next
        name_size = _u(head, 28, 4)
        if len(head) < 32 or name_size > 32:
            raise _BreakError("a damaged chunk")
        compression = file.read(name_size).decode("ascii", "replace")
        stored = file.read(8)
        plain_size = _u(head, 16, 8)
        if compression not in ("", "lz4", "zstd") or plain_size > MAX_CHUNK_BYTES or len(stored) < 8:
            raise _BreakError(f"a chunk of {plain_size} bytes compressed by {compression[:20] or 'nothing'!r}")
        begin = file.tell()
        if begin + _u(stored, 0, 8) > end:
            raise _BreakError("a chunk that does not fit its record")
        self._plain_bytes += plain_size
        if self._plain_bytes > most_bytes(size):
            raise _BreakError(f"chunks that unpack to {self._plain_bytes} bytes, more than any log's,")
        here = min(_u(stored, 0, 8), size - begin)
        self._chunks.append(_Chunk(begin, here, plain_size, _u(head, 24, 4), compression))

    def _add_index(self, data: bytes) -> None:
        channel, count = _u(data, 0, 2), _u(data, 2, 4)
        if not self._chunks or len(data) < 6 or count % 16 or 6 + count > len(data):
            raise _BreakError("a damaged message index")
        for at in range(6, 6 + count, 16):
            self.index.add(channel, _u(data, at, 8), len(self._chunks) - 1, min(_u(data, at + 8, 8), 2**62))

    def _add_description(self, kind: int, data: bytes) -> None:
        """A schema or a channel; of a channel defined twice the first counts."""
        number = _u(data, 0, 2)
        if kind == SCHEMA:
            name, at = _text(data, 2)
            _, at = _text(data, at)
            self._schemas.setdefault(number, (name, data[at + 4 : at + 4 + _u(data, at, 4)]))
            return
        topic, at = _text(data, 4)
        encoding = _text(data, at)[0]
        msgtype, schema = self._schemas.get(_u(data, 2, 2), ("", b""))
        if encoding in ENCODINGS:
            known = Connection(topic, ros_type(msgtype), ENCODINGS[encoding], schema if encoding == "protobuf" else b"")
            self.connections.setdefault(number, known)
        else:
            self.foreign[topic] = (
                f"{msgtype or 'messages without a schema'} serialized as {encoding or 'nothing known'}"
            )

    def _scan_chunk(self, number: int, *, messages: bool = True) -> None:
        """Descriptions in a chunk, and its messages if wanted, from its own records."""
        chunk = self._chunks[number]
        try:
            if chunk.compression:
                plain = self._plain(number)
            else:
                with self._path.open("rb") as file:
                    file.seek(chunk.position)
                    plain = file.read(min(chunk.size, MAX_CHUNK_BYTES))
            at = 0
            while at + 9 <= len(plain):
                kind, length = plain[at], _u(plain, at + 1, 8)
                end = at + 9 + length
                if end > len(plain):
                    return
                if kind in (SCHEMA, CHANNEL):
                    self._add_description(kind, plain[at + 9 : end])
                elif kind == MESSAGE and messages and length >= MESSAGE_HEAD:
                    self.index.add(_u(plain, at + 9, 2), _u(plain, at + 15, 8), number, at)
                at = end
        except (_BreakError, DataError):  # what comes behind the damage is lost
            return


def _u(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _small(file: BufferedIOBase, length: int) -> bytes:
    if length > MAX_SMALL_BYTES:
        raise _BreakError(f"a record of {length} bytes")
    return file.read(length)


def _text(data: bytes, at: int) -> tuple[str, int]:
    """A string with its length before it, and the position behind it."""
    size = _u(data, at, 4)
    if at + 4 + size > len(data):
        raise _BreakError("a damaged text")
    return data[at + 4 : at + 4 + size].decode("utf-8", "replace"), at + 4 + size
