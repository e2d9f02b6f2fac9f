"""Reading georeferenced pictures by rasterio (GDAL): place, coordinate system, and pixels strip by strip."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from jaxtyping import Bool, Float, Num
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import from_gcps
from rasterio.windows import Window

from bevfusion.maps.classes import PixelKind
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")
MAX_PIXELS = 150_000_000
"""Larger pictures are refused."""

STRIP_PIXELS = 8_000_000
"""So many are unpacked at a time."""

_DRIVERS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),
    (b"MM\0+", "GTiff"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"RIFF", "WEBP"),
)
_NO_PICTURES = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"GIF8", "a GIF"),
    (b"version https://git-lfs", "a pointer of Git LFS"),
    (b"SQLite format 3", "an SQLite file (GeoPackage, MBTiles)"),
    (b"<", "XML or HTML"),
    (b"{", "JSON"),
)
_LOSSY = ("JPEG", "YCBCR JPEG", "LERC", "LERC_DEFLATE", "LERC_ZSTD", "WEBP", "JXL")
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_GDAL = {
    "GDAL_CACHEMAX": 256,  # MB; the block cache would take 5 % of all memory
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",  # what a PNG that is cut short lacks would be read as noise, without an error
}
_STRAIGHT_PIXELS = 1.0  # ground control points may deviate so much from a plane map


class Picture:
    """A picture that is open for reading; see `open_picture`."""

    def __init__(self, source: Any, path: Path, summary: InputSummary) -> None:
        """Look at what it holds."""
        self._source = source
        self._path = path
        self._summary = summary
        self.height, self.width = int(source.height), int(source.width)
        if self.height * self.width > MAX_PIXELS:
            size = f"{self.width} x {self.height}"
            raise DataError(f"{path} has {size} pixels; cut it to at most {MAX_PIXELS // 1_000_000} million")
        if len(source.subdatasets) > 1:
            summary.add("ignored", "pages", f"{len(source.subdatasets)} pictures in one file: the first is read")
        interpretations = source.colorinterp
        shown = [i + 1 for i, meaning in enumerate(interpretations) if meaning is not ColorInterp.alpha]
        self.kind = self._kind(shown, interpretations)
        if self.kind.colour:
            colours = [1 + interpretations.index(colour) for colour in _RGB]
            shown = [*colours, *(band for band in shown if band not in colours)]
        self._bands = tuple(shown)
        self.crs: pyproj.CRS | None = self._read_crs()

    def _kind(self, shown: Sequence[int], interpretations: Sequence[ColorInterp]) -> PixelKind:
        if not shown:
            raise DataError(f"{self._path} holds no pixels but alpha")
        if ColorInterp.cyan in interpretations:
            raise DataError(f"{self._path} is in the colours of print (CMYK); export it in RGB")
        dtypes = {self._source.dtypes[band - 1] for band in shown}
        dtype = np.dtype(max(dtypes, key=lambda name: np.dtype(name).itemsize))
        if dtype.kind not in "uif":
            raise DataError(f"{self._path} holds {dtype} values; a map picture has classes or colours")
        colour = set(_RGB) <= set(interpretations)
        bits = int(self._source.tags(shown[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
        white = 65535 if dtype == np.uint16 and bits >= 8 else 2 ** min(bits, 8) - 1
        return PixelKind(len(shown), dtype, colour, self._palette(shown[0], interpretations), white, self._lossy())

    def _palette(self, band: int, interpretations: Sequence[ColorInterp]) -> np.ndarray | None:
        if interpretations[band - 1] is not ColorInterp.palette:
            return None
        entries = self._source.colormap(band)
        palette = np.zeros((max(entries) + 1, 4), np.uint8)
        for value, colour in entries.items():
            palette[value] = colour
        return palette

    def _lossy(self) -> str:
        structure = self._source.tags(ns="IMAGE_STRUCTURE")
        name = structure.get("COMPRESSION", "")
        if self._source.driver in ("JPEG", "WEBP"):
            name = name or self._source.driver
        if name.upper() not in _LOSSY or structure.get("COMPRESSION_REVERSIBILITY", "").startswith("LOSSLESS"):
            return ""
        exact = name.startswith("LERC") and float(structure.get("MAX_Z_ERROR", 0.0)) == 0.0
        return "" if exact else name.split()[-1]

    def _read_crs(self) -> pyproj.CRS | None:
        _, of_points = self._source.gcps
        crs = self._source.crs or of_points
        if crs:
            try:
                return pyproj.CRS.from_wkt(crs.to_wkt())
            except (pyproj.exceptions.CRSError, RasterioError) as error:
                self._summary.add("lost", "crs", f"the file's coordinate system cannot be read ({_line(error)})")
                return None
        beside = _beside(self._path, (".prj",))
        if beside is None:
            return None
        try:
            found = pyproj.CRS.from_wkt(beside.read_text(encoding="utf-8"))
        except (pyproj.exceptions.CRSError, ValueError, OSError) as error:
            self._summary.add("lost", "crs", f"{beside.name} cannot be read ({_line(error)})")
            return None
        self._summary.add("used", "crs", f"{found.name}, from {beside.name}")
        return found

    def crs_from_pixel(self) -> Float[np.ndarray, "2 3"]:
        """Affine map (column, row, 1) of pixel centres -> coordinates: from the file, or the world file beside it.

        Raises:
            DataError: if there is none, or none that a flat map can have.
        """
        given = self._source.transform
        points, _ = self._source.gcps
        if given.is_identity and points:
            given = self._plane(points)
        beside = _beside(self._path, _world_suffixes(self._path))
        if given.is_identity:
            if beside is not None:
                return _world(beside)
            if self._source.rpcs is not None:
                raise DataError(f"{self._path} is an image of a satellite (RPC), not a map; warp it with gdalwarp")
            stem = self._path.stem
            raise DataError(f"{self._path} has no place on the globe; put a world file ({stem}.pgw, .tfw) beside it")
        corner = np.array([[given.a, given.b, given.c], [given.d, given.e, given.f]])
        if np.isfinite(corner).all():  # else it is refused where the place is used
            corner[:, 2] += corner[:, :2] @ (0.5, 0.5)
        self._tell_contradiction(beside, corner)
        return corner

    def _plane(self, points: Sequence[Any]) -> Any:
        plane = from_gcps(points)
        pixel = math.sqrt(abs(plane.determinant)) or 1.0
        off = [math.dist(plane @ (point.col, point.row), (point.x, point.y)) / pixel for point in points]
        if len(points) < 3 or not max(off) <= _STRAIGHT_PIXELS:
            raise DataError(
                f"{self._path} lies on {len(points)} ground control points that no plane map fits "
                f"(off by {max(off):.1f} pixels); warp it with gdalwarp"
            )
        self._summary.add("assumed", "place", f"from {len(points)} ground control points, to {max(off):.2f} pixels")
        return plane

    def _tell_contradiction(self, beside: Path | None, chosen: Float[np.ndarray, "2 3"]) -> None:
        six = None if beside is None else _six_numbers(beside)
        if beside is None or six is None or not np.isfinite([*six, *chosen.ravel()]).all():
            return
        a, d, b, e, c, f = six
        corners = np.array([[0.0, 0.0, 1.0], [self.width - 1.0, self.height - 1.0, 1.0]])
        apart = corners @ (np.array([[a, b, c], [d, e, f]]) - chosen).T
        pixels = np.abs(np.linalg.pinv(chosen[:, :2]) @ apart.T).max()
        if not pixels <= 0.6:  # half a pixel is the usual quarrel of corners and centres, and moves no map
            self._summary.add(
                "warning", "place", f"{beside.name} says otherwise, by {pixels:.3g} pixels; it is not used"
            )

    def strips(self, bands: Sequence[int]) -> Iterator[tuple[int, Num[np.ndarray, "h w c"], Bool[np.ndarray, "h w c"]]]:
        """The picture from top to bottom: (first row, pixels, which of them hold data).

        Args:
            bands: those wanted, from 0, in the order of red, green, blue.

        Raises:
            DataError: if the file is damaged, or holds values with a fraction.
        """
        numbers = [self._bands[band] for band in bands]
        left = [band for band in self._bands if band not in numbers]
        if left:
            self._summary.add("ignored", "bands", f"{', '.join(map(str, left))} of {len(self._bands)}", count=len(left))
        rows = self._rows(len(numbers))
        for first in range(0, self.height, rows):
            window = Window(0, first, self.width, min(rows, self.height - first))
            try:
                pixels = self._source.read(numbers, window=window)
                seen = self._seen(numbers, window, pixels)
            except RasterioError as error:
                raise DataError(f"{self._path} is damaged or cut short ({_line(error)}); export it again") from error
            if pixels.dtype.kind == "f":
                seen &= np.isfinite(pixels)
                pixels = np.where(seen, pixels, 0)
                if not (pixels == np.rint(pixels)).all():
                    raise DataError(
                        f"{self._path} holds {pixels.dtype} values with fractions, such as "
                        f"{pixels[pixels != np.rint(pixels)][0]:g}; a map picture has classes or colours"
                    )
            yield first, np.moveaxis(pixels, 0, -1), np.moveaxis(seen, 0, -1)

    def _rows(self, bands: int) -> int:
        """Rows of a strip: whole blocks of the file, so that none is unpacked twice."""
        block = max(int(shape[0]) for shape in self._source.block_shapes)
        wanted = max(1, STRIP_PIXELS // (self.width * bands))
        return min(self.height, block * max(1, wanted // block))

    def _seen(self, numbers: Sequence[int], window: Window, pixels: np.ndarray) -> np.ndarray:
        flags = [self._source.mask_flag_enums[number - 1] for number in numbers]
        if all(MaskFlags.all_valid in flag for flag in flags):
            seen = np.ones(pixels.shape, bool)
        else:
            seen = self._source.read_masks(list(numbers), window=window) > 0
        if self.kind.palette is not None:
            clear = np.flatnonzero(self.kind.palette[:, 3] == 0)
            if len(clear):
                seen &= ~np.isin(pixels, clear)
        return seen

    def brightest(self) -> int:
        """The highest value in the colour bands that holds data."""
        return max(int(np.where(seen, pixels, 0).max()) for _, pixels, seen in self.strips((0, 1, 2)))


@contextmanager
def open_picture(path: Path, summary: InputSummary) -> Iterator[Picture]:
    """Open a picture for reading; what GDAL says of it goes into the summary, not to standard error.

    Raises:
        DataError: if it is no picture of a kind that is read, too large, or damaged.
    """
    with _messages() as said, rasterio.Env(**_GDAL):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                source = rasterio.open(path.resolve(), driver=_driver(path))
        except (RasterioError, CPLE_BaseError) as error:
            raise DataError(f"{path} is not a readable picture ({_line(error)}); export it again") from error
        with source:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                try:
                    picture = Picture(source, path, summary)
                except (RasterioError, CPLE_BaseError) as error:  # as of a world file that is one endless line
                    told = f"{path} or a file beside it is not readable ({_line(error)}); export it again"
                    raise DataError(told) from error
            yield picture
    for text in said:
        summary.add("warning", "file", f"GDAL says: {text}")


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Collects what GDAL says, and keeps it from the handlers of the program."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = _line(record.getMessage())
            if record.levelno >= logging.WARNING and text not in said:
                said.append(text)

    logger, collector = logging.getLogger("rasterio"), Collector()
    spread = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(collector)
        logger.propagate = spread


def _driver(path: Path) -> str:
    """GDAL's name of a picture's format, by what the file begins with, whatever it is called.

    Raises:
        DataError: if it is no picture of a kind that is read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    for start, driver in _DRIVERS:
        if head.startswith(start) and (driver != "WEBP" or head[8:12] == b"WEBP"):
            return driver
    found = next((name for start, name in _NO_PICTURES if head.lstrip().startswith(start)), "something else")
    raise DataError(
        f"{path} is no PNG, TIFF, JPEG or WebP picture but {found if head else 'an empty file'}; export it again"
    )


def _beside(path: Path, suffixes: Sequence[str]) -> Path | None:
    """The first file beside a picture with its stem and one of these suffixes, in any case."""
    names = {file.name.lower(): file for file in path.parent.iterdir() if file.stem == path.stem}
    return next((names[name] for s in suffixes if (name := (path.stem + s).lower()) in names), None)


def _world_suffixes(path: Path) -> tuple[str, ...]:
    suffix = path.suffix.lower()
    return (suffix[:2] + suffix[-1] + "w", suffix + "w", ".wld")


def _world(world_file: Path) -> Float[np.ndarray, "2 3"]:
    """The map of pixel centres in a world file that GDAL does not take: by its name, or with all numbers in a line."""
    six = _six_numbers(world_file)
    if six is None:
        raise DataError(f"{world_file} is no world file: expected six numbers")
    a, d, b, e, c, f = six
    if not abs(a * e - b * d) > 0.0:
        raise DataError(f"{world_file} is no world file: its numbers {six} are without area")
    return np.array([[a, b, c], [d, e, f]])


def _six_numbers(world_file: Path) -> tuple[float, float, float, float, float, float] | None:
    try:
        words = world_file.read_text(encoding="utf-8-sig").replace(",", ".").split()
        a, d, b, e, c, f = (float(word) for word in words)
    except ValueError:
        return None
    return a, d, b, e, c, f


def _line(error: object) -> str:
    return " ".join(str(error).split())[:160]
