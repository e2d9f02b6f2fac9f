import json
import math
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyproj
import pytest
import tifffile

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.image import ImageMap
from bevfusion.maps.osm import read_osm
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.schema import LAYER_NAMES, layer_index
from bevfusion.maps.source import open_map
from bevfusion.structures import DataError

UTM32 = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:25832", always_xy=True)
EAST, NORTH = 456_000.0, 5_428_000.0  # upper left corner of the test pictures, EPSG:25832, near Karlsruhe


def write_picture(
    folder: Path,
    pixels: np.ndarray,
    description: dict[str, Any] | None,
    *,
    world: tuple[float, ...] | None = (0.5, 0.0, 0.0, -0.5, EAST + 0.25, NORTH - 0.25),
    name: str = "town.png",
) -> Path:
    path = folder / name
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    if world is not None:
        path.with_suffix(".pgw").write_text("\n".join(map(str, world)))
    if description is not None:
        path.with_suffix(".json").write_text(json.dumps(description))
    return path


def street(size: int = 400) -> np.ndarray:
    """A street of one pixel from left to right, through the middle row."""
    pixels = np.zeros((size, size), np.uint8)
    pixels[size // 2, :] = 255
    return pixels


def place_of(image: ImageMap, column: float, row: float) -> tuple[float, float]:
    """Where a pixel of a test picture lies in the map frame, by another way than the package's."""
    lon, lat = UTM32.transform(EAST + 0.5 * (column + 0.5), NORTH - 0.5 * (row + 0.5), direction="INVERSE")
    return image.frame.metres_from_degrees(float(lat), float(lon))


def shown(layers: np.ndarray) -> set[str]:
    return {LAYER_NAMES[i] for i in np.flatnonzero(layers.any(axis=(1, 2)))}


def test_pixels_land_on_their_place(tmp_path: Path) -> None:
    pixels = np.zeros((400, 400), np.uint8)
    pixels[50:60, 300:340] = 7
    image = ImageMap.open(write_picture(tmp_path, pixels, {"crs": "EPSG:25832", "legend": {"7": "building"}}))
    x_m, y_m = place_of(image, 319.5, 54.5)
    for pose, mirrored in ((SE2(x_m, y_m), False), (SE2(x_m, y_m, 0.7), False), (SE2(x_m, y_m, -2.0), True)):
        drawn = image.draw(Grid(64, 64, 0.5), pose, mirrored)[layer_index("building")] == 127
        assert drawn.sum() == pytest.approx(400, rel=0.05)
        rows, cols = np.nonzero(drawn)
        np.testing.assert_allclose((rows.mean(), cols.mean()), 31.5, atol=0.5)
        assert drawn[32, 32]
    assert image.draw(Grid(64, 64, 0.5), SE2(x_m, y_m))[layer_index("building")].any(axis=0).sum() == pytest.approx(
        40, abs=2
    )
    assert shown(image.draw(Grid(64, 64, 0.5), SE2(x_m, y_m))) == {"building"}
    assert image.covers(x_m, y_m)
    assert not image.covers(x_m, y_m + 30.0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("yaw_deg", [0.0, 30.0, -75.0])
def test_grey_picture_without_legend_shows_roads_with_width_and_direction(
    yaw_deg: float, mirrored: bool, tmp_path: Path
) -> None:
    image = open_map(write_picture(tmp_path, street(), {"crs": "EPSG:25832"}))
    yaw_rad = math.radians(yaw_deg)
    drawn = image.draw(Grid(80, 80, 0.5), SE2(0.0, 0.0, yaw_rad), mirrored)
    assert shown(drawn) == {"road", "road_centre", "road_cos2", "road_sin2"}
    road = drawn[layer_index("road")] == 127
    x_m = Grid(80, 80, 0.5).centres_m() * (1.0, -1.0 if mirrored else 1.0)
    north_m = SE2(0.0, 0.0, yaw_rad).apply(x_m)[..., 1]
    assert road[np.abs(north_m + 0.25) < 2.0].all()
    assert not road[np.abs(north_m + 0.25) > 3.5].any()
    sign = -1.0 if mirrored else 1.0
    assert np.abs(drawn[layer_index("road_cos2")][road] - 127 * math.cos(-2 * yaw_rad)).max() < 6
    assert np.abs(drawn[layer_index("road_sin2")][road] - 127 * sign * math.sin(-2 * yaw_rad)).max() < 6


def test_broad_roads_keep_their_width(tmp_path: Path) -> None:
    pixels = np.zeros((400, 400), np.uint8)
    pixels[190:210] = 1  # 10 m
    image = ImageMap.open(write_picture(tmp_path, pixels, {"crs": "EPSG:25832"}))
    drawn = image.draw(Grid(80, 80, 0.5), SE2())
    assert (drawn[layer_index("road"), :, 40] == 127).sum() == 20
    centre = np.flatnonzero(drawn[layer_index("road_centre"), :, 40])
    assert 1 <= len(centre) <= 3
    assert centre.mean() == pytest.approx(39.5, abs=1.0)


def test_colours_by_legend_and_alpha(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[40:60, 40:60] = (255, 0, 0)
    pixels[10:30, 10:30] = (0, 128, 0)
    legend = {"#FF0000": "building", "0,128,0": "park"}
    image = ImageMap.open(write_picture(tmp_path, pixels, {"crs": "EPSG:25832", "legend": legend}))
    drawn = image.draw(Grid(100, 100, 0.5), SE2())
    assert shown(drawn) == {"building", "vegetation"}
    rows, cols = np.nonzero(drawn[layer_index("vegetation")])
    assert rows.mean() > 60  # the picture's upper rows are the tile's last
    assert cols.mean() < 40
    with_alpha = np.dstack([pixels[..., ::-1], np.where(pixels[..., 0] > 0, 0, 255).astype(np.uint8)])
    cv2.imwrite(str(tmp_path / "town.png"), with_alpha)
    assert shown(ImageMap.open(tmp_path / "town.png").draw(Grid(100, 100, 0.5), SE2())) == {"vegetation"}


def test_planes_of_classes(tmp_path: Path) -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[20:40, 20:40, 0] = 1
    pixels[30, :, 1] = 2
    pixels[70, 50, 2] = 3
    pixels[80, 50, 2] = 4
    classes = {"areas": {"1": "building"}, "ways": {"2": "fence"}, "nodes": {"3": "tree", "4": "shop"}}
    description = {"crs": "EPSG:25832", "red": "areas", "green": "ways", "blue": "nodes", "classes": classes}
    drawn = ImageMap.open(write_picture(tmp_path, pixels, description)).draw(Grid(100, 100, 0.5), SE2())
    assert shown(drawn) == {"building", "fence", "tree"}
    assert 5 <= (drawn[layer_index("tree")] == 127).sum() <= 21


def geotiff(folder: Path, *, point: bool = False, big: bool = False, matrix: bool = False, order: str = "<") -> Path:
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2 if point else 1, 3072, 0, 1, 25832)
    east, north = (EAST + 0.25, NORTH - 0.25) if point else (EAST, NORTH)
    tags: list[tuple[Any, ...]] = [(34735, "H", len(keys), keys, True), (42113, "s", 0, "255", True)]
    if matrix:
        tags.append((34264, "d", 16, (0.5, 0, 0, east, 0, -0.5, 0, north, 0, 0, 0, 0, 0, 0, 0, 1), True))
    else:
        tags.append((33550, "d", 3, (0.5, 0.5, 0.0), True))
        tags.append((33922, "d", 6, (0.0, 0.0, 0.0, east, north, 0.0), True))
    pixels = np.zeros((400, 400), np.uint8)
    pixels[50:60, 300:340] = 1
    pixels[200:250, 200:250] = 255  # no data
    path = folder / "town.tif"
    tifffile.imwrite(path, pixels, extratags=tags, bigtiff=big, byteorder=order, photometric="minisblack")
    return path


@pytest.mark.parametrize("options", [{}, {"point": True}, {"big": True}, {"matrix": True}, {"order": ">"}])
def test_geotiff(options: dict[str, Any], tmp_path: Path) -> None:
    path = geotiff(tmp_path, **options)
    path.with_suffix(".json").write_text('{"legend": {"1": "building", "255": "water"}}')
    image = ImageMap.open(path)
    x_m, y_m = place_of(image, 319.5, 54.5)
    drawn = image.draw(Grid(64, 64, 0.5), SE2(x_m, y_m))
    rows, cols = np.nonzero(drawn[layer_index("building")])
    np.testing.assert_allclose((rows.mean(), cols.mean()), 31.5, atol=0.5)
    assert not image.draw(Grid(400, 400, 0.5), SE2())[layer_index("water")].any()


def test_cut_geotiff_is_refused(tmp_path: Path) -> None:
    path = geotiff(tmp_path)
    content = path.read_bytes()
    for length in (0, 3, 9, 200, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="town"):
            ImageMap.open(path)


@pytest.mark.parametrize(
    ("description", "world", "message"),
    [
        ({"crs": "EPSG:25832"}, None, "world file"),
        ({"crs": "EPSG:25832"}, (1.0, 2.0), "six numbers"),
        ({"crs": "EPSG:25832"}, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "without area"),
        (None, (0.5, 0.0, 0.0, -0.5, EAST, NORTH), "coordinate system"),
        ({"crs": "EPSG:99999999"}, (0.5, 0.0, 0.0, -0.5, EAST, NORTH), "coordinate system"),
        ({"crs": "EPSG:25832"}, (0.5, 0.0, 0.0, -0.5, 1e12, 1e12), "no place"),
        (
            {"crs": "EPSG:25832", "legend": {"1": "bilding"}},
            (0.5, 0.0, 0.0, -0.5, EAST, NORTH),
            "did you mean 'building'",
        ),
        ({"crs": "EPSG:25832", "legend": {"#ff0000": "road"}}, (0.5, 0.0, 0.0, -0.5, EAST, NORTH), "does not fit"),
        ({"crs": "EPSG:25832", "legend": {"9": "road"}}, (0.5, 0.0, 0.0, -0.5, EAST, NORTH), "shows nothing"),
        ({"crs": "EPSG:25832", "legend": 3}, (0.5, 0.0, 0.0, -0.5, EAST, NORTH), "legend"),
        ({"crs": "EPSG:25832", "legend": {}}, (0.5, 0.0, 0.0, -0.5, EAST, NORTH), "empty"),
    ],
)
def test_unusable_pictures_say_why(
    description: dict[str, Any] | None, world: tuple[float, ...] | None, message: str, tmp_path: Path
) -> None:
    path = write_picture(tmp_path, street(), description, world=world)
    with pytest.raises(DataError, match=message) as caught:
        ImageMap.open(path)
    assert "\n" not in str(caught.value)


def test_colour_picture_needs_a_legend(tmp_path: Path) -> None:
    pixels = np.zeros((50, 50, 3), np.uint8)
    pixels[20:30] = (10, 200, 30)
    with pytest.raises(DataError, match="legend"):
        ImageMap.open(write_picture(tmp_path, pixels, {"crs": "EPSG:25832"}))


def test_broken_picture_files(tmp_path: Path) -> None:
    path = write_picture(tmp_path, street(), {"crs": "EPSG:25832"})
    content = path.read_bytes()
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match="no PNG"):
        ImageMap.open(path)
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + content[24:29]
    path.write_bytes(content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:])
    with pytest.raises(DataError, match="million"):
        ImageMap.open(path)
    path.write_bytes(content)
    path.with_suffix(".json").write_text("{nonsense")
    with pytest.raises(DataError, match="no JSON"):
        ImageMap.open(path)
    with pytest.raises(DataError, match="not a file"):
        ImageMap.open(tmp_path / "none.png")


@pytest.mark.parametrize("name", ["00", "05", "07"])
def test_real_picture_and_extract_show_the_same_town(name: str, shared_data: Path) -> None:
    image = ImageMap.open(shared_data / "maps" / "image" / f"kitti_{name}.png")
    extract = OsmRenderer(read_osm(shared_data / "maps" / f"kitti_{name}.osm.bz2"))
    centre = GeoPose(image.frame.origin_lat_deg, image.frame.origin_lon_deg, 0.4)
    grid = Grid(512, 512, 0.5)
    by_image = image.draw(grid, image.frame.map_from_ego(centre))
    by_osm = extract.draw(grid, extract.frame.map_from_ego(centre))
    road, cos2, sin2 = (layer_index(name) for name in ("road", "road_cos2", "road_sin2"))
    both = (by_image[road] > 0) & (by_osm[road] > 0)
    either = (by_image[road] > 0) | (by_osm[road] > 0)
    assert both.sum() / either.sum() > 0.35  # lanes and car parks differ by the years between the maps
    agreement = (
        by_image[cos2][both].astype(int) * by_osm[cos2][both] + by_image[sin2][both].astype(int) * by_osm[sin2][both]
    ) / 127**2
    assert np.median(agreement) > 0.98
