"""What the map shows: one table of layers, the OpenStreetMap tags that fill them, and default sizes.

Everything that knows layers reads `LAYERS`: the reader (which tags), the renderers (which shape and size), the
encoder (how many channels) and the pictures (which colour).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Geometry = Literal["area", "band", "line", "vector", "point"]
"""area: polygons; band: lines with a real width; line: one cell wide; vector: a value on road cells; point: discs."""

ANY: tuple[str, ...] = ()
"""As the values of a tag rule: every value counts, except those in `NEVER`."""

NEVER = frozenset({"no", "none", "proposed", "construction", "razed", "demolished", "abandoned", "disused"})
"""Values that say a thing is not there (any more, or yet)."""

LEVEL_HEIGHT_M = 3.0
LANE_WIDTH_M = 3.25
RAISED_FROM_M = 2.0
"""Height of a building's lower edge from which on it does not stand on the ground: scans and cars pass below."""

ROAD_WIDTHS_M: Mapping[str, float] = {
    "motorway": 11.0,
    "motorway_link": 6.0,
    "trunk": 9.0,
    "trunk_link": 5.5,
    "primary": 8.0,
    "primary_link": 5.0,
    "secondary": 7.0,
    "secondary_link": 5.0,
    "tertiary": 6.5,
    "tertiary_link": 5.0,
    "unclassified": 5.5,
    "residential": 5.5,
    "living_street": 4.5,
    "service": 3.5,
    "busway": 4.0,
    "bus_guideway": 4.0,
    "road": 5.5,
}
"""Width of a highway that cars drive on, where neither its width nor its lanes are tagged."""

PATH_WIDTHS_M: Mapping[str, float] = {
    "pedestrian": 4.0,
    "track": 2.5,
    "cycleway": 2.0,
    "footway": 2.0,
    "path": 1.5,
    "bridleway": 1.5,
    "steps": 2.0,
}
"""The same for highways that are walked, cycled or ridden on. Values of highway in neither table are not drawn."""

WATERWAY_WIDTHS_M: Mapping[str, float] = {"river": 8.0, "canal": 6.0, "stream": 1.5, "ditch": 1.0, "drain": 1.0}
"""Width of a watercourse drawn as a line."""

ROOFS_ON_POSTS = frozenset({"roof", "carport", "canopy", "bridge", "skywalk"})
"""Values of building without walls on the ground: scans see through them and cars drive under them."""


_GREEN_LANDUSE = (
    *("grass", "forest", "meadow", "orchard", "vineyard", "farmland", "allotments", "flowerbed"),
    *("village_green", "greenfield", "plant_nursery", "cemetery", "recreation_ground"),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One plane of a map tile."""

    name: str
    geometry: Geometry
    colour: tuple[int, int, int]  # red, green, blue in pictures
    tags: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (key, values): any of them puts a feature here
    size_m: float = 0.0  # width of a band, diameter of a point's disc; 0 where it does not apply


LAYERS: tuple[Layer, ...] = (
    Layer("road", "band", (120, 120, 125), (("highway", tuple(ROAD_WIDTHS_M)),), size_m=5.5),
    Layer("path", "band", (205, 170, 130), (("highway", tuple(PATH_WIDTHS_M)),), size_m=2.0),
    Layer("parking", "area", (190, 190, 215), (("amenity", ("parking", "parking_space", "motorcycle_parking")),)),
    Layer("building", "area", (200, 120, 100), (("building", ANY),)),
    Layer(
        "vegetation",
        "area",
        (185, 220, 160),
        (
            (
                "landuse",
                _GREEN_LANDUSE,
            ),
            ("natural", ("wood", "scrub", "grassland", "heath", "shrubbery", "wetland", "tree_group")),
            ("leisure", ("park", "garden", "golf_course", "dog_park", "nature_reserve")),
        ),
    ),
    Layer(
        "water",
        "area",
        (120, 170, 225),
        (
            ("natural", ("water",)),
            ("waterway", ("riverbank", "dock", *WATERWAY_WIDTHS_M)),
            ("landuse", ("reservoir", "basin")),
            ("leisure", ("swimming_pool",)),
        ),
    ),
    Layer(
        "rail",
        "band",
        (90, 70, 110),
        (("railway", ("rail", "light_rail", "tram", "narrow_gauge", "subway", "monorail", "funicular", "preserved")),),
        size_m=3.0,
    ),
    Layer("building_outline", "line", (110, 40, 30)),
    Layer("wall", "line", (60, 60, 60), (("barrier", ("wall", "city_wall", "retaining_wall", "jersey_barrier")),)),
    Layer(
        "fence", "line", (150, 90, 170), (("barrier", ("fence", "guard_rail", "handrail", "railing", "cable_barrier")),)
    ),
    Layer("hedge", "line", (40, 130, 50), (("barrier", ("hedge", "hedge_bank")),)),
    Layer("kerb", "line", (235, 200, 60), (("barrier", ("kerb",)),)),
    Layer("tree_row", "line", (20, 150, 80), (("natural", ("tree_row",)),)),
    Layer("road_centre", "line", (250, 250, 250)),
    Layer("road_cos2", "vector", (0, 0, 0)),
    Layer("road_sin2", "vector", (0, 0, 0)),
    Layer("oneway_cos", "vector", (0, 0, 0)),
    Layer("oneway_sin", "vector", (0, 0, 0)),
    Layer("junction", "point", (255, 140, 0), size_m=3.0),
    Layer("tree", "point", (0, 100, 0), (("natural", ("tree",)),), size_m=2.0),
    Layer(
        "pole",
        "point",
        (0, 0, 0),
        (
            ("power", ("pole", "tower", "catenary_mast", "portal")),
            ("man_made", ("mast", "flagpole", "utility_pole")),
            ("barrier", ("bollard",)),
            ("telecom", ("pole",)),
        ),
        size_m=1.0,
    ),
    Layer("lamp", "point", (255, 230, 0), (("highway", ("street_lamp", "street_light")),), size_m=1.0),
    Layer(
        "sign",
        "point",
        (220, 0, 0),
        (("highway", ("traffic_sign", "stop", "give_way")), ("traffic_sign", ANY)),
        size_m=1.0,
    ),
    Layer("signal", "point", (255, 0, 200), (("highway", ("traffic_signals",)),), size_m=1.0),
)
"""The order is the order of the planes in `MapTile.layers`; checkpoints depend on it."""

LAYER_NAMES: tuple[str, ...] = tuple(layer.name for layer in LAYERS)
_INDEX = {name: position for position, name in enumerate(LAYER_NAMES)}


def layer_index(name: str) -> int:
    """Position of a layer in `LAYERS` and in `MapTile.layers`.

    Raises:
        KeyError: if there is none, with the nearest name.
    """
    if name not in _INDEX:
        near = get_close_matches(name, LAYER_NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(LAYER_NAMES)}"
        raise KeyError(f"no map layer is called {name!r}; {hint}")
    return _INDEX[name]


_FIRST = ("building", "signal")  # a car park may be a building, and a signal may carry a sign
_BY_PRIORITY = sorted(LAYERS, key=lambda layer: layer.name not in _FIRST)


def layers_of_tags(tags: Mapping[str, str], geometries: frozenset[Geometry]) -> tuple[str, ...]:
    """All layers, of these geometries, that a feature with these tags belongs to: a street may carry a tram."""
    found = []
    for layer in _BY_PRIORITY:
        if layer.geometry in geometries:
            for key, values in layer.tags:
                value = tags.get(key)
                if value is not None and value not in NEVER and (values == ANY or value in values):
                    found.append(layer.name)
                    break
    return tuple(found)


def layer_of_tags(tags: Mapping[str, str], geometries: frozenset[Geometry]) -> str | None:
    """The first of `layers_of_tags`; None if there is none."""
    return next(iter(layers_of_tags(tags, geometries)), None)
