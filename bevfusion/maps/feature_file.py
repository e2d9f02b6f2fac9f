"""Features of a whole map on disk, mapped into memory: what a checkpoint's map encoder makes of a file of tiles.

    {"format": "bevfusion features", "version": 1, "checkpoint": ..., ...}    one line of JSON: `FeatureContents`
    block, block, ...                                                         float16, (C, n, n); equal ones once
    table                                                                     of every block where it begins (u8), and
                                                                              the CRC-32 of its bytes (u4)

The first line ends with a checksum of itself and of the table. Blocks go by rows, lowest y first, and lie on a lattice
about the map's origin. Half floats are as good as float32 here: scores are means over thousands of cells.
Little-endian throughout.
"""

import hashlib
import mmap
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from bevfusion.files import atomic_file
from bevfusion.maps.tile_file import with_checksum
from bevfusion.maps.tiled import TiledMap
from bevfusion.parsing import parse_json
from bevfusion.structures import DataError

SUFFIX = ".features"
VERSION = 1
SIDE = 64  # features along the side of a block
MAX_BLOCKS = 400_000  # of a file: 40 x 40 km at 1 m

_START = b'{"format": "bevfusion features"'
_MAX_HEADER_BYTES = 65_536
_ENTRY = np.dtype([("offset", "<u8"), ("crc", "<u4")])
_REMEDY = "make it anew with `bevfusion tile MAP --output TILES --features CHECKPOINT`"


@dataclass(frozen=True, slots=True)
class FeatureContents:
    """What the first line of a file says of the rest.

    Raises:
        ValueError: if it makes no sense.
    """

    checkpoint: str  # SHA-256 of the weights that made it
    tiles: str  # SHA-256 of the file of tiles that it was made of
    channels: int
    cell_m: float  # of the features
    first_block: tuple[int, int]  # row, column on the lattice of blocks about the map's origin
    blocks: tuple[int, int]  # rows, columns

    def __post_init__(self) -> None:
        rows, columns = self.blocks
        if not (rows > 0 and columns > 0 and rows * columns <= MAX_BLOCKS and 0 < self.channels <= 4096):
            raise ValueError(f"{rows} x {columns} blocks of {self.channels} channels")
        if not (np.isfinite(self.cell_m) and self.cell_m > 0):
            raise ValueError(f"cells of {self.cell_m} m")

    def to_line(self, table: bytes) -> bytes:
        """The first line of a file, of the same length whatever the table is."""
        words = {"format": "bevfusion features", "version": VERSION, "side": SIDE} | asdict(self)
        return with_checksum(words, table)

    @classmethod
    def of_words(cls, words: dict[str, Any]) -> "FeatureContents":
        """The inverse of `to_line`.

        Raises:
            ValueError: if it was made by another version.
        """
        if (words["version"], words["side"]) != (VERSION, SIDE):
            raise ValueError(f"version {words['version']} of the format, expected {VERSION}")
        row, column = words["first_block"]
        rows, columns = words["blocks"]
        return cls(
            str(words["checkpoint"]),
            str(words["tiles"]),
            int(words["channels"]),
            float(words["cell_m"]),
            (int(row), int(column)),
            (int(rows), int(columns)),
        )


def write_feature_file(
    path: Path,
    contents: FeatureContents,
    blocks: Iterable[Float16[np.ndarray, "c n n"]],
    on_block: Callable[[int, int], None] | None = None,
) -> None:
    """Write a file, under another name until it is whole.

    Args:
        path: of the file; one that is there is replaced.
        contents: its first line.
        blocks: by rows.
        on_block: called with (blocks done, blocks in all).

    Raises:
        DataError: if it cannot be written.
    """
    count = contents.blocks[0] * contents.blocks[1]
    table = np.zeros(count, _ENTRY)
    written: dict[bytes, int] = {}  # places that show nothing are all alike
    try:
        with atomic_file(path) as draft, draft.open("wb") as file:
            end = file.write(contents.to_line(table.tobytes()))
            for number, block in zip(range(count), blocks, strict=True):
                content = np.ascontiguousarray(block, "<f2").tobytes()
                digest = hashlib.sha256(content).digest()
                if digest not in written:
                    written[digest] = end
                    end += file.write(content)
                table[number] = written[digest], zlib.crc32(content)
                if on_block is not None:
                    on_block(number + 1, count)
            file.write(table.tobytes())
            file.seek(0)
            file.write(contents.to_line(table.tobytes()))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


class FeatureFile:
    """A file of features, open for reading: pages of it are in memory while they are in use, and as there is room."""

    def __init__(self, path: Path) -> None:
        """Map a file into memory and check that its first line, its length and its table fit each other.

        Raises:
            DataError: if it is missing, no file of features, damaged, or made by another version.
        """
        if not path.is_file():
            raise DataError(f"{path} is not a file")
        self.path = path
        with path.open("rb") as file:
            line = file.readline(_MAX_HEADER_BYTES)
            if not line.startswith(_START):
                raise DataError(f"{path} is no file of features; {_REMEDY}")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            words = parse_json(line.decode(), "its first line")
            self.contents = FeatureContents.of_words(words)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path} cannot be used ({error}); {_REMEDY}") from error
        count = self.contents.blocks[0] * self.contents.blocks[1]
        self._shape = (self.contents.channels, SIDE, SIDE)
        self._size = 2 * self.contents.channels * SIDE * SIDE
        begins = len(self._bytes) - count * _ENTRY.itemsize
        words.pop("checksum", None)
        if begins < len(line) or line != with_checksum(words, self._bytes[begins:]):
            raise DataError(f"{path} is cut off or damaged; {_REMEDY}")
        self._table = np.frombuffer(self._bytes, _ENTRY, count, begins)
        self._checked: set[int] = set()

    def block(self, row: int, column: int) -> Float16[np.ndarray, "c n n"] | None:
        """A block of the lattice about the map's origin, read-only; None where the file ends.

        Raises:
            DataError: if it is damaged.
        """
        (row0, column0), (rows, columns) = self.contents.first_block, self.contents.blocks
        if not (0 <= row - row0 < rows and 0 <= column - column0 < columns):
            return None
        number = (row - row0) * columns + column - column0
        offset, crc = int(self._table[number]["offset"]), int(self._table[number]["crc"])
        if number not in self._checked:
            if zlib.crc32(memoryview(self._bytes)[offset : offset + self._size]) != crc:
                raise DataError(f"{self.path}: a block is damaged; {_REMEDY}")
            self._checked.add(number)
        block: np.ndarray = np.frombuffer(self._bytes, "<f2", self._size // 2, offset).reshape(self._shape)
        return block


def features_beside(source: object, checkpoint: str) -> FeatureFile | None:
    """The features of a map that lie beside it: those of `city.tiles` in `city.features`; None if there are none.

    Args:
        source: a map.
        checkpoint: SHA-256 of the weights that are to use them.

    Raises:
        DataError: if they are damaged, of another checkpoint, or of other tiles.
    """
    if not isinstance(source, TiledMap):
        return None
    path = source.file.path.with_suffix(SUFFIX)
    if not path.exists():
        return None
    file = FeatureFile(path)
    if file.contents.checkpoint != checkpoint:
        raise DataError(
            f"{path} holds features of another checkpoint (SHA-256 {file.contents.checkpoint[:12]}, and this one is "
            f"{checkpoint[:12]}): move it away, or {_REMEDY}"
        )
    if file.contents.tiles != source.file.identity:
        raise DataError(f"{path} holds features of other tiles than {source.file.path}: move it away, or {_REMEDY}")
    return file
