"""What the tags of a feature have drawn of it: a road, lines, a watercourse, an area, a point, or nothing."""

from collections.abc import Mapping
from typing import NamedTuple

from bevfusion.maps import schema
from bevfusion.maps.tags import is_out_of_sight, is_raised, parse_length_m, plausible

_AREA = frozenset[schema.Geometry]({"area"})
_AREA_OR_BAND = frozenset[schema.Geometry]({"area", "band"})
_LINE = frozenset[schema.Geometry]({"line"})
_BAND = frozenset[schema.Geometry]({"band"})
_POINT = frozenset[schema.Geometry]({"point"})

_FEATURE_KEYS = frozenset(
    (
        *("aeroway", "amenity", "area:highway", "boundary", "building", "building:part", "craft", "emergency", "golf"),
        *("healthcare", "highway", "historic", "indoor", "landcover", "landuse", "leisure", "man_made", "military"),
        *("natural", "office", "place", "power", "public_transport", "railway", "shop", "sport", "tourism", "waterway"),
    )
)
"""Keys that say what a thing is. A multipolygon without any is of the old kind: its outer ways say it."""

KEPT_KEYS = frozenset(key for layer in schema.LAYERS for key, _ in layer.tags) | {
    *("access", "motor_vehicle", "motorcar", "vehicle"),
    *(
        "area",
        "bridge",
        "building:height",
        "building:levels",
        "building:min_height",
        "building:min_level",
        "covered",
        "cutting",
    ),
    *(
        "driving_side",
        "embankment",
        "est_height",
        "est_width",
        "height",
        "incline",
        "indoor",
        "junction",
        "lanes",
        "level",
        "location",
    ),
    *("min_height", "min_level", "oneway", "parking", "place", "roof:levels", "tunnel", "width"),
    "width:carriageway",
}
"""Keys of ways and nodes that anything here looks at."""


class Drawing(NamedTuple):
    """How a feature is drawn; a closed way as its area and its lines, an open one as its lines only."""

    road: bool = False  # a highway with a width, unless it is a closed way of area=yes
    rounds_area: bool = False  # area=yes
    lines: tuple[str, ...] = ()  # layers
    stream_m: float | None = None  # width of a watercourse
    area: str | None = None  # layer of what a closed way encloses
    relation_area: str | None = None  # the same of a multipolygon
    point: str | None = None

    @property
    def shows_course(self) -> bool:
        """Whether anything is drawn along a way."""
        return self.road or bool(self.lines) or self.stream_m is not None


NOTHING = Drawing()


def drawing_of(tags: Mapping[str, str]) -> Drawing:
    """How a feature with these tags is drawn."""
    if is_out_of_sight(tags):
        return NOTHING
    rounds_area = tags.get("area") == "yes"
    bands = schema.layers_of_tags(tags, _BAND)
    road = "road" in bands or "path" in bands
    # a wall along the middle of a carriageway is a slip of the mapper's; along a path it may be a town wall
    lines = () if "road" in bands else schema.layers_of_tags(tags, _LINE)
    linear = {} if rounds_area else _linear_water(tags)
    about_area = {key: value for key, value in tags.items() if key not in linear}
    area = _area(about_area, _AREA_OR_BAND if rounds_area else _AREA)
    return Drawing(
        road=road,
        rounds_area=rounds_area,
        lines=("rail", *lines) if "rail" in bands else lines,
        stream_m=_stream_width_m(tags) if linear and area != "water" else None,
        area=None if tags.get("area") == "no" else area,
        relation_area=_area(tags, _AREA_OR_BAND),
        point=schema.layer_of_tags(tags, _POINT),
    )


def is_old_multipolygon(tags: Mapping[str, str]) -> bool:
    """Whether a relation leaves it to its outer ways to say what it is."""
    return tags.get("type") == "multipolygon" and not _FEATURE_KEYS & tags.keys()


def _linear_water(tags: Mapping[str, str]) -> dict[str, str]:
    return {"waterway": tags["waterway"]} if tags.get("waterway") in schema.WATERWAY_WIDTHS_M else {}


def _stream_width_m(tags: Mapping[str, str]) -> float:
    return plausible(parse_length_m(tags.get("width")), 0.3, 2000.0) or schema.WATERWAY_WIDTHS_M[tags["waterway"]]


def _area(tags: Mapping[str, str], geometries: frozenset[schema.Geometry]) -> str | None:
    """Layer of an area; None of roofs on posts, of what stands above the street, and of parts of buildings."""
    kind = schema.layer_of_tags(tags, geometries)
    building = tags.get("building")
    if kind == "rail" or building in schema.ROOFS_ON_POSTS or building == "part":
        return None
    return None if kind == "building" and is_raised(tags) else kind
