"""What the three kinds of bag files have in common: connections, an index of their messages, reading by place.

`rosbags` deserializes the messages here, and would open whole files. The containers are read by `rosbag1`, `mcap` and
`rosbag2_sqlite` because a drive needs three things together. Files that were cut off or never closed are read up to the
break: `rosbags` refuses them (`AnyReaderError`: the index, or the end magic, is missing), and `mcap` can only stream
them from the start. One message is read by its number, in memory that does not grow with the file. And an opened bag
can be sent to another process.
"""

import bz2
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import lz4.frame  # type: ignore[import-untyped]

from bevfusion.decompression import FREE_MESSAGE_BYTES, most_bytes
from bevfusion.structures import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CHUNK_BYTES = 1 << 29  # of messages compressed together, or of one message: what is held in memory at once

Encoding = Literal["ros1", "cdr", "protobuf"]


class Connection(NamedTuple):
    """A topic as a file names it; the encoding is that of its messages."""

    topic: str
    msgtype: str  # package/msg/Name, or the name of a protobuf message
    encoding: Encoding
    schema: bytes = b""  # of protobuf: its descriptors


@dataclass
class MessageIndex:
    """Where each message of a file lies: columns of equal length, in the order of the file."""

    connection: "array[int]" = field(default_factory=lambda: array("q"))
    stamp_ns: "array[int]" = field(default_factory=lambda: array("q"))
    position: "array[int]" = field(default_factory=lambda: array("q"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, connection: int, stamp_ns: int, position: int, offset: int) -> None:
        """One message more: `position` and `offset` mean what the container wants them to."""
        self.connection.append(connection)
        self.stamp_ns.append(min(stamp_ns, 2**63 - 1))
        self.position.append(position)
        self.offset.append(offset)

    def cut(self, count: int) -> None:
        """Forget all messages but the first `count`."""
        for column in (self.connection, self.stamp_ns, self.position, self.offset):
            del column[count:]

    def __len__(self) -> int:
        return len(self.connection)


@runtime_checkable
class Container(Protocol):
    """A file of messages; it is opened again for each reading, so that drives can be sent to other processes."""

    connections: dict[int, Connection]
    foreign: dict[str, str]  # topics of encodings that are not read, and which
    index: MessageIndex
    broken: str | None  # what is wrong with the file, if it could be read in part only

    def read(self, position: int, offset: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        """One message as it was serialized, or its first `limit` bytes.

        Raises:
            DataError: if it is damaged.
        """


def ros_type(name: str) -> str:
    """A type's name with its middle part: sensor_msgs/PointCloud2 is sensor_msgs/msg/PointCloud2."""
    parts = name.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else name


def decompressed(data: bytes, method: str, limit: int, source: str) -> bytes:
    """The bytes that a chunk holds; of a chunk cut off, those before the cut.

    Args:
        data: compressed bytes.
        method: none (or nothing), bz2, lz4 or zstd.
        limit: bytes that are expected; more is refused, and so is more than `decompression.most_bytes`.
        source: what is read, for messages.

    Raises:
        DataError: if the method is unknown, the data are damaged or hold more than they say.
    """
    if method in ("", "none"):
        return data
    if not 0 <= limit <= MAX_CHUNK_BYTES:
        raise DataError(f"{source}: a chunk of {limit} bytes, at most {MAX_CHUNK_BYTES} are read")
    allowed = most_bytes(len(data), FREE_MESSAGE_BYTES)
    declared, limit = limit, min(limit, allowed)
    try:
        if method == "bz2":
            plain: bytes = bz2.BZ2Decompressor().decompress(data, limit + 1)
        elif method == "lz4":
            plain = lz4.frame.LZ4FrameDecompressor().decompress(data, limit + 1)
        elif method == "zstd":
            plain = zstd.ZstdDecompressor().decompress(data, limit + 1)
        else:
            raise DataError(f"{source}: compression {method[:20]!r} is not read; read are: none, bz2, lz4, zstd")
    except (OSError, EOFError, RuntimeError, ValueError, MemoryError, zstd.ZstdError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source}: a compressed chunk is damaged ({error})") from error
    if len(plain) > limit:
        told = "it declares" if limit == declared else f"that {len(data)} may unpack to"
        raise DataError(f"{source}: a chunk holds more than the {limit} bytes {told}")
    return plain


def decompressed_head(data: bytes, limit: int, source: str) -> bytes:
    """The first bytes of a message compressed by zstd, up to a limit; no more of it is unpacked.

    Raises:
        DataError: if the data are damaged before that, or the limit is beyond what they may unpack to.
    """
    allowed = most_bytes(len(data), FREE_MESSAGE_BYTES)
    try:
        plain = zstd.ZstdDecompressor().decompress(data, min(limit, allowed + 1))
    except (zstd.ZstdError, OSError, EOFError, RuntimeError, ValueError, MemoryError) as error:
        raise DataError(f"{source}: cannot be decompressed ({error})") from error
    if len(plain) > allowed:
        raise DataError(f"{source}: {len(data)} bytes unpack to more than the {allowed} that they may")
    return plain


def unpack(packed: Path, plain: Path) -> None:
    """Write out a file that is compressed as a whole by zstd.

    Raises:
        DataError: if it is damaged before its first megabyte, or unpacks to more than any log would.
    """
    limit = most_bytes(packed.stat().st_size)
    written = 0
    with packed.open("rb") as source, plain.open("wb") as target:
        try:
            with zstd.open(source, "rb") as stream:
                while block := stream.read(1 << 20):
                    written += len(block)
                    if written > limit:
                        raise DataError(f"{packed}: unpacks to more than {limit} bytes: not a log")
                    target.write(block)
        except (zstd.ZstdError, EOFError) as error:
            if not written:
                raise DataError(f"{packed}: cannot be decompressed ({error})") from error
