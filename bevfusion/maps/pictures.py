"""Planes of a map tile -> a picture for people."""

import numpy as np
from jaxtyping import Int8, UInt8

from bevfusion.maps.schema import LAYERS

ATTRIBUTION = "© OpenStreetMap contributors"
"""What a picture of OpenStreetMap carries."""

_PAPER = (245, 243, 238)


def paint(layers: Int8[np.ndarray, "l h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of a tile in the colours of the schema, later layers over earlier ones, buildings over roads.

    Row 0 of the picture is the highest y, as image viewers show it (planes begin with the lowest).
    """
    picture = np.empty((*layers.shape[1:], 3), np.uint8)
    picture[:] = _PAPER
    order = [i for i, layer in enumerate(LAYERS) if layer.geometry == "area"]
    order = sorted(order, key=lambda i: LAYERS[i].name == "building")
    bands = [i for i, layer in enumerate(LAYERS) if layer.geometry == "band"]
    rest = [i for i, layer in enumerate(LAYERS) if layer.geometry in ("line", "point")]
    for i in (*order, *bands, *rest):
        picture[layers[i] > 0] = LAYERS[i].colour
    return picture[::-1]


def legend() -> list[tuple[str, str]]:
    """(what it is, colour as #rrggbb) of all that `paint` shows, the ground that nothing is known of last."""
    shown = [layer for layer in LAYERS if layer.geometry != "vector"]
    named = [(layer.name.replace("_", " "), layer.colour) for layer in shown]
    return [(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in [*named, ("nothing on the map", _PAPER)]]
