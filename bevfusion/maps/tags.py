"""What OpenStreetMap tags say: lengths as people type them, widths, heights, directions, what lies out of sight."""

import math
import re
from collections.abc import Mapping

from bevfusion.maps import schema


def parse_length_m(text: str | None) -> float | None:
    """Metres of a tag such as "12", "12.5 m", "3,5", "3;4" (the first), "40'", "6 ft 6 in", "~2 m"; None of others."""
    if text is None:
        return None
    number = r"(\d+(?:[.,]\d+)?)"
    feet = re.match(rf"\s*[~<>]?\s*{number}\s*(?:'|ft\b|feet\b|foot\b)\s*(?:{number}\s*(?:\"|''|in\b))?", text)
    if feet:
        inches = float(feet[2].replace(",", ".")) if feet[2] else 0.0
        return 0.3048 * float(feet[1].replace(",", ".")) + 0.0254 * inches
    metric = re.match(rf"\s*[~<>]?\s*{number}\s*(mm|cm|km|m)?(?![a-z])", text)
    if metric is None:
        return None
    scale = {None: 1.0, "m": 1.0, "cm": 0.01, "mm": 0.001, "km": 1000.0}[metric[2]]
    return scale * float(metric[1].replace(",", "."))


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
    lanes = plausible(parse_length_m(tags.get("lanes")), 1.0, 16.0)
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
    value = tags.get("oneway", "")
    if value in ("yes", "true", "1"):
        return 1
    if value in ("-1", "reverse"):
        return -1
    implied = tags.get("junction") in ("roundabout", "circular") or tags.get("highway") == "motorway"
    return 1 if implied and value == "" else 0


def building_height_m(tags: Mapping[str, str]) -> float | None:
    """Height of a building from height or its levels; None if neither is tagged."""
    for key in ("height", "building:height", "est_height"):
        tagged = plausible(parse_length_m(tags.get(key)), 0.5, 1000.0)
        if tagged is not None:
            return tagged
    levels = plausible(parse_length_m(tags.get("building:levels")), 0.5, 200.0)
    if levels is None:
        return None
    roof = plausible(parse_length_m(tags.get("roof:levels")), 0.0, 20.0) or 0.0
    return (levels + roof) * schema.LEVEL_HEIGHT_M


def is_out_of_sight(tags: Mapping[str, str]) -> bool:
    """Whether a feature lies in a tunnel, under the ground or indoors, where a scan of the street never sees it."""
    if tags.get("tunnel", "no") not in ("no", "building_passage"):
        return True
    if tags.get("location") in ("underground", "underwater", "indoor", "roof") or tags.get("indoor", "no") != "no":
        return True
    if tags.get("parking") in ("underground", "rooftop"):
        return True
    levels = re.findall(r"-?\d+(?:\.\d+)?", tags.get("level", ""))
    return tags.get("layer", "0").strip().startswith("-") or (bool(levels) and all(float(x) < 0 for x in levels))
