"""Where an extract lies: its frame, and the box that it covers, by its header as far as the data bear it out."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.maps.elements import Box
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

MAX_EXTENT_M = 200_000.0
"""Beyond this the flat frame is a poor map, and the file no extract."""

MAX_LATITUDE_DEG = 89.0
"""Nearer to a pole, boxes of degrees are no boxes on the ground."""

_MAX_EXTENT_DEG = 10.0
_MIN_SHARE_IN_BOX = 0.5
_LARGE_BOX_M, _MIN_SIDE_SHARE = 20_000.0, 0.1
_FAR_DEG = 2.0
_SLACK_DEG = 1e-6

Bounds = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in metres of the map frame."""


def extent_of(
    boxes: Sequence[Box],
    lon_lat: Float[np.ndarray, "n 2"],
    feature: Int[np.ndarray, " n"],
    path: Path,
    summary: InputSummary,
) -> tuple[LocalFrame, Bounds]:
    """The frame at the centre of the header's boxes together, or of the features where these say otherwise.

    Args:
        boxes: of the header.
        lon_lat: vertices of all features.
        feature: which feature each belongs to, ascending.
        path: of the file, for messages.
        summary: is told when the header is not believed.

    Raises:
        DataError: if the extract is too wide, too near to a pole, or has latitude and longitude swapped.
    """
    if np.abs(lon_lat[:, 1]).max() > MAX_LATITUDE_DEG:
        raise DataError(f"{path} reaches beyond {MAX_LATITUDE_DEG:g} degrees of latitude, where maps are not drawn")
    about = float(lon_lat[0, 0])
    # longitudes about one of the vertices, so that an extract across the antimeridian is in one piece
    lon_lat = np.stack([about + _turn(lon_lat[:, 0] - about), lon_lat[:, 1]], axis=1)
    of_header = _union([box for box in boxes if _is_sound(box, summary)], about)
    if of_header is not None:
        placed = _placed(of_header)
        if placed is None:
            summary.add(
                "ignored", "bounds", "the header's box is too large for an extract; the box of the features counts"
            )
        elif _share_inside(of_header, lon_lat, feature) >= _MIN_SHARE_IN_BOX:
            if not _is_of_a_larger_file(placed[1], of_header, lon_lat):
                return placed
            text = "the header's box is over ten times as wide as what the features fill, so their own box counts"
            summary.add("warning", "bounds", text)
        elif _share_inside(of_header, _swapped(lon_lat, of_header), feature) >= _MIN_SHARE_IN_BOX:
            raise DataError(f"{path} has the latitudes and longitudes of its nodes swapped, by the box in its header")
        else:
            share = _share_inside(of_header, lon_lat, feature)
            text = f"{share:.0%} of the features touch the header's box, so it is not believed; their own box counts"
            summary.add("warning", "bounds", text)
    placed = _placed(Box(*lon_lat.min(axis=0), *lon_lat.max(axis=0)))
    if placed is None:
        far = _far_away(lon_lat)
        hint = f"; {far}" if far else ""
        raise DataError(
            f"{path} spans more than {MAX_EXTENT_M / 1000:.0f} km{hint}; cut an extract of the area you drive in"
        )
    return placed


def _is_of_a_larger_file(bounds_m: Bounds, box: Box, lon_lat: Float[np.ndarray, "n 2"]) -> bool:
    """Whether features fill but a spot of a large box: programs that pick features keep the header they found."""
    x0, y0, x1, y1 = bounds_m
    inside = (lon_lat >= np.array(box[:2])).all(axis=1) & (lon_lat <= np.array(box[2:])).all(axis=1)
    if max(x1 - x0, y1 - y0) < _LARGE_BOX_M or not inside.any():
        return False
    filled = np.ptp(lon_lat[inside], axis=0) / np.array([box.east - box.west, box.north - box.south])
    return bool((filled < _MIN_SIDE_SHARE).all())


def _far_away(lon_lat: Float[np.ndarray, "n 2"]) -> str:
    """What few vertices lie degrees away from nearly all others, in words; empty if there are none such."""
    far = (np.abs(lon_lat - np.median(lon_lat, axis=0)) > _FAR_DEG).any(axis=1)
    if not 0 < far.sum() <= 0.25 * len(far):
        return ""
    lon, lat = lon_lat[far][0]
    share = f"{int(far.sum())} of its {len(far)} vertices"
    return f"{share} lie far from the others, as at latitude {lat:g}, longitude {lon:g}"


def _turn(degrees: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Angles of at most half a turn, as they are where that fits."""
    return np.where(np.abs(degrees) <= 180.0, degrees, (degrees + 180.0) % 360.0 - 180.0)


def _is_sound(box: Box, summary: InputSummary) -> bool:
    sound = (
        all(math.isfinite(value) for value in box)
        and -90.0 <= box.south <= box.north <= 90.0
        and all(abs(value) <= 180.0 for value in (box.west, box.east))
    )
    if not sound:
        summary.add("warning", "bounds", "a box in the header is none: south above north, or off the globe")
    return sound


def _union(boxes: Sequence[Box], about: float) -> Box | None:
    """The box around all boxes, its longitudes near `about`."""
    if not boxes:
        return None
    near = []
    for west, south, east, north in boxes:
        last = east if east >= west else east + 360.0
        turns = 360.0 * round((about - 0.5 * (west + last)) / 360.0)
        near.append((west + turns, south, last + turns, north))
    west_south, east_north = np.array(near)[:, :2].min(axis=0), np.array(near)[:, 2:].max(axis=0)
    return Box(*west_south.tolist(), *east_north.tolist())


def _swapped(lon_lat: Float[np.ndarray, "n 2"], box: Box) -> Float[np.ndarray, "n 2"]:
    middle = 0.5 * (box.west + box.east)
    return np.stack([middle + _turn(lon_lat[:, 1] - middle), lon_lat[:, 0]], axis=1)


def _share_inside(box: Box, lon_lat: Float[np.ndarray, "n 2"], feature: Int[np.ndarray, " n"]) -> float:
    """Share of the features that touch a box with theirs."""
    first = np.flatnonzero(np.diff(feature, prepend=-1))
    low, high = np.minimum.reduceat(lon_lat, first), np.maximum.reduceat(lon_lat, first)
    touching = (high >= np.array(box[:2]) - _SLACK_DEG) & (low <= np.array(box[2:]) + _SLACK_DEG)
    return float(touching.all(axis=1).mean())


def _placed(box: Box) -> tuple[LocalFrame, Bounds] | None:
    """The frame at a box's centre and the box in it; None of one that is too large."""
    west, south, east, north = (float(value) for value in box)
    if not (east - west < _MAX_EXTENT_DEG and north - south < _MAX_EXTENT_DEG):
        return None
    middle = 0.5 * (west + east)
    frame = LocalFrame(0.5 * (south + north), middle if abs(middle) <= 180.0 else middle - math.copysign(360.0, middle))
    corners_deg = np.array([[south, west], [south, east], [north, west], [north, east]], dtype=np.float64)
    corners_m = frame.many_metres_from_degrees(corners_deg)
    (x0, y0), (x1, y1) = corners_m.min(axis=0), corners_m.max(axis=0)
    if max(x1 - x0, y1 - y0) > MAX_EXTENT_M:
        return None
    return frame, (float(x0), float(y0), float(x1), float(y1))
