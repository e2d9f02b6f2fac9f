"""What a track is written as: CSV for everybody, TUM for evo, GeoJSON and GPX for maps, MCAP for Foxglove.

All of them are written whole or not at all. Poses are those of the LiDAR. Text that comes from the log is written so
that no spreadsheet takes it for a formula.
"""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bevfusion.files import atomic_file, write_text
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError
from bevfusion.tables import no_formula
from bevfusion.tracking.follow import TrackedFrame

ATTRIBUTION = "Map data © OpenStreetMap contributors, ODbL: https://www.openstreetmap.org/copyright"
COLUMNS = (
    "frame", "stamp_ns", "state", "lat", "lon", "heading_deg", "x_m", "y_m", "yaw_rad", "var_x_m2", "cov_xy_m2",
    "var_y_m2", "std_heading_deg", "confidence", "gnss_lat", "gnss_lon", "gnss_distance_m", "reason",
)  # fmt: skip
_NS = 10**9


def write_csv(path: Path, frames: Sequence[TrackedFrame], source: MapSource) -> None:
    """One row a frame in the order of `COLUMNS`; cells that do not apply are empty."""
    with atomic_file(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(_row(frame, source) for frame in frames)


def _row(frame: TrackedFrame, source: MapSource) -> dict[str, object]:
    row: dict[str, object] = {"frame": frame.index, "stamp_ns": frame.stamp_ns, "state": frame.state}
    row["reason"] = no_formula(frame.reason)
    if frame.gnss is not None:
        row |= {"gnss_lat": f"{frame.gnss.lat_deg:.8f}", "gnss_lon": f"{frame.gnss.lon_deg:.8f}"}
    if frame.estimate is None:
        return row
    pose, covariance = frame.estimate.map_from_ego, frame.estimate.covariance
    place = source.frame.geo_pose(pose)
    distance_m = gnss_distance_m(frame, source)
    return row | {
        "lat": f"{place.lat_deg:.8f}",
        "lon": f"{place.lon_deg:.8f}",
        "heading_deg": f"{math.degrees(place.yaw_rad):.3f}",
        "x_m": f"{pose.x_m:.3f}",
        "y_m": f"{pose.y_m:.3f}",
        "yaw_rad": f"{pose.yaw_rad:.5f}",
        "var_x_m2": f"{covariance[0, 0]:.4f}",
        "cov_xy_m2": f"{covariance[0, 1]:.4f}",
        "var_y_m2": f"{covariance[1, 1]:.4f}",
        "std_heading_deg": f"{math.degrees(math.sqrt(max(0.0, covariance[2, 2]))):.3f}",
        "confidence": f"{frame.estimate.confidence:.4f}",
        "gnss_distance_m": "" if distance_m is None else f"{distance_m:.2f}",
    }


def gnss_distance_m(frame: TrackedFrame, source: MapSource) -> float | None:
    """How far the pose lies from the receiver's fix; None where one is missing."""
    if frame.estimate is None or frame.gnss is None:
        return None
    fix, pose = source.frame.map_from_ego(frame.gnss), frame.estimate.map_from_ego
    return math.hypot(fix.x_m - pose.x_m, fix.y_m - pose.y_m)


def write_tum(path: Path, frames: Sequence[TrackedFrame]) -> None:
    """`stamp x y z qx qy qz qw` a pose, in seconds and in metres of the map frame, as evo reads it."""
    lines = []
    for frame in frames:
        if frame.estimate is not None:
            pose = frame.estimate.map_from_ego
            stamp = f"{frame.stamp_ns // _NS}.{frame.stamp_ns % _NS:09d}"
            half = 0.5 * pose.yaw_rad
            lines.append(f"{stamp} {pose.x_m:.4f} {pose.y_m:.4f} 0 0 0 {math.sin(half):.7f} {math.cos(half):.7f}\n")
    write_text(path, "".join(lines))


def stretches(frames: Sequence[TrackedFrame]) -> Iterator[list[TrackedFrame]]:
    """The frames with a pose, cut where one has none."""
    stretch: list[TrackedFrame] = []
    for frame in frames:
        if frame.answered:
            stretch.append(frame)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def write_geojson(path: Path, frames: Sequence[TrackedFrame], source: MapSource) -> None:
    """A LineString for each stretch with poses (a Point where it is one pose), RFC 7946."""
    features = []
    for stretch in stretches(frames):
        places = [[round(place.lon_deg, 8), round(place.lat_deg, 8)] for place in _places(stretch, source)]
        line = {"type": "LineString", "coordinates": places}
        features.append(
            {
                "type": "Feature",
                "geometry": line if len(places) > 1 else {"type": "Point", "coordinates": places[0]},
                "properties": {
                    "first_frame": stretch[0].index,
                    "last_frame": stretch[-1].index,
                    "begin": _iso(stretch[0].stamp_ns),
                    "end": _iso(stretch[-1].stamp_ns),
                },
            }
        )
    collection = {"type": "FeatureCollection", "attribution": ATTRIBUTION, "features": features}
    write_text(path, json.dumps(collection, ensure_ascii=False) + "\n")


def write_gpx(path: Path, frames: Sequence[TrackedFrame], source: MapSource, name: str) -> None:
    """A track with a segment for each stretch with poses, GPX 1.1."""
    root = ElementTree.Element("gpx", version="1.1", creator="bevfusion", xmlns="http://www.topografix.com/GPX/1/1")
    metadata = ElementTree.SubElement(root, "metadata")
    ElementTree.SubElement(metadata, "desc").text = ATTRIBUTION
    track = ElementTree.SubElement(root, "trk")
    ElementTree.SubElement(track, "name").text = "".join(char for char in name if char.isprintable())
    for stretch in stretches(frames):
        segment = ElementTree.SubElement(track, "trkseg")
        for frame, place in zip(stretch, _places(stretch, source), strict=True):
            lat, lon = f"{place.lat_deg:.8f}", f"{place.lon_deg:.8f}"
            point = ElementTree.SubElement(segment, "trkpt", lat=lat, lon=lon)
            ElementTree.SubElement(point, "time").text = _iso(frame.stamp_ns)
    with atomic_file(path) as draft:
        ElementTree.ElementTree(root).write(draft, encoding="utf-8", xml_declaration=True)


def _places(frames: Sequence[TrackedFrame], source: MapSource) -> list[GeoPose]:
    return [source.frame.geo_pose(frame.estimate.map_from_ego) for frame in frames if frame.estimate is not None]


def _iso(stamp_ns: int) -> str:
    moment = datetime.fromtimestamp(stamp_ns // _NS, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{stamp_ns % _NS // 10**6:03d}Z"


_NUMBER, _TIME = (
    {"type": "number"},
    {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}},
)
_SCHEMAS: dict[str, dict[str, Any]] = {
    "foxglove.LocationFix": {
        "timestamp": _TIME,
        "frame_id": {"type": "string"},
        "latitude": _NUMBER,
        "longitude": _NUMBER,
        "altitude": _NUMBER,
        "position_covariance": {"type": "array", "items": _NUMBER},
        "position_covariance_type": {"type": "integer"},
    },
    "foxglove.PoseInFrame": {
        "timestamp": _TIME,
        "frame_id": {"type": "string"},
        "pose": {
            "type": "object",
            "properties": {
                "position": {"type": "object", "properties": dict.fromkeys("xyz", _NUMBER)},
                "orientation": {"type": "object", "properties": dict.fromkeys("xyzw", _NUMBER)},
            },
        },
    },
}
_KNOWN_COVARIANCE = 3  # of foxglove.LocationFix


def write_mcap(path: Path, frames: Sequence[TrackedFrame], source: MapSource) -> None:
    """The poses as foxglove.LocationFix (/location) and foxglove.PoseInFrame (/pose), in JSON.

    Raises:
        DataError: if the package mcap is not installed.
    """
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise DataError("writing MCAP needs the package mcap: pip install 'bevfusion[mcap]'") from error
    with atomic_file(path) as draft, draft.open("wb") as file:
        writer = Writer(file)
        writer.start(library="bevfusion")
        writer.add_metadata("map", {"attribution": ATTRIBUTION, "name": source.name})
        channels = {}
        for topic, name in (("/location", "foxglove.LocationFix"), ("/pose", "foxglove.PoseInFrame")):
            schema = {"type": "object", "title": name, "properties": _SCHEMAS[name]}
            number = writer.register_schema(name=name, encoding="jsonschema", data=json.dumps(schema).encode())
            channels[topic] = writer.register_channel(topic=topic, message_encoding="json", schema_id=number)
        for frame in frames:
            for topic, message in _messages(frame, source):
                data = json.dumps(message).encode()
                writer.add_message(channels[topic], log_time=frame.stamp_ns, publish_time=frame.stamp_ns, data=data)
        writer.finish()  # type: ignore[no-untyped-call]


def _messages(frame: TrackedFrame, source: MapSource) -> Iterator[tuple[str, dict[str, Any]]]:
    if frame.estimate is None:
        return
    pose, covariance = frame.estimate.map_from_ego, frame.estimate.covariance
    place, stamp = source.frame.geo_pose(pose), {"sec": frame.stamp_ns // _NS, "nsec": frame.stamp_ns % _NS}
    spread = [covariance[0, 0], covariance[0, 1], 0.0, covariance[1, 0], covariance[1, 1], 0.0, 0.0, 0.0, 0.0]
    yield (
        "/location",
        {
            "timestamp": stamp,
            "frame_id": "lidar",
            "latitude": place.lat_deg,
            "longitude": place.lon_deg,
            "altitude": 0.0,
            "position_covariance": [float(value) for value in spread],
            "position_covariance_type": _KNOWN_COVARIANCE,
        },
    )
    half = 0.5 * pose.yaw_rad
    yield (
        "/pose",
        {
            "timestamp": stamp,
            "frame_id": "map",
            "pose": {
                "position": {"x": pose.x_m, "y": pose.y_m, "z": 0.0},
                "orientation": {"x": 0.0, "y": 0.0, "z": math.sin(half), "w": math.cos(half)},
            },
        },
    )
