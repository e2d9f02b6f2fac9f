"""Georeferenced pictures of every kind that GIS programs write, each made here by rasterio, tifffile or OpenCV."""

import json
import logging
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyproj
import pytest
import rasterio
import tifffile
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.image import ImageMap
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.structures import DataError

CRS = "EPSG:25832"
EAST, NORTH = 456_000.0, 5_428_000.0  # upper left corner, near Karlsruhe
HEIGHT, WIDTH, PIXEL_M = 80, 100, 0.5
PLACE = Affine(PIXEL_M, 0.0, EAST, 0.0, -PIXEL_M, NORTH)
WORLD = (PIXEL_M, 0.0, 0.0, -PIXEL_M, EAST + 0.25, NORTH - 0.25)
VALUES = {"1": "building", "2": "water"}
COLOURS = {"#ff0000": "building", "#0000ff": "water"}
BUILDING, WATER, NOTHING = (30, 20), (70, 60), (50, 40)  # (column, row) of pixels


def values() -> np.ndarray:
    """A building of 20 x 10 pixels in the upper left, water of 20 x 10 in the lower right."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[15:25, 20:40] = 1
    pixels[55:65, 60:80] = 2
    return pixels


def colours() -> np.ndarray:
    return np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)[values()]


def write(path: Path, bands: np.ndarray, legend: dict[str, str] | None = None, **options: Any) -> Path:
    """A GeoTIFF of (h, w) or (bands, h, w)."""
    stack = bands[None] if bands.ndim == 2 else bands
    palette = options.pop("palette", None)
    interpretations = options.pop("interpretations", None)
    mask = options.pop("mask", None)
    defaults: dict[str, Any] = {"driver": "GTiff", "crs": CRS, "transform": PLACE, "dtype": stack.dtype}
    height, width = stack.shape[1:]
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=options.pop("internal_mask", True)),
        rasterio.open(path, "w", height=height, width=width, count=len(stack), **{**defaults, **options}) as file,
    ):
        file.write(stack)
        if palette is not None:
            file.write_colormap(1, palette)
        if interpretations is not None:
            file.colorinterp = interpretations
        if mask is not None:
            file.write_mask(mask)
    if legend is not None:
        path.with_suffix(".json").write_text(json.dumps({"legend": legend}))
    return path


def write_png(path: Path, pixels: np.ndarray, description: dict[str, Any], world: str = ".pgw") -> Path:
    """A PNG of grey or red, green, blue (and alpha) with a world file."""
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else None
    cv2.imwrite(str(path), pixels if order is None else pixels[..., order])
    path.with_suffix(world).write_text("\n".join(map(str, WORLD)))
    path.with_suffix(".json").write_text(json.dumps({"crs": CRS, **description}))
    return path


def indexed_png(
    path: Path, index: np.ndarray, palette: bytes, clear: bytes = b"", *, bits: int = 8, colour: int = 3
) -> Path:
    """A PNG with a palette, or with few bits of grey (colour 0), chunk by chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    per_byte = 8 // bits
    padded = np.pad(index, ((0, 0), (0, -index.shape[1] % per_byte)))
    packed = np.zeros((len(index), padded.shape[1] // per_byte), np.uint8)
    for i in range(per_byte):
        packed |= padded[:, i::per_byte] << (8 - bits * (i + 1))
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    height, width = index.shape
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    parts = [chunk(b"IHDR", head)]
    if palette:
        parts.append(chunk(b"PLTE", palette))
    if clear:
        parts.append(chunk(b"tRNS", clear))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    path.with_suffix(".pgw").write_text("\n".join(map(str, WORLD)))
    return path


def describe(path: Path, **description: Any) -> Path:
    path.with_suffix(".json").write_text(json.dumps(description))
    return path


def at(image: ImageMap, pixel: tuple[int, int], crs: str = CRS, place: Affine = PLACE) -> set[str]:
    """What shows where a pixel's centre lies, by another way than the package's."""
    x, y = place @ (pixel[0] + 0.5, pixel[1] + 0.5)
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    x_m, y_m = image.frame.metres_from_degrees(float(lat), float(lon))
    drawn = image.draw(Grid(2, 2, 0.1), SE2(x_m, y_m))
    return {LAYER_NAMES[i] for i in np.flatnonzero((drawn != 0).all(axis=(1, 2)))}


def assert_shows(path: Path, *, building: bool = True, crs: str = CRS, place: Affine = PLACE) -> ImageMap:
    """Building and water lie where they were drawn, and nothing between."""
    image = ImageMap.open(path)
    assert at(image, BUILDING, crs, place) == ({"building"} if building else set())
    assert at(image, WATER, crs, place) == {"water"}
    assert at(image, NOTHING, crs, place) == set()
    return image


def notes(image: ImageMap, *kinds: str) -> str:
    return " | ".join(note.line() for note in image.summary.notes if note.kind in kinds)


BIG = {"tiled": True, "blockxsize": 16, "blockysize": 16}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compress": "zstd"},
        {"compress": "lerc"},
        {"compress": "lzw", "predictor": 2},
        {"compress": "deflate", **BIG},
        {"compress": "webp", "webp_lossless": True, "colour": True},
        {"ENDIANNESS": "BIG"},
        {"BIGTIFF": "YES"},
        {"driver": "COG"},
        {"dtype": "uint16"},
        {"dtype": "int16"},
        {"dtype": "uint32"},
        {"dtype": "float32"},
        {"dtype": "float64"},
        {"dtype": "uint8", "NBITS": 2},
        {"dtype": "uint8", "NBITS": 4},
        {"colour": True},
        {"colour": True, "INTERLEAVE": "BAND"},
        {"colour": True, "dtype": "uint16"},
        {"AREA_OR_POINT": "Point"},
    ],
    ids=str,
)
def test_every_layout_and_type_of_geotiff(options: dict[str, Any], tmp_path: Path) -> None:
    colour = options.pop("colour", False) if "colour" in (options := dict(options)) else False
    bands = np.moveaxis(colours(), -1, 0) if colour else values()
    if colour:
        options["photometric"] = "RGB"
    path = write(
        tmp_path / "town.tif", bands.astype(options.get("dtype", "uint8")), COLOURS if colour else VALUES, **options
    )
    image = assert_shows(path)
    assert notes(image, "lost", "warning") == ""


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    bands = np.moveaxis(colours(), -1, 0).astype(np.uint16) * 257
    image = assert_shows(write(tmp_path / "town.tif", bands, COLOURS, photometric="RGB"))
    assert "16 bits" in notes(image, "assumed")


def test_values_beyond_a_byte_have_classes_too(tmp_path: Path) -> None:
    pixels = np.array([0, 1000, 40_000], np.uint16)[values()]
    assert_shows(write(tmp_path / "town.tif", pixels, {"1000": "building", "40000": "water"}))
    pixels = np.array([0, -5, 7], np.int16)[values()]
    assert_shows(write(tmp_path / "town.tif", pixels, {"-5": "building", "7": "water"}))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_what_the_file_marks_as_no_data_shows_nothing(dtype: str, tmp_path: Path) -> None:
    nothing = {"uint8": 255, "uint16": 65535, "int16": -9999, "float32": -3.4028234663852886e38}[dtype]
    pixels = values().astype(dtype)
    pixels[35:45, 45:55] = nothing
    assert_shows(write(tmp_path / "town.tif", pixels, VALUES, nodata=nothing))
    image = assert_shows(write(tmp_path / "town.tif", values().astype(dtype), VALUES, nodata=1), building=False)
    assert "building" in notes(image, "warning")


def test_not_a_number_is_no_data(tmp_path: Path) -> None:
    pixels = values().astype(np.float32)
    pixels[40, 50], pixels[41, 50] = np.nan, np.inf
    assert_shows(write(tmp_path / "town.tif", pixels, VALUES))
    assert_shows(write(tmp_path / "town.tif", pixels, VALUES, nodata=np.nan))


def test_no_data_in_colour_means_all_three_bands(tmp_path: Path) -> None:
    bands = np.moveaxis(colours(), -1, 0)
    assert_shows(write(tmp_path / "town.tif", bands, COLOURS, nodata=0, photometric="RGB"))
    bands = np.where(bands == 0, 255, np.where(bands == 255, 0, bands)).astype(np.uint8)
    legend = {"#00ffff": "building", "#ffff00": "water"}
    assert_shows(write(tmp_path / "town.tif", bands, legend, nodata=255, photometric="RGB"))


@pytest.mark.parametrize("kind", ["grey alpha", "colour alpha", "mask", "mask beside"])
def test_alpha_and_masks(kind: str, tmp_path: Path) -> None:
    seen = np.where(values() == 1, 0, 255).astype(np.uint8)
    path = tmp_path / "town.tif"
    if kind == "grey alpha":
        write(path, np.stack([values(), seen]), VALUES, ALPHA="YES")
    elif kind == "colour alpha":
        write(
            path, np.concatenate([np.moveaxis(colours(), -1, 0), seen[None]]), COLOURS, photometric="RGB", ALPHA="YES"
        )
    else:
        write(path, values(), VALUES, mask=seen, internal_mask=kind == "mask")
        assert path.with_name("town.tif.msk").exists() == (kind == "mask beside")
    assert_shows(path, building=False)


PALETTE = {0: (0, 0, 0, 255), 1: (255, 0, 0, 255), 2: (0, 0, 255, 255), 3: (255, 0, 0, 255)}
PLTE = bytes((0, 0, 0, 255, 0, 0, 0, 0, 255))


@pytest.mark.parametrize("legend", [VALUES, COLOURS, {"1": "building", "0,0,255": "water"}])
def test_palettes_by_place_and_by_colour(legend: dict[str, str], tmp_path: Path) -> None:
    assert_shows(write(tmp_path / "town.tif", values(), legend, palette=PALETTE))
    path = indexed_png(tmp_path / "town.png", values(), PLTE)
    assert_shows(describe(path, crs=CRS, legend=legend))
    path = indexed_png(tmp_path / "town.png", values(), PLTE, clear=bytes((255, 0)))
    assert_shows(describe(path, crs=CRS, legend=legend), building=False)
    path = indexed_png(tmp_path / "town.png", values(), PLTE, clear=bytes((0, 0, 128)), bits=2)
    assert_shows(describe(path, crs=CRS, legend=legend), building=False)


def test_a_palette_of_sixteen_bits(tmp_path: Path) -> None:
    pixels = values().astype(np.uint16) * 300
    table = np.zeros((3, 65536), np.uint16)
    table[0, 300], table[2, 600] = 65535, 65535
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 25832)
    tags = [(34735, "H", len(keys), keys, True), (33550, "d", 3, (PIXEL_M, PIXEL_M, 0.0), True)]
    tags.append((33922, "d", 6, (0.0, 0.0, 0.0, EAST, NORTH, 0.0), True))
    path = tmp_path / "town.tif"
    tifffile.imwrite(path, pixels, photometric="palette", colormap=table, extratags=tags)
    assert_shows(describe(path, legend=COLOURS))
    assert_shows(describe(path, legend={"300": "building", "600": "water"}))


def test_a_colour_that_the_palette_holds_twice(tmp_path: Path) -> None:
    pixels = values()
    pixels[18:20, 20:40] = 3
    image = assert_shows(write(tmp_path / "town.tif", pixels, COLOURS, palette=PALETTE))
    assert at(image, (30, 18)) == {"building"}


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey(bits: int, tmp_path: Path) -> None:
    white = 2**bits - 1
    path = indexed_png(tmp_path / "town.png", (values() == 2) * np.uint8(white), b"", bits=bits, colour=0)
    for legend in ({str(white): "water"}, {"255": "water"}, {"#ffffff": "water"}):
        image = ImageMap.open(describe(path, crs=CRS, legend=legend))
        assert at(image, WATER) == {"water"}
        assert at(image, BUILDING) == set()
    pixels = (values() == 2).astype(np.uint8)
    assert at(ImageMap.open(write(tmp_path / "b.tif", pixels, {"1": "water"}, NBITS=bits)), WATER) == {"water"}


def test_an_interlaced_png(tmp_path: Path) -> None:
    path = write_png(tmp_path / "town.png", values(), {"legend": VALUES})
    with rasterio.open(path) as file:
        pixels = file.read()
    rasterio.open(
        path, "w", driver="PNG", height=HEIGHT, width=WIDTH, count=1, dtype="uint8", WORLDFILE="YES", transform=PLACE
    ).write(pixels)
    assert_shows(path)


def test_transparent_grey_and_colour_in_png(tmp_path: Path) -> None:
    path = indexed_png(tmp_path / "town.png", values(), b"", clear=bytes((0, 1)), colour=0)
    assert_shows(describe(path, crs=CRS, legend=VALUES), building=False)
    alpha = np.where(values() == 1, 0, 255).astype(np.uint8)
    path = write_png(tmp_path / "rgba.png", np.dstack([colours(), alpha]), {"legend": COLOURS})
    assert_shows(path, building=False)


def test_more_bands_than_are_read_are_told(tmp_path: Path) -> None:
    image = assert_shows(write(tmp_path / "town.tif", np.stack([values()] * 5), VALUES))
    assert "2, 3, 4, 5 of 5" in notes(image, "ignored")
    bands = np.concatenate([np.moveaxis(colours(), -1, 0), np.full((1, HEIGHT, WIDTH), 9, np.uint8)])
    meanings = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    image = assert_shows(write(tmp_path / "town.tif", bands, COLOURS, photometric="RGB", interpretations=meanings))
    assert "4 of 4" in notes(image, "ignored")


def test_bands_in_another_order_than_red_green_blue(tmp_path: Path) -> None:
    bands = np.moveaxis(colours(), -1, 0)[::-1]
    meanings = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    assert_shows(write(tmp_path / "town.tif", bands, COLOURS, interpretations=meanings))


def test_classes_in_planes(tmp_path: Path) -> None:
    planes = {"red": "a", "classes": {"a": VALUES}}
    bands = np.stack([values(), np.zeros_like(values()), np.zeros_like(values())])
    image = assert_shows(describe(write(tmp_path / "town.tif", bands, photometric="MINISBLACK"), **planes))
    assert "bands 1, 2 and 3" in notes(image, "assumed")
    assert_shows(describe(write(tmp_path / "town.tif", bands, nodata=0), **planes))
    palette = {0: (0, 0, 0, 255), 1: (1, 9, 9, 255), 2: (2, 9, 9, 255)}
    assert_shows(describe(write(tmp_path / "town.tif", values(), palette=palette), **planes))


@pytest.mark.parametrize("bands", [1, 2])
def test_classes_of_planes_that_are_not_there(bands: int, tmp_path: Path) -> None:
    path = write(tmp_path / "town.tif", np.stack([values()] * bands))
    with pytest.raises(DataError, match="plane"):
        ImageMap.open(describe(path, blue="a", classes={"a": VALUES}))
    with pytest.raises(DataError, match="classes holds a"):
        ImageMap.open(describe(path, red="b", classes={"a": VALUES}))


@pytest.mark.parametrize(
    ("crs", "east", "north"),
    [
        ("EPSG:2249", 774_000.0, 2_956_000.0),
        ("EPSG:26986+ft", 774_000.0, 2_956_000.0),
        ("EPSG:2263", 987_000.0, 212_000.0),
        ("EPSG:2222", 700_000.0, 730_000.0),
    ],
)
def test_systems_in_feet(crs: str, east: float, north: float, tmp_path: Path) -> None:
    """US survey feet and international feet, by code and as a projection in metres with another unit."""
    path, feet = tmp_path / "town.tif", Affine(1.64, 0.0, east, 0.0, -1.64, north)
    if crs.endswith("+ft"):
        keys = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 26986, 3076, 0, 1, 9003)
        tags = [(34735, "H", len(keys), keys, True), (33550, "d", 3, (1.64, 1.64, 0.0), True)]
        tags.append((33922, "d", 6, (0.0, 0.0, 0.0, east, north, 0.0), True))
        tifffile.imwrite(path, values(), extratags=tags, photometric="minisblack")
        describe(path, legend=VALUES)
        crs = "EPSG:2249"
    else:
        write(path, values(), VALUES, crs=crs, transform=feet)
    image = assert_shows(path, crs=crs, place=feet)
    west, south, east, north = image.bounds_m
    assert (east - west, north - south) == (pytest.approx(50.0, rel=0.03), pytest.approx(40.0, rel=0.03))
    assert "to 4 m" in notes(image, "assumed")  # NAD83 is not WGS84, and PROJ has no grid at hand


def test_systems_without_a_code(tmp_path: Path) -> None:
    crs = "+proj=tmerc +lat_0=49 +lon_0=8.4 +k=1 +x_0=1000 +y_0=2000 +ellps=WGS84 +units=m"
    place = Affine(PIXEL_M, 0.0, 1000.0, 0.0, -PIXEL_M, 2000.0)
    image = assert_shows(write(tmp_path / "town.tif", values(), VALUES, crs=crs, transform=place), crs=crs, place=place)
    assert image.frame.origin_lat_deg == pytest.approx(49.0, abs=0.001)


@pytest.mark.parametrize(
    "place",
    [
        Affine(PIXEL_M, 0.0, EAST, 0.0, PIXEL_M, NORTH),  # south up
        Affine(-PIXEL_M, 0.0, EAST, 0.0, -PIXEL_M, NORTH),  # mirrored
        PLACE @ Affine.rotation(30.0),
        PLACE @ Affine.rotation(90.0),
        Affine(0.5, 0.0, EAST, 0.0, -0.25, NORTH),
        Affine(0.0, PIXEL_M, EAST, PIXEL_M, 0.0, NORTH),  # rows run east
    ],
)
def test_turned_and_mirrored_pictures(place: Affine, tmp_path: Path) -> None:
    assert_shows(write(tmp_path / "town.tif", values(), VALUES, transform=place), place=place)


@pytest.mark.parametrize("suffix", [".pgw", ".pngw", ".wld", ".PGW", ".Pgw", ".Wld"])
def test_world_files_by_every_name(suffix: str, tmp_path: Path) -> None:
    assert_shows(write_png(tmp_path / "town.png", values(), {"legend": VALUES}, suffix))


@pytest.mark.parametrize("text", [" ".join(map(str, WORLD)), "\ufeff" + "\n".join(map(str, WORLD))])
def test_world_files_in_one_line_or_with_a_mark_of_their_encoding(text: str, tmp_path: Path) -> None:
    path = write_png(tmp_path / "town.png", values(), {"legend": VALUES})
    path.with_suffix(".pgw").write_text(text, encoding="utf-8")
    assert_shows(path)


@pytest.mark.parametrize(("name", "world"), [("town.tif", ".tfw"), ("town.tiff", ".tiffw"), ("TOWN.TIF", ".wld")])
def test_world_files_of_tiff(name: str, world: str, tmp_path: Path) -> None:
    path = tmp_path / name
    cv2.imwrite(str(path), values())
    path.with_suffix(world).write_text("\r\n".join(f"{number:.12g}".replace(".", ",") for number in WORLD))
    if name == "town.tif":
        path.with_suffix(world).write_text("\n".join(map(str, WORLD)))
    assert_shows(describe(path, crs=CRS, legend=VALUES))


def test_a_world_file_that_the_geotiff_contradicts(tmp_path: Path) -> None:
    path = write(tmp_path / "town.tif", values(), VALUES)
    path.with_suffix(".tfw").write_text("\n".join(map(str, WORLD)))
    assert notes(assert_shows(path), "warning") == ""
    path.with_suffix(".tfw").write_text("0.5\n0\n0\n-0.5\n456100.25\n5427999.75\n")
    assert "town.tfw says otherwise, by 200 pixels" in notes(assert_shows(path), "warning")


def test_place_and_system_from_the_files_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "town.png"
    cv2.imwrite(str(path), values())
    wkt = pyproj.CRS(CRS).to_wkt("WKT1_GDAL")
    numbers = ", ".join(map(str, PLACE.to_gdal()))
    aux = path.with_name("town.png.aux.xml")
    aux.write_text(f"<PAMDataset><SRS>{wkt}</SRS><GeoTransform>{numbers}</GeoTransform></PAMDataset>")
    assert_shows(describe(path, legend=VALUES))
    aux.unlink()
    path.with_suffix(".pgw").write_text("\n".join(map(str, WORLD)))
    path.with_suffix(".prj").write_text(pyproj.CRS(CRS).to_wkt("WKT1_ESRI"))
    assert "town.prj" in notes(assert_shows(path), "used")


def test_ground_control_points(tmp_path: Path) -> None:
    def points(bend_m: float) -> list[GroundControlPoint]:
        corners = [(0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH)]
        moved = [bend_m, 0.0, 0.0, bend_m]
        return [
            GroundControlPoint(row, col, PLACE.c + PIXEL_M * col + off, PLACE.f - PIXEL_M * row)
            for (row, col), off in zip(corners, moved, strict=True)
        ]

    path = write(tmp_path / "town.tif", values(), VALUES, transform=None, crs=CRS, gcps=points(0.0))
    assert "4 ground control points" in notes(assert_shows(path), "assumed")
    path = write(tmp_path / "town.tif", values(), VALUES, transform=None, crs=CRS, gcps=points(8.0))
    with pytest.raises(DataError, match="gdalwarp"):
        ImageMap.open(path)


def test_degrees(tmp_path: Path) -> None:
    place = Affine(7e-6, 0.0, 8.4, 0.0, -4.5e-6, 49.0)
    for crs in ("EPSG:4326", "OGC:CRS84", "EPSG:4258", "EPSG:4979"):
        path = write(tmp_path / "town.tif", values(), VALUES, crs=crs, transform=place)
        assert_shows(path, crs="EPSG:4326", place=place)


def test_a_compound_system_counts_by_its_horizontal_part(tmp_path: Path) -> None:
    path = describe(write(tmp_path / "town.tif", values()), crs="EPSG:25832+7837", legend=VALUES)
    assert_shows(path)


LOCAL = 'ENGCRS["site",EDATUM["pillar"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("OGC:CRS84", "counts degrees"),
        ("EPSG:4326", "counts degrees"),
        ("EPSG:5703", "vertical"),
        ("EPSG:4978", "geocentric"),
        (LOCAL, "does not say where"),
        ("EPSG:99999999", "cannot be read"),
        ("nonsense", "cannot be read"),
        ("", "must be a code"),
        (True, "must be a code"),
        (25832.0, "must be a code"),
        (["EPSG:25832"], "must be a code"),
        ({"type": "ProjectedCRS"}, "cannot be read"),
        ("9" * 5000, "cannot be read"),
        (10**400, "does not fit into 64 bits"),
        ("+proj=tmerc +lon_0=9 +k=0.9996 +x_0=500000 +R=1737400", "surface|no place"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_systems_that_cannot_hold_a_picture(crs: object, message: str, tmp_path: Path) -> None:
    path = describe(write(tmp_path / "town.tif", values()), crs=crs, legend=VALUES)
    with pytest.raises(DataError, match=message) as caught:
        ImageMap.open(path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", [25832, "25832", "epsg:25832", pyproj.CRS(CRS).to_json_dict()], ids=str)
def test_systems_by_every_way_to_name_them(named: object, tmp_path: Path) -> None:
    image = assert_shows(describe(write(tmp_path / "town.tif", values()), crs=named, legend=VALUES))
    assert notes(image, "warning") == ""


def test_a_system_that_contradicts_the_file_is_told(tmp_path: Path) -> None:
    path = describe(write(tmp_path / "town.tif", values()), crs="EPSG:25833", legend=VALUES)
    image = assert_shows(path, crs="EPSG:25833")
    assert "ETRS89 / UTM zone 33N, the file ETRS89 / UTM zone 32N" in notes(image, "warning")
    assert "km apart; the JSON counts" in notes(image, "warning")


@pytest.mark.parametrize(
    "numbers",
    [
        ("1e308", "0", "0", "-1e308", "0", "0"),
        ("inf", "0", "0", "-inf", "0", "0"),
        ("nan", "0", "0", "-0.5", "0", "0"),
        ("0.5", "0", "0", "-0.5", "1e308", "1e308"),
        ("1e-9", "0", "0", "-1e-9", "456000", "5428000"),
        ("5000", "0", "0", "-5000", "456000", "5428000"),
        ("0.5", "0.5", "0.5", "0.5", "456000", "5428000"),
    ],
)
def test_pictures_of_no_size_or_any(numbers: tuple[str, ...], tmp_path: Path) -> None:
    path = write_png(tmp_path / "town.png", values(), {"legend": VALUES})
    path.with_suffix(".pgw").write_text("\n".join(numbers))
    with pytest.raises(DataError):
        ImageMap.open(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"legend": ' + "[" * 200_000 + "]" * 200_000 + "}",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"legend": {"' + "1" * 5000 + '": "building"}}',
        '{"legend": {"' + "1" * 4000 + '": "building"}}',
        '{"legend": {"1": ' + "9" * 5000 + "}}",
        '{"legend": {"1": ' + "9" * 4000 + "}}",
        '{"crs": ' + "9" * 5000 + "}",
        '{"legend": {"1e400": "building"}}',
        '{"legend": {"nan": "building"}}',
        '{"legend": {"99999999999": "building"}}',
        '{"legend": {"#ff00": "building"}}',
        '{"legend": {"256,0,0": "building"}}',
        '{"legend": {"1": "building", "1": "water"}}',
        '{"legend": {"1": "building", "1.0": "water"}}',
        '{"legend": {"1": ["building"]}}',
        '{"legend": ["building"]}',
        '{"classes": [1], "red": "a"}',
        '{"classes": {"a": 3}, "red": "a"}',
        '{"classes": {"a": {"1": "building"}}, "red": ["a"]}',
        "[]",
        "",
        "\x00\xff",
    ],
    ids=lambda text: text[:36],
)
def test_legends_beyond_all_measure(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "town.tif", values())
    path.with_suffix(".json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"town\.json") as caught:
        ImageMap.open(path)
    assert len(str(caught.value)) < 400


def test_keys_that_are_not_read_are_told(tmp_path: Path) -> None:
    pixels = (values() == 2).astype(np.uint8)
    image = ImageMap.open(describe(write(tmp_path / "town.tif", pixels), legends={"1": "water"}, author="me"))
    assert "did you mean legend?" in notes(image, "warning")
    assert "author" in notes(image, "ignored")
    assert "what is not black is road, 2.5 % of the picture" in notes(image, "assumed")


def test_roads_in_black_on_white_are_told(tmp_path: Path) -> None:
    image = ImageMap.open(write(tmp_path / "town.tif", (values() != 2).astype(np.uint8) * 255))
    assert "97.5 % of the picture; if roads are the black part" in notes(image, "warning")


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
def test_heights_are_no_map(dtype: str, tmp_path: Path) -> None:
    heights = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(dtype) * (1.5 if dtype == "float32" else 1)
    with pytest.raises(DataError, match="classes or colours"):
        ImageMap.open(write(tmp_path / "dem.tif", heights.astype(dtype)))
    with pytest.raises(DataError, match="complex64 values"):
        ImageMap.open(write(tmp_path / "dem.tif", values().astype(np.complex64)))


def test_a_lossy_picture_says_what_no_class_fits(tmp_path: Path) -> None:
    shown = np.array([[0, 0, 0], [128, 128, 128], [0, 0, 255]], np.uint8)[values()]
    big = np.kron(shown, np.ones((4, 4, 1), np.uint8))
    legend = {"#808080": "building", "#0000ff": "water"}
    options = {"photometric": "YCBCR", "compress": "jpeg", "JPEG_QUALITY": 60}
    path = write(tmp_path / "town.tif", np.moveaxis(big, -1, 0), legend, **options)
    with rasterio.open(path) as file:
        stored = np.moveaxis(file.read(), 0, -1)
    named = [(0, 0, 0), (128, 128, 128), (0, 0, 255)]
    unfit = ~np.any([(stored == colour).all(axis=-1) for colour in named], axis=0)
    assert 0.01 < unfit.mean() < 0.5
    image = ImageMap.open(path)
    assert f"{100.0 * unfit.mean():.1f} % of the pixels hold colours that no class fits" in notes(image, "lost")
    assert "JPEG" in notes(image, "lost")
    (note,) = image.summary.of_kind("lost")
    assert (note.count, note.total) == (np.count_nonzero(unfit), unfit.size)
    with pytest.raises(DataError, match=r"shows nothing .* % of the pixels hold colours that no class fits"):
        ImageMap.open(describe(path, legend={"#0000ff": "water"}))


def test_smoothed_edges_are_told_apart_from_what_the_legend_leaves_out(tmp_path: Path) -> None:
    left_out = colours()
    left_out[30:35] = (10, 200, 30)
    image = assert_shows(write_png(tmp_path / "town.png", left_out, {"legend": COLOURS}))
    assert "6.2 % of the pixels hold colours that no class fits, most of them #0ac81e" in notes(image, "ignored")
    assert notes(image, "lost") == ""
    smoothed = cv2.GaussianBlur(colours(), (0, 0), 1.5)
    assert "smoothing" in notes(ImageMap.open(write_png(tmp_path / "town.png", smoothed, {"legend": COLOURS})), "lost")


def test_nothing_reaches_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = geotiff_with_odd_tags(tmp_path)
    with caplog.at_level(logging.DEBUG):
        assert_shows(path)
        cut = tmp_path / "cut.png"
        write_png(cut, values(), {"legend": VALUES})
        cut.write_bytes(cut.read_bytes()[:-40])
        with pytest.raises(DataError, match="damaged"):
            ImageMap.open(cut)
    out = capfd.readouterr()
    assert out.err == ""
    assert out.out == ""
    assert not [record for record in caplog.records if record.name.startswith("rasterio") and record.levelno > 20]


def geotiff_with_odd_tags(folder: Path) -> Path:
    path = write(folder / "town.tif", values(), VALUES)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[305].overwrite("odd") if 305 in file.pages[0].tags else None
    return path


@pytest.mark.parametrize("name", ["town.tif", "town.png", "town.jpg"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / name
    noise = rng.integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
    if name == "town.tif":
        write(path, noise, VALUES, compress="deflate")
    else:
        write_png(path, noise, {"legend": VALUES})
    content = path.read_bytes()
    for length in (0, 3, 9, 60, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="town"):
            ImageMap.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7 ...", "a PDF"),
        (b"PK\x03\x04....", "zip"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"type": "FeatureCollection"}', "JSON"),
        (b"", "empty"),
        (b"<VRTDataset rasterXSize='1' rasterYSize='1'/>", "XML"),
    ],
)
def test_what_a_file_under_a_pictures_name_is(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "town.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        ImageMap.open(path)


def test_a_picture_in_many_strips_is_the_picture_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    pixels = np.zeros((700, 300), np.uint8)
    for _ in range(12):
        start, end = rng.integers(0, 300, 2), rng.integers(0, 700, 2)
        cv2.line(pixels, (int(start[0]), int(end[0])), (int(start[1]), int(end[1])), 255, int(rng.choice([9, 15])))
    path = write(tmp_path / "town.tif", pixels, compress="deflate")
    whole = ImageMap.open(path)
    monkeypatch.setattr("bevfusion.maps.strokes._STRIP_PIXELS", 300 * 90)
    monkeypatch.setattr("bevfusion.maps.raster.STRIP_PIXELS", 300 * 33)
    cut = ImageMap.open(path)
    for y_m in (-140.0, -60.0, 20.0, 110.0):
        one, other = (image.draw(Grid(300, 300, 0.5), SE2(0.0, y_m, 0.3)) for image in (whole, cut))
        assert one.any()
        np.testing.assert_array_equal(one, other)


def test_fine_pixels_draw_what_coarse_ones_draw(tmp_path: Path) -> None:
    pixels = np.zeros((160, 160), np.uint8)
    pixels[80] = 1
    coarse = ImageMap.open(write(tmp_path / "coarse.tif", pixels, {"1": "road"}))
    fine = np.zeros((1600, 1600), np.uint8)
    fine[804:806] = 1
    place = Affine(0.05, 0.0, EAST, 0.0, -0.05, NORTH)
    drawn = ImageMap.open(write(tmp_path / "fine.tif", fine, {"1": "road"}, transform=place)).draw(
        Grid(100, 100, 0.5), SE2()
    )
    expected = coarse.draw(Grid(100, 100, 0.5), SE2())
    for layer, most in (("road", 0.25), ("road_cos2", 0.05)):
        one, other = (tile[LAYER_NAMES.index(layer)].astype(float) for tile in (expected, drawn))
        assert np.abs(one - other).sum() <= most * np.abs(one).sum()
