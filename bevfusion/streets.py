"""How much a map can tell on each of its streets: asked for, put into words, GeoJSON and a picture."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.drawing import coloured_lines, new_figure, save_figure
from bevfusion.files import write_text
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.expected_spread import (
    WINDOW_DEG,
    WINDOW_M,
    ExpectedSpread,
    SpreadPredictor,
    StreetPiece,
    street_length_m,
    street_pieces,
)
from bevfusion.maps.pictures import paint
from bevfusion.maps.render import OsmRenderer

ATTRIBUTION = "Map data © OpenStreetMap contributors, ODbL: https://www.openstreetmap.org/copyright"
PIECE_M = 25.0
MOST_PIECES = 1500  # longer pieces beyond: half a minute
NEAR_M = 30.0  # of a log: streets that it passes
_MOST_CELLS = 1600  # of the picture's side
_MARGIN_M = 40.0
_SHOWN_M, _SHOWN_DEG = 8.0, 4.0  # where the colours end

Pieces = list[tuple[StreetPiece, ExpectedSpread]]


@dataclass(frozen=True, slots=True)
class Street:
    """The pieces of one name together: medians over its length."""

    name: str
    length_m: float
    spread: ExpectedSpread


def predict_streets(
    source: OsmRenderer,
    near_m: Float[np.ndarray, "n 2"] | None = None,
    on_piece: Callable[[int, int], None] | None = None,
) -> Pieces:
    """The spreads that scans on each piece of street would have, predicted from the map alone.

    Args:
        source: the map.
        near_m: only streets that come near one of these places of the map frame; None: all.
        on_piece: called with (pieces done, pieces in all).
    """
    length_m = max(PIECE_M, street_length_m(source.osm_map) / MOST_PIECES) if near_m is None else PIECE_M
    chosen = [piece for piece in street_pieces(source.osm_map, length_m) if _is_near(piece, near_m)]
    chosen.sort(key=_block)  # what lies near each other is drawn once
    predictor, pieces = SpreadPredictor(source), []
    for done, piece in enumerate(chosen, start=1):
        pieces.append((piece, predictor.at(piece.middle)))
        if on_piece is not None:
            on_piece(done, len(chosen))
    return pieces


def _is_near(piece: StreetPiece, near_m: Float[np.ndarray, "n 2"] | None) -> bool:
    if near_m is None:
        return True
    return bool(np.hypot(*(near_m - [piece.middle.x_m, piece.middle.y_m]).T).min(initial=math.inf) <= NEAR_M)


def _block(piece: StreetPiece) -> tuple[int, int]:
    return math.floor(piece.middle.y_m / 128.0), math.floor(piece.middle.x_m / 128.0)


def streets_of(pieces: Pieces) -> list[Street]:
    """The streets with a name, those first along which a scan can be placed worst."""
    named: dict[str, Pieces] = {}
    for piece, spread in pieces:
        if piece.name:
            named.setdefault(piece.name, []).append((piece, spread))
    streets = [
        Street(name, math.fsum(_length_m(p) for p, _ in some), median_spread(some)) for name, some in named.items()
    ]
    return sorted(streets, key=lambda street: -street.spread.along_m)


def median_spread(pieces: Pieces) -> ExpectedSpread:
    """Medians over the length of the pieces."""
    lengths = np.array([_length_m(piece) for piece, _ in pieces])
    values = np.array([(spread.along_m, spread.across_m, spread.heading_deg) for _, spread in pieces])
    medians = []
    for column in values.T:
        order = np.argsort(column)
        half = np.searchsorted(np.cumsum(lengths[order]), 0.5 * lengths.sum())
        medians.append(float(column[order][min(int(half), len(order) - 1)]))
    return ExpectedSpread(*medians)


def _length_m(piece: StreetPiece) -> float:
    return float(np.hypot(*np.diff(piece.xy_m, axis=0).T).sum())


def as_dict(pieces: Pieces) -> dict[str, Any]:
    """For JSON: the whole and every street with a name, metres and degrees."""
    return {
        "window": {"offset_m": WINDOW_M, "offset_deg": WINDOW_DEG},
        "pieces": len(pieces),
        "length_m": round(math.fsum(_length_m(piece) for piece, _ in pieces), 1),
        **({"median": _numbers(median_spread(pieces))} if pieces else {}),
        "streets": [
            {"name": street.name, "length_m": round(street.length_m, 1), **_numbers(street.spread)}
            for street in streets_of(pieces)
        ],
    }


def _numbers(spread: ExpectedSpread) -> dict[str, float]:
    return {
        "along_m": round(spread.along_m, 2),
        "across_m": round(spread.across_m, 2),
        "heading_deg": round(spread.heading_deg, 2),
    }


def write_streets(folder: Path, pieces: Pieces, source: OsmRenderer, *, picture: bool = True) -> list[Path]:
    """Write streets.geojson (a LineString a piece, RFC 7946) and streets.png into a folder; what was written.

    Raises:
        MissingExtraError: if a picture is asked for and matplotlib is not installed.
    """
    geojson, png = folder / "streets.geojson", folder / "streets.png"
    features = [_feature(piece, spread, source.frame) for piece, spread in pieces]
    collection = {"type": "FeatureCollection", "attribution": ATTRIBUTION, "features": features}
    write_text(geojson, json.dumps(collection, ensure_ascii=False) + "\n")
    if not picture:
        return [geojson]
    save_figure(_figure(pieces, source), png)
    return [geojson, png]


def _feature(piece: StreetPiece, spread: ExpectedSpread, frame: LocalFrame) -> dict[str, Any]:
    places = [frame.degrees_from_metres(float(x_m), float(y_m)) for x_m, y_m in piece.xy_m]
    return {
        "type": "Feature",
        "geometry": {"type": "LineString", "coordinates": [[round(lon, 7), round(lat, 7)] for lat, lon in places]},
        "properties": {"name": piece.name, "highway": piece.kind, **_numbers(spread)},
    }


def _figure(pieces: Pieces, source: OsmRenderer) -> Any:
    places_m = np.concatenate([piece.xy_m for piece, _ in pieces])
    low, high = places_m.min(axis=0) - _MARGIN_M, places_m.max(axis=0) + _MARGIN_M
    centre, half_m = 0.5 * (low + high), 0.5 * float((high - low).max())
    cell_m = max(0.25, 2.0 * half_m / _MOST_CELLS)
    layers = source.draw(
        Grid.square(math.ceil(half_m / cell_m) * cell_m, cell_m), SE2(float(centre[0]), float(centre[1]))
    )
    figure, axes = new_figure(13.5, 5.2, columns=3)
    extent = (centre[0] - half_m, centre[0] + half_m, centre[1] - half_m, centre[1] + half_m)
    spreads = np.array([(spread.along_m, spread.across_m, spread.heading_deg) for _, spread in pieces])
    titles = ("along the street (m)", "across (m)", "heading (degrees)")
    for axis, values, title, most in zip(axes, spreads.T, titles, (_SHOWN_M, _SHOWN_M, _SHOWN_DEG), strict=True):
        axis.imshow(paint(layers), extent=extent, interpolation="nearest", alpha=0.35)
        coloured_lines(figure, axis, [piece.xy_m for piece, _ in pieces], values, most)
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", title=f"expected spread {title}")
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].annotate(ATTRIBUTION.split(",")[0], (0.01, 0.01), xycoords="axes fraction", fontsize=7)
    return figure
