"""Small OpenStreetMap files, written in metres about a place."""

from collections.abc import Mapping, Sequence

from bevfusion.geometry.geodesy import LocalFrame

CENTRE = LocalFrame(49.0, 8.4)
Tags = Mapping[str, str]


class OsmText:
    """An OSM XML document that grows: nodes by metres about `CENTRE`, ways by their nodes."""

    def __init__(self, half_m: float | None = 200.0) -> None:
        self.body: list[str] = []
        self.ways: list[str] = []
        self.relations: list[str] = []
        self.count = 0
        self.bounds = ""
        if half_m is not None:
            south, west = CENTRE.degrees_from_metres(-half_m, -half_m)
            north, east = CENTRE.degrees_from_metres(half_m, half_m)
            self.bounds = f'<bounds minlat="{south}" minlon="{west}" maxlat="{north}" maxlon="{east}"/>'

    @staticmethod
    def _tags(tags: Tags) -> str:
        return "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())

    def node(self, x_m: float, y_m: float, tags: Tags | None = None) -> int:
        self.count += 1
        lat, lon = CENTRE.degrees_from_metres(float(x_m), float(y_m))
        self.body.append(
            f'<node id="{self.count}" version="1" lat="{lat:.9f}" lon="{lon:.9f}">{self._tags(tags or {})}</node>'
        )
        return self.count

    def way(self, nodes: Sequence[int], tags: Tags) -> int:
        self.count += 1
        refs = "".join(f'<nd ref="{node}"/>' for node in nodes)
        self.ways.append(f'<way id="{self.count}" version="1">{refs}{self._tags(tags)}</way>')
        return self.count

    def line(self, points: Sequence[tuple[float, float]], tags: Tags) -> int:
        return self.way([self.node(*point) for point in points], tags)

    def box(self, x0: float, y0: float, x1: float, y1: float, tags: Tags) -> int:
        nodes = [self.node(x, y) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        return self.way([*nodes, nodes[0]], tags)

    def relation(self, members: Sequence[tuple[int, str]], tags: Tags) -> None:
        self.count += 1
        inner = "".join(f'<member type="way" ref="{way}" role="{role}"/>' for way, role in members)
        self.relations.append(f'<relation id="{self.count}" version="1">{inner}{self._tags(tags)}</relation>')

    def __str__(self) -> str:
        content = "".join((self.bounds, *self.body, *self.ways, *self.relations))
        return f'<?xml version="1.0"?><osm version="0.6" generator="test">{content}</osm>'
