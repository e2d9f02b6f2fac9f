"""The JSON beside a map picture: what its colours or values mean (its forms are shown in `maps/image.py`)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bevfusion.maps.schema import LAYERS
from bevfusion.parsing import read_json
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

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

PLANES = ("red", "green", "blue")
MAX_BYTES = 4_000_000  # a legend has a few kilobytes
MAX_VALUE = 2**32

_READ_KEYS = ("crs", "legend", "classes", "background", *PLANES)
_SILENT_KEYS = ("cell_m",)  # said by the world file already

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Legend:
    """What the pixels of a picture stand for.

    Args:
        values: pixel value -> layer.
        colours: (red, green, blue), 0 to 255 -> layer.
        planes: for red, green and blue, value -> layer; for pictures that show several things on one pixel.
        background: the value, in every plane, that stands for nothing.
    """

    values: Mapping[int, str]
    colours: Mapping[Colour, str]
    planes: tuple[Mapping[int, str] | None, Mapping[int, str] | None, Mapping[int, str] | None] = (None, None, None)
    background: int = 0

    @property
    def of_planes(self) -> bool:
        """Whether every plane has a meaning of its own."""
        return any(plane is not None for plane in self.planes)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it names, each once."""
        named = [*self.values.values(), *self.colours.values()]
        for plane in self.planes:
            named.extend((plane or {}).values())
        return tuple(dict.fromkeys(named))


def read_description(path: Path) -> dict[str, Any]:
    """The JSON beside a picture; empty if there is none.

    Raises:
        DataError: if the file is no JSON object, names a key twice, or is beyond all measure.
    """
    if not path.is_file():
        return {}
    description = read_json(path, MAX_BYTES)
    if not isinstance(description, dict):
        raise DataError(f"{path} must hold an object with crs and legend, got {type(description).__name__}")
    return description


def legend_of(description: Mapping[str, Any], path: Path, summary: InputSummary) -> Legend | None:
    """The legend of a description; None if it has none.

    Raises:
        DataError: if it cannot be used.
    """
    _tell_unread(description, summary)
    try:
        if description.get("classes") is not None:
            if description.get("legend") is not None:
                summary.add("ignored", "legend", "classes gives the meaning of every plane, so legend is not used")
            return _legend_of_planes(description, summary)
        if description.get("legend") is not None:
            return _legend_of_pixels(description)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path.with_suffix('.json')}: the legend cannot be used ({error})") from error
    return None


def _tell_unread(description: Mapping[str, Any], summary: InputSummary) -> None:
    for key in description:
        if key not in _READ_KEYS and key not in _SILENT_KEYS:
            near = get_close_matches(key.lower(), _READ_KEYS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            summary.add("warning" if near else "ignored", _short(key), f"this key of the JSON is not read{hint}")


def _legend_of_planes(description: Mapping[str, Any], summary: InputSummary) -> Legend:
    groups = description["classes"]
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise TypeError('classes expects groups of classes by value, as "classes": {"ways": {"1": "road"}}')
    planes: list[dict[int, str] | None] = []
    undrawn: list[str] = []
    for plane in PLANES:
        group = description.get(plane)
        if group is None:
            planes.append(None)
            continue
        if not isinstance(group, str) or group not in groups:
            raise ValueError(f"{plane} is {_short(group)}, but classes holds {_list(groups)}")
        meaning: dict[int, str] = {}
        for text, name in groups[group].items():
            value = _value(text)
            if isinstance(name, str) and name in CLASS_LAYERS:
                _set(meaning, value, CLASS_LAYERS[name], text)
            else:
                undrawn.append(_short(name))
        planes.append(meaning)
    if not any(planes):
        raise ValueError("no plane holds a class that is known")
    if undrawn:
        summary.add("ignored", "classes", f"not drawn: {_list(undrawn)}", count=len(undrawn))
    red, green, blue = planes
    return Legend({}, {}, (red, green, blue), _background(description))


def _legend_of_pixels(description: Mapping[str, Any]) -> Legend:
    entries = description["legend"]
    if not isinstance(entries, dict):
        raise TypeError(f"expected colours or values with their classes, got {_short(entries)}")
    values: dict[int, str] = {}
    colours: dict[Colour, str] = {}
    for text, name in entries.items():
        if not isinstance(name, str) or name not in CLASS_LAYERS:
            near = get_close_matches(name, CLASS_LAYERS, n=1) if isinstance(name, str) else []
            raise ValueError(f"{_short(name)} is no class" + (f", did you mean {near[0]!r}?" if near else ""))
        colour = _colour(text)
        if colour is None:
            _set(values, _value(text), CLASS_LAYERS[name], text)
        else:
            _set(colours, colour, CLASS_LAYERS[name], text)
    if not values and not colours:
        raise ValueError("it is empty")
    return Legend(values, colours, background=_background(description))


def _set(meaning: dict[Any, str], key: Any, layer: str, text: str) -> None:
    if meaning.setdefault(key, layer) != layer:
        raise ValueError(f"{_short(text)} stands for {meaning[key]} and for {layer}")


def _background(description: Mapping[str, Any]) -> int:
    background = description.get("background")
    return background if isinstance(background, int) and 0 <= background < MAX_VALUE else 0


def _value(text: str) -> int:
    """A pixel value such as "1", "-1" or "1.0"."""
    if not re.fullmatch(r"\s*[+-]?\d{1,10}(\.0*)?\s*", text, re.ASCII) or abs(int(float(text))) >= MAX_VALUE:
        raise ValueError(f'{_short(text)} is no pixel value and no colour; write "7", "#ff0000" or "255,0,0"')
    return int(float(text))


def _colour(text: str) -> Colour | None:
    """(red, green, blue) of "#ff0000", "#f00", "#ff0000ff" or "255,0,0"; None if it is not written as a colour."""
    word = text.strip()
    hexadecimal = re.fullmatch(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{6}[fF]{2})", word)
    if hexadecimal:
        digits = hexadecimal[1] if len(hexadecimal[1]) > 3 else "".join(2 * digit for digit in hexadecimal[1])
        red, green, blue = bytes.fromhex(digits[:6])
        return red, green, blue
    triple = re.fullmatch(r"(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})", word, re.ASCII)
    if triple and max(map(int, triple.groups())) < 256:
        return int(triple[1]), int(triple[2]), int(triple[3])
    if word.startswith("#") or "," in word:
        raise ValueError(f'{_short(text)} is no colour; write "#ff0000" or "255,0,0"')
    return None


def _short(value: object) -> str:
    """A value as it stands in a message: never longer than a line allows."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of many digits"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def _list(words: Sequence[str] | Mapping[str, Any], most: int = 5) -> str:
    names = [str(word).strip("'")[:40] for word in words]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "nothing"
