"""What the colours or values of a map picture mean: the JSON beside it (its forms are shown in `maps/image.py`)."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from bevfusion.maps.schema import LAYERS
from bevfusion.structures import DataError

CLASS_LAYERS: Mapping[str, str] = {
    **{layer.name: layer.name for layer in LAYERS if layer.geometry != "vector"},
    "busway": "road",
    "cycleway": "path",
    "footway": "path",
    "grass": "vegetation",
    "park": "vegetation",
    "forest": "vegetation",
    "railway": "rail",
    "bollard": "pole",
    "traffic_signal": "signal",
    "stop_sign": "sign",
    "give_way": "sign",
}
"""Class of a legend -> layer. Classes of a picture in planes that are not here (shop, bench, ...) are not drawn."""

Masks = dict[str, Bool[np.ndarray, "h w"]]
"""Where each layer shows; row 0 is the picture's first."""


def read_description(path: Path) -> dict[str, Any]:
    """The JSON beside a picture; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(description, dict):
        raise DataError(f"{path} must hold an object with crs and legend, got {type(description).__name__}")
    return description


def masks_of(pixels: UInt8[np.ndarray, "h w *c"], description: Mapping[str, Any], path: Path) -> Masks:
    """Where each layer shows, according to the description's legend."""
    try:
        if "classes" in description:
            return _masks_of_planes(pixels, description)
        if "legend" in description:
            return _masks_of_legend(pixels, description["legend"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path.with_suffix('.json')}: the legend cannot be used ({error})") from error
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        raise DataError(
            f'{path} is in colour: say what they mean in {path.stem}.json, as "legend": {{"#ff0000": "road"}}'
        )
    return {"road": pixels > 0}


def _masks_of_planes(pixels: UInt8[np.ndarray, "h w *c"], description: Mapping[str, Any]) -> Masks:
    masks: Masks = {}
    for position, colour in enumerate(("red", "green", "blue")):
        for value, name in description["classes"].get(description.get(colour), {}).items():
            if name in CLASS_LAYERS:
                found = pixels[..., position] == int(value)
                layer = CLASS_LAYERS[name]
                masks[layer] = masks[layer] | found if layer in masks else found
    if not masks:
        raise ValueError("no plane holds a class that is known")
    return masks


def _masks_of_legend(pixels: UInt8[np.ndarray, "h w *c"], legend: object) -> Masks:
    if not isinstance(legend, dict):
        raise TypeError(f"expected colours or values with their classes, got {legend!r}")
    masks: Masks = {}
    for key, name in legend.items():
        if name not in CLASS_LAYERS:
            near = get_close_matches(name, CLASS_LAYERS, n=1)
            raise ValueError(f"{name!r} is no class" + (f", did you mean {near[0]!r}?" if near else ""))
        colour = tuple(bytes.fromhex(key[1:]) if key.startswith("#") else map(int, key.split(",")))
        if len(colour) not in (1, 3) or (len(colour) == 3) != (pixels.ndim == 3):
            raise ValueError(f"{key!r} does not fit a picture of shape {pixels.shape}")
        found = (pixels == colour).all(axis=-1) if pixels.ndim == 3 else pixels == colour[0]
        layer = CLASS_LAYERS[name]
        masks[layer] = masks[layer] | found if layer in masks else found
    if not masks:
        raise ValueError("it is empty")
    return masks
