"""Small maps built by hand."""

import numpy as np

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.maps.features import Area, OsmMap, Road

FRAME = LocalFrame(49.0, 8.4)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])


def road(xy: list[tuple[float, float]], ids: list[int], kind: str = "residential", oneway: int = 0) -> Road:
    return Road(kind, np.array(xy, dtype=float), tuple(ids), 6.5, oneway, drivable=True)


def ring_map(oneway: int = 0) -> OsmMap:
    """A square loop of streets, 200 m a side, with houses on both sides and a dead end."""
    corners = [(-100.0, -100.0), (100.0, -100.0), (100.0, 100.0), (-100.0, 100.0), (-100.0, -100.0)]
    roads = (road(corners, [1, 2, 3, 4, 1], oneway=oneway), road([(100.0, 100.0), (100.0, 180.0)], [3, 9]))
    houses = []
    for along in np.arange(-84.0, 84.0, 14.0):
        houses += [box(along, -90.0, along + 10.0, -80.0), box(along, 80.0, along + 10.0, 90.0)]
        houses += [box(-120.0, along, -110.0, along + 10.0), box(110.0, along, 120.0, along + 10.0)]
    areas = tuple(Area("building", house, height_m=7.0) for house in houses)
    return OsmMap(FRAME, (-260.0, -260.0, 260.0, 260.0), roads, areas, (), (), "ring")
