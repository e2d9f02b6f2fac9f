"""What OpenStreetMap tags say: lengths as people type them, widths, heights, directions, what lies out of sight."""

import math
import re
from collections.abc import Mapping

from bevfusion.maps import schema

_METRES: Mapping[str, float] = {
    unit: metres
    for units, metres in {
        "m metre metres meter meters mt mts mtr mtrs metro metros metri mètre mètres м метр метра метров 米": 1.0,
        "km kilometre kilometres kilometer kilometers": 1000.0,
        "cm centimetre centimetres centimeter centimeters": 0.01,
        "mm millimetre millimetres millimeter millimeters": 0.001,
        "' ft feet foot": 0.3048,
        '" in inch inches': 0.0254,
        "yd yds yard yards": 0.9144,
        "mi mile miles": 1609.344,
    }.items()
    for unit in units.split()
}
_FEET, _INCHES = ("'", "ft", "feet", "foot"), ('"', "in", "inch", "inches", "")
_MARKS = str.maketrans(
    dict.fromkeys("\N{PRIME}\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{ACUTE ACCENT}`", "'")
    | dict.fromkeys("\N{DOUBLE PRIME}\N{RIGHT DOUBLE QUOTATION MARK}\N{LEFT DOUBLE QUOTATION MARK}", '"')
    | dict.fromkeys("\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}\N{HYPHEN}\N{NON-BREAKING HYPHEN}", "-")
    | {"\N{NO-BREAK SPACE}": " "}
)
_ABOUT = re.compile(r"^(?:~|≈|<=?|>=?|\+|ca\.?|c\.|approx\.?|about|circa)\s*")
_NUMBER = r"([0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)"
_LENGTH = re.compile(rf"^{_NUMBER}\s*([^\W\d_]+|'|\")?\.?$")
_FEET_INCHES = re.compile(rf"^{_NUMBER}\s*({'|'.join(_FEET)})\.?\s*-?\s*{_NUMBER}\s*([a-z]+|\")?\.?$")
_RANGE = re.compile(rf"^{_NUMBER}\s*([a-z'\"]*)\s*(?:-|\bto\b)\s*(.+)$")
_LEVEL = re.compile(r"^\s*(-?[0-9]+(?:\.[0-9]+)?)\s*(?:-\s*(-?[0-9]+(?:\.[0-9]+)?)\s*)?$")


def parse_length_m(text: str | None) -> float | None:
    """Metres of a tag; None where the text as a whole is no length ("6.5km/h", "-3", "narrow").

    Read are "12" (metres), "12.5 m", "3,5 Metres", "40'", "6 ft 6 in", "6'-3''", "~2 m", the first of "3;4", the
    middle of "5-7".
    """
    if text is None:
        return None
    plain = text.translate(_MARKS).replace("''", '"').lower().split(";")[0].strip()
    plain = _ABOUT.sub("", plain)
    between = _RANGE.match(plain)
    if between is None or _is_in_feet_and_inches(plain):  # 6'-3" is no range
        return _single_length_m(plain)
    highest = _single_length_m(between[3])
    unit = between[2] or _unit_of(between[3])
    lowest = _single_length_m(between[1] + unit)
    return None if lowest is None or highest is None or lowest > highest else 0.5 * (lowest + highest)


def _is_in_feet_and_inches(text: str) -> bool:
    feet = _FEET_INCHES.match(text)
    return feet is not None and (feet[4] or "") in _INCHES[:-1]


def _unit_of(text: str) -> str:
    single = _LENGTH.match(text)
    return (single[2] or "") if single else ""


def _single_length_m(text: str) -> float | None:
    feet = _FEET_INCHES.match(text)
    if feet and (feet[4] or "") in _INCHES:
        return _finite(0.3048 * _number(feet[1]) + 0.0254 * _number(feet[3]))
    single = _LENGTH.match(text)
    if single is None or (single[2] or "m") not in _METRES:
        return None
    return _finite(_METRES[single[2] or "m"] * _number(single[1]))


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def parse_count(text: str | None) -> float | None:
    """A number without a unit, of lanes or levels: "2", "2.5", "3;4" (the first), "5-7" (the middle); else None."""
    if text is None or re.search(r"[a-z'\"]", text.translate(_MARKS).lower()):
        return None
    return parse_length_m(text)


def plausible(value: float | None, lowest: float, highest: float) -> float | None:
    """The value if it is plausible: tags hold typing errors such as width=350."""
    return value if value is not None and lowest <= value <= highest else None


def road_width_m(tags: Mapping[str, str]) -> float:
    """Width of a highway: tagged, else from its lanes, else the default of its kind."""
    kind = tags["highway"]
    for key in ("width", "width:carriageway", "est_width"):
        tagged = plausible(parse_length_m(tags.get(key)), 0.5, 60.0)
        if tagged is not None:
            return tagged
    lanes = plausible(parse_count(tags.get("lanes")), 1.0, 16.0)
    if lanes is not None and kind in schema.ROAD_WIDTHS_M:
        return lanes * schema.LANE_WIDTH_M
    return schema.ROAD_WIDTHS_M.get(kind) or schema.PATH_WIDTHS_M[kind]


def road_grade(tags: Mapping[str, str]) -> float | None:
    """Rise per metre along a way from incline ("7%", "-5.5 %", "4°"); None for "up", "down" and what is too steep."""
    found = re.fullmatch(r"\s*([+-]?\d+(?:[.,]\d+)?)\s*(%|°)?\s*", tags.get("incline", ""))
    if found is None:
        return None
    number = float(found[1].replace(",", "."))
    grade = math.tan(math.radians(number)) if found[2] == "°" else 0.01 * number
    return plausible(grade, -0.35, 0.35)


def earthwork(tags: Mapping[str, str]) -> str:
    """Whether a way runs on an embankment or in a cutting: the tag's name, or nothing."""
    return next((key for key in ("embankment", "cutting") if tags.get(key, "no") != "no"), "")


def oneway_direction(tags: Mapping[str, str]) -> int:
    """1 along the vertices, -1 against them, 0 for both ways; roundabouts and motorways are one-way unless tagged."""
    value = tags.get("oneway", "").lower()
    if value in ("yes", "true", "1"):
        return 1
    if value in ("-1", "reverse"):
        return -1
    implied = tags.get("junction") in ("roundabout", "circular") or tags.get("highway") == "motorway"
    return 1 if implied and value == "" else 0


_FOR_CARS = ("motorcar", "motor_vehicle", "vehicle", "access")  # the more special key counts
_CLOSED = frozenset({"no", "private", "permit", "agricultural", "forestry", "emergency", "military", "psv", "bus"})


def is_private(tags: Mapping[str, str]) -> bool:
    """Whether a road is closed to most cars: https://wiki.openstreetmap.org/wiki/Key:access."""
    value = next((tags[key] for key in _FOR_CARS if key in tags), "")
    return value in _CLOSED


def building_height_m(tags: Mapping[str, str]) -> float | None:
    """Height of a building from height or its levels; None if neither is tagged."""
    for key in ("height", "building:height", "est_height"):
        tagged = plausible(parse_length_m(tags.get(key)), 0.5, 1000.0)
        if tagged is not None:
            return tagged
    levels = plausible(parse_count(tags.get("building:levels")), 0.5, 200.0)
    if levels is None:
        return None
    roof = plausible(parse_count(tags.get("roof:levels")), 0.0, 20.0) or 0.0
    return (levels + roof) * schema.LEVEL_HEIGHT_M


def is_raised(tags: Mapping[str, str]) -> bool:
    """Whether a building begins above the street: nobody at its foot meets a wall."""
    bottom_m = parse_length_m(tags.get("min_height") or tags.get("building:min_height"))
    if bottom_m is not None:
        return bottom_m >= schema.RAISED_FROM_M
    return (parse_count(tags.get("min_level") or tags.get("building:min_level")) or 0.0) >= 1.0


def is_out_of_sight(tags: Mapping[str, str]) -> bool:
    """Whether a feature lies in a tunnel, under a cover or the ground, or indoors, where no scan of the street sees it.

    `layer` is no reason: it orders what crosses, and a street in a cutting has a negative one.
    """
    if tags.get("tunnel", "no") not in ("no", "building_passage"):
        return True
    if tags.get("indoor", "no") != "no":
        return True
    if tags.get("covered", "no") != "no" and "building" not in tags:  # a building that is covered is one with a roof
        return True
    if tags.get("location") in ("underground", "underwater", "indoor", "inside", "roof", "rooftop"):
        return True
    if tags.get("parking") in ("underground", "rooftop"):
        return True
    return _is_below_ground(tags.get("level", ""))


def _is_below_ground(level: str) -> bool:
    """Whether `level` names floors that are all below the ground: "-1", "-2--1", "-1;-2", not "-1-1" or "-1;0"."""
    highest = []
    for part in re.split(r";|,(?=\s*-)", level.translate(_MARKS)):
        floors = _LEVEL.match(part)
        if floors is None:
            return False
        highest.append(float(floors[2] if floors[2] is not None else floors[1]))
    return max(highest) < 0.0
