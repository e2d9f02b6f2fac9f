"""How much a compressed file may unpack to: one rule for bags, MCAP, maps and archives.

A file of a megabyte can unpack to terabytes, on purpose or by a flipped bit. Here a file may unpack to `MAX_RATIO`
times its size and `FREE_BYTES` more; a single message to as many times its size and `FREE_MESSAGE_BYTES` more.
OpenStreetMap packed by xz has a ratio of 20, bags of scans one of 2. What unpacks to more is refused in one line.
"""

import io
import os
from typing import Any

from bevfusion.structures import DataError

MAX_RATIO = 64
FREE_BYTES = 1 << 29
FREE_MESSAGE_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 20


def most_bytes(packed_bytes: int, free_bytes: int = FREE_BYTES) -> int:
    """How many bytes may come out of so many."""
    return MAX_RATIO * packed_bytes + free_bytes


class BoundedStream(io.BufferedIOBase):
    """What comes out of a decompressor, up to a limit.

    Args:
        stream: the decompressor, open for reading.
        limit: bytes that may come out of it.
        source: what is read, for messages.
    """

    def __init__(self, stream: Any, limit: int, source: object) -> None:
        self._stream = stream
        self._limit = limit
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """As far as the decompressor is."""
        return bool(self._stream.seekable())

    def tell(self) -> int:
        """How many bytes lie before the next one."""
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; all that are left by default.

        Raises:
            DataError: beyond the limit.
        """
        room = self._limit - self._position + 1
        data: bytes = self._stream.read(room if size is None or size < 0 else min(size, room))
        self._position += len(data)
        if self._position > self._limit:
            raise DataError(f"{self._source}: unpacks to more than {self._limit} bytes, {MAX_RATIO} times its size")
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """As `read`."""
        return self.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place; the end is found by unpacking.

        Raises:
            DataError: beyond the limit.
        """
        if whence == os.SEEK_END:
            while self.read(_BLOCK_BYTES):
                pass
        base = 0 if whence == os.SEEK_SET else self._position
        self._position = self._stream.seek(base + offset)
        return self._position

    def close(self) -> None:
        """Close the decompressor."""
        self._stream.close()
        super().close()
