"""Tiles on disk: a map drawn once, block by block, in a file that is mapped into memory.

    {"format": "bevfusion tiles", "version": 3, "name": ..., ...}    one line of JSON: `Contents`
    block, block, ...                                                by rows, lowest y first; blank ones take none
    offsets                                                          where each block begins; then where this begins

The first line ends with a checksum of itself and of the offsets. A block is a deflated stream, which carries a
checksum: one byte a layer that says how its plane is kept (0 blank and not kept, 1 as bits, 2 as bits and then the
values that are not 0), and those planes. What a block costs to find does not depend on how many there are.
Little-endian throughout.
"""

import hashlib
import json
import mmap
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int8

from bevfusion.files import atomic_file
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.maps.schema import LAYER_NAMES, LAYERS
from bevfusion.parsing import parse_json
from bevfusion.structures import DataError

SUFFIX = ".tiles"
VERSION = 3
BLOCK_CELLS = 256
"""Side of a block: 128 m at 0.5 m a cell, so that a tile is put together from few."""

MAX_BLOCKS = 4_000_000
"""Of a file: 250 x 250 km at 0.5 m a cell."""

_START = b'{"format": "bevfusion tiles"'
_MAX_HEADER_BYTES = 65_536
_BITS, _VALUES = 1, 2
_CELLS = BLOCK_CELLS * BLOCK_CELLS
_PLANE_BYTES = _CELLS // 8
_ONE = 127
_MAX_BLOCK_BYTES = len(LAYERS) * (1 + _PLANE_BYTES + _CELLS)

Block = Int8[np.ndarray, "l h w"]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the first line of a file says of the rest.

    Raises:
        ValueError: if it makes no sense.
    """

    name: str
    origin_deg: tuple[float, float]  # latitude, longitude of the map frame
    bounds_m: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max that the map covers
    cell_m: float
    first_block: tuple[int, int]  # row, column on the lattice of blocks about the map's origin
    blocks: tuple[int, int]  # rows, columns
    made_from: Mapping[str, str | None]  # the extract, as `map_provenance` describes it

    def __post_init__(self) -> None:
        GeoPose(*self.origin_deg)
        x0_m, y0_m, x1_m, y1_m = self.bounds_m
        rows, columns = self.blocks
        if not (x0_m <= x1_m and y0_m <= y1_m and np.isfinite([*self.bounds_m, self.cell_m]).all() and self.cell_m > 0):
            raise ValueError(f"expected an area and cells with a size, got {self.bounds_m} and {self.cell_m}")
        if not (rows > 0 and columns > 0 and rows * columns <= MAX_BLOCKS):
            raise ValueError(f"{rows} x {columns} blocks are not between 1 and {MAX_BLOCKS}; take larger cells")

    @property
    def frame(self) -> LocalFrame:
        """The map frame."""
        return LocalFrame(*self.origin_deg)

    def to_line(self, offsets: bytes) -> bytes:
        """The first line of a file, of the same length whatever the offsets are."""
        words = {"format": "bevfusion tiles", "version": VERSION, "layers": LAYER_NAMES, "block_cells": BLOCK_CELLS}
        return with_checksum(words | asdict(self), offsets)

    @classmethod
    def of_line(cls, line: bytes) -> "Contents":
        """The inverse of `to_line`.

        Raises:
            ValueError: if it was made by another version, or with other layers.
        """
        words: dict[str, Any] = parse_json(line.decode(), "its first line")
        if words["version"] != VERSION:
            raise ValueError(f"version {words['version']} of the format, expected {VERSION}")
        if tuple(words["layers"]) != LAYER_NAMES or words["block_cells"] != BLOCK_CELLS:
            raise ValueError("it has other layers than this version of bevfusion")
        row, column = words["first_block"]
        rows, columns = words["blocks"]
        lat_deg, lon_deg = words["origin_deg"]
        x0_m, y0_m, x1_m, y1_m = map(float, words["bounds_m"])
        return cls(
            str(words["name"]),
            (float(lat_deg), float(lon_deg)),
            (x0_m, y0_m, x1_m, y1_m),
            float(words["cell_m"]),
            (int(row), int(column)),
            (int(rows), int(columns)),
            dict(words["made_from"]),
        )


def with_checksum(words: Mapping[str, Any], table: bytes) -> bytes:
    """The words as a line that ends with a checksum of them and of the table that ends a file."""
    checked = json.dumps(words).encode() + table
    return json.dumps({**words, "checksum": f"{zlib.crc32(checked):08x}"}).encode() + b"\n"


def pack(layers: Block) -> bytes:
    """A block as it is kept; empty if it shows nothing."""
    flat = layers.reshape(len(LAYERS), -1)
    shown = flat != 0
    present = np.flatnonzero(shown.any(axis=1))
    if not len(present):
        return b""
    kinds = np.zeros(len(LAYERS), np.uint8)
    parts = [b""]
    for layer, bits in zip(present, np.packbits(shown[present], axis=1), strict=True):
        parts.append(bits.tobytes())
        values = flat[layer][shown[layer]]
        kinds[layer] = _BITS if (values == _ONE).all() else _VALUES
        if kinds[layer] == _VALUES:
            parts.append(values.tobytes())
    parts[0] = kinds.tobytes()
    return zlib.compress(b"".join(parts), 1)  # higher levels take thrice as long for a quarter less


def unpack(packed: bytes | memoryview) -> Block:
    """The inverse of `pack`, of a block that shows something.

    Raises:
        ValueError: if the block is damaged.
    """
    stream = zlib.decompressobj()
    try:
        content = np.frombuffer(stream.decompress(packed, _MAX_BLOCK_BYTES), np.uint8)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not stream.eof or stream.unused_data or len(content) < len(LAYERS):
        raise ValueError("it does not end where it should")
    layers = np.zeros((len(LAYERS), _CELLS), np.int8)
    at = len(LAYERS)
    for layer in np.flatnonzero(content[:at]):
        shown = np.unpackbits(content[at : at + _PLANE_BYTES]).view(bool)
        at += _PLANE_BYTES
        if content[layer] == _BITS:
            np.multiply(shown, np.int8(_ONE), out=layers[layer])
        else:
            cells = np.flatnonzero(shown)
            layers[layer][cells] = content[at : at + len(cells)].view(np.int8)
            at += len(cells)
    if at != len(content):
        raise ValueError("it holds more than its layers")
    return layers.reshape(len(LAYERS), BLOCK_CELLS, BLOCK_CELLS)


def write_tile_file(
    path: Path, contents: Contents, blocks: Iterable[bytes], on_block: Callable[[int, int], None] | None = None
) -> None:
    """Write a file, under another name until it is whole.

    Args:
        path: of the file; one that is there is replaced.
        contents: its first line.
        blocks: what `pack` made of them, in their order.
        on_block: called with (blocks done, blocks in all).

    Raises:
        DataError: if it cannot be written.
    """
    count = contents.blocks[0] * contents.blocks[1]
    offsets = np.zeros(count + 1, "<u8")
    try:
        with atomic_file(path) as draft, draft.open("wb") as file:
            offsets[0] = file.write(contents.to_line(b""))
            for number, packed in zip(range(1, count + 1), blocks, strict=True):
                offsets[number] = offsets[number - 1] + file.write(packed)
                if on_block is not None:
                    on_block(number, count)
            file.write(offsets.tobytes())
            file.seek(0)
            file.write(contents.to_line(offsets.tobytes()))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


class TileFile:
    """A file of blocks, open for reading: pages of it are in memory while they are in use, and as there is room."""

    def __init__(self, path: Path) -> None:
        """Map a file into memory and check that it is whole.

        Raises:
            DataError: if it is missing, no file of tiles, damaged, or made with another version or other layers.
        """
        if not path.is_file():
            raise DataError(f"{path} is not a file; `bevfusion tile MAP --output {path.name}` makes one")
        self.path = path
        with path.open("rb") as file:
            line = file.readline(_MAX_HEADER_BYTES)
            if not line.startswith(_START):
                raise DataError(f"{path} is no file of tiles; make one with `bevfusion tile`")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.contents = Contents.of_line(line)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path} cannot be used ({error}); make it anew with `bevfusion tile`") from error
        count = self.contents.blocks[0] * self.contents.blocks[1]
        table = len(self._bytes) - 8 * (count + 1)
        if table >= len(line):
            self._offsets = np.frombuffer(self._bytes, "<u8", offset=table)
        if table < len(line) or (self._offsets[0], self._offsets[-1]) != (len(line), table):
            raise DataError(f"{path} is cut off or damaged; make it anew with `bevfusion tile`")
        words = parse_json(line.decode(), path)
        words.pop("checksum", None)
        if line != with_checksum(words, self._offsets.tobytes()):
            raise DataError(
                f"{path} is damaged: its first line does not fit the rest; make it anew with `bevfusion tile`"
            )

    @property
    def identity(self) -> str:
        """SHA-256 of the first line: it tells what the file was made from, and has a checksum of the blocks' sizes."""
        return hashlib.sha256(self.contents.to_line(self._offsets.tobytes())).hexdigest()

    def block(self, row: int, column: int) -> Block | None:
        """A block of the lattice about the map's origin; None where it shows nothing, or the file ends.

        Raises:
            DataError: if it is damaged.
        """
        (row0, column0), (rows, columns) = self.contents.first_block, self.contents.blocks
        if not (0 <= row - row0 < rows and 0 <= column - column0 < columns):
            return None
        number = (row - row0) * columns + column - column0
        start, stop = self._offsets[number : number + 2].tolist()
        if start == stop:
            return None
        try:
            return unpack(self._bytes[start:stop])
        except ValueError as error:
            raise DataError(f"{self.path}: a block is damaged ({error}); make it anew with `bevfusion tile`") from error
