"""Things that a picture shows as thin lines or dots get their width, and roads their middle and direction.

It works in place and strip by strip, each with so many rows around it as its answer depends on: a picture of 144
million pixels takes no more memory than its bits, its directions and a few strips.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int8, Shaped

from bevfusion.maps.classes import ClassPicture, bits_type
from bevfusion.maps.schema import LAYERS, layer_index

_LINE_WIDTH_M = 0.5
_HALF_ROAD_M = 3.0  # scale on which directions are smoothed
_BROADEST_M = 40.0  # what lies further inside a broad road than this has no middle
_FINE_M = 0.25  # directions are not told more finely
_STRIP_PIXELS = 6_000_000
_LARGEST_DISC = 41  # pixels; wider ones are drawn by distance, which costs the same at any width


class Strokes(NamedTuple):
    """What becomes of a picture."""

    classes: ClassPicture
    twice: Int8[np.ndarray, "h w 2"] | None  # 127 (cos, sin) of twice the road's direction in the map frame
    step: int  # pixels to a cell of `twice`, along columns and rows


class _Strip(NamedTuple):
    first: int
    last: int
    top: int  # rows above that only lend their values
    bits: Shaped[np.ndarray, "h w"]


def drawn(classes: ClassPicture, map_from_pixel: Float[np.ndarray, "2 2"]) -> Strokes:
    """Widen what is drawn thin, find the middle of roads, and estimate their direction.

    Args:
        classes: what each pixel shows; its bits may be changed.
        map_from_pixel: metres in the map frame of one pixel to the right and of one down (columns).
    """
    layers = classes.layers
    pixel_m = np.hypot(*map_from_pixel)
    roads = "road" in layers
    thin = _thin_layers(classes)
    if roads and "road_centre" not in layers:
        layers = (*layers, "road_centre")
    bits = classes.bits.astype(bits_type(len(layers)), copy=False)
    height, width = bits.shape
    step = max(1, int(_FINE_M / pixel_m.min())) if roads else 1
    twice = np.zeros((-(-height // step), -(-width // step), 2), np.int8) if roads else None
    rows = step * max(1, _STRIP_PIXELS // (width * step))
    for strip in _strips(bits, rows, _margin(pixel_m, step)):
        own = slice(strip.top, strip.top + strip.last - strip.first)
        bits[strip.first : strip.last] = 0
        for position, layer in enumerate(layers):
            mask = (strip.bits & bits.dtype.type(1 << position)) != 0
            if layer == "road_centre" and roads:
                road = (strip.bits & bits.dtype.type(1 << layers.index("road"))) != 0
                mask = mask | (road if thin["road"] else _ridge(road, pixel_m))
            if not mask.any():
                continue
            wide = _widened(mask, layer, pixel_m, thin.get(layer, True))
            bits[strip.first : strip.last] |= np.where(wide[own], bits.dtype.type(1 << position), bits.dtype.type(0))
            if layer == "road" and twice is not None:
                directions = _road_directions(wide, map_from_pixel, step)
                above = strip.top // step
                twice[strip.first // step : -(-strip.last // step)] = directions[
                    above : above - (-(strip.last - strip.first) // step)
                ]
    return Strokes(ClassPicture(bits, layers), twice, step)


def _strips(bits: Shaped[np.ndarray, "h w"], rows: int, margin: int) -> Iterator[_Strip]:
    """Strips with the rows around them as they were before any was changed."""
    height = len(bits)
    above = bits[:0].copy()
    for first in range(0, height, rows):
        last = min(height, first + rows)
        whole = np.concatenate([above, bits[first : min(height, last + margin)]])
        top = len(above)
        above = whole[: top + last - first][-margin:].copy()
        yield _Strip(first, last, top, whole)


def _margin(pixel_m: Float[np.ndarray, " 2"], step: int) -> int:
    """Rows around a strip on which its answer depends: the middle of the broadest road, or smoothed directions."""
    broadest = max(layer.size_m for layer in LAYERS)
    reach_m = max(_BROADEST_M, 7.0 * _HALF_ROAD_M) + broadest
    return step * int(np.ceil((reach_m / pixel_m[1] + 8) / step))


def _thin_layers(classes: ClassPicture) -> dict[str, bool]:
    """Of roads, rails, paths and points, whether they are made of lines or dots one to two pixels wide.

    Little of those survives an erosion.
    """
    asked = [layer for layer in classes.layers if LAYERS[layer_index(layer)].geometry in ("band", "point")]
    core, whole = dict.fromkeys(asked, 0), dict.fromkeys(asked, 0)
    height, width = classes.bits.shape
    rows = max(1, _STRIP_PIXELS // width)
    for first in range(0, height, rows):
        last = min(height, first + rows)
        low = max(0, first - 1)
        block = classes.bits[low : min(height, last + 1)]
        for layer in asked:
            mask = (block & block.dtype.type(1 << classes.layers.index(layer))) != 0
            eroded = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
            own = slice(first - low, last - low)
            core[layer] += int(np.count_nonzero(eroded[own]))
            whole[layer] += int(np.count_nonzero(mask[own]))
    return {layer: core[layer] < 0.2 * whole[layer] for layer in asked}


def _ridge(mask: Bool[np.ndarray, "h w"], pixel_m: Float[np.ndarray, " 2"]) -> Bool[np.ndarray, "h w"]:
    """The middle of broad roads: where the distance to the border is highest around."""
    if not mask.any():
        return mask
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    highest: np.ndarray = cv2.dilate(depth, np.ones((3, 3), np.uint8))
    middle: np.ndarray = mask & (depth >= highest - 0.25) & (depth < _BROADEST_M / pixel_m[1])
    return middle


def _widened(
    mask: Bool[np.ndarray, "h w"], layer: str, pixel_m: Float[np.ndarray, " 2"], thin: bool
) -> Bool[np.ndarray, "h w"]:
    """A thin mask with the real width of its layer; areas and what is broad already stay as they are."""
    entry = LAYERS[layer_index(layer)]
    if entry.geometry == "area" or (entry.geometry != "line" and not thin):
        return mask
    width_m = entry.size_m or _LINE_WIDTH_M
    size = [2 * int(0.5 * width_m / step_m) + 1 for step_m in pixel_m]
    if entry.geometry == "line" and max(size) == 1:
        return mask
    if max(size) > _LARGEST_DISC and abs(pixel_m[0] - pixel_m[1]) < 0.05 * pixel_m[0]:
        away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near: np.ndarray = away <= 0.5 * max(size)
        return near
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def _road_directions(
    road: Bool[np.ndarray, "h w"], map_from_pixel: Float[np.ndarray, "2 2"], step: int
) -> Int8[np.ndarray, "_h _w 2"]:
    """127 (cos, sin) of twice the road's direction in the map frame on road pixels, by the mask's structure tensor.

    With a step beyond 1 it is told for squares of so many pixels, where any of them is road.
    """
    shown: np.ndarray = road.astype(np.float32)
    if step > 1:
        height, width = road.shape
        shown = np.pad(shown, ((0, -height % step), (0, -width % step)))
        shown = cv2.resize(shown, (shown.shape[1] // step, shown.shape[0] // step), interpolation=cv2.INTER_AREA)
    metres = map_from_pixel * step
    sigma = _HALF_ROAD_M / np.hypot(*metres)  # half the width of a road, in pixels along columns and rows
    smooth = cv2.GaussianBlur(shown, (0, 0), sigmaX=0.5 * sigma[0], sigmaY=0.5 * sigma[1])
    right, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    del smooth
    # a gradient is a covector: it turns with the inverse, and the road runs at a right angle to it
    turned = np.linalg.inv(metres).astype(np.float32)
    x, y = right * turned[0, 0] + down * turned[1, 0], right * turned[0, 1] + down * turned[1, 1]
    del right, down
    cos2 = cv2.GaussianBlur(y * y - x * x, (0, 0), sigmaX=float(sigma[0]), sigmaY=float(sigma[1]))
    sin2 = cv2.GaussianBlur(-2.0 * x * y, (0, 0), sigmaX=float(sigma[0]), sigmaY=float(sigma[1]))
    told = np.nonzero(shown > 0)
    vectors = np.stack([cos2[told], sin2[told]], axis=-1)
    length = np.hypot(vectors[:, 0], vectors[:, 1])
    unit = vectors / np.maximum(length, 1e-12)[:, None]
    twice = np.zeros((*shown.shape, 2), np.int8)
    twice[told] = np.where(length[:, None] > 1e-9, np.rint(127.0 * unit), 0.0)
    return twice
