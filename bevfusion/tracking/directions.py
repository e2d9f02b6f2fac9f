"""The ways on from each pose of a track, as GeoJSON (RFC 7946)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bevfusion.direction.guide import Guide, described
from bevfusion.files import write_text
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError
from bevfusion.tracking.follow import TrackedFrame
from bevfusion.tracking.outputs import ATTRIBUTION


def write_directions(path: Path, frames: Sequence[TrackedFrame], guide: Guide, source: MapSource) -> dict[str, Any]:
    """Write a LineString a path ahead: its frame, probability, and direction at each point beside the first, the pose.

    A pose that no way leads on from has a feature without a geometry that says why.

    Args:
        path: of the file.
        frames: of the track, in order.
        guide: says where the road goes.
        source: the map.

    Returns:
        How many poses have a path and how many have none, with the reasons, for summary.json.
    """
    features: list[dict[str, Any]] = []
    reasons: dict[str, int] = {}
    found = 0
    for frame in frames:
        if frame.estimate is None:
            continue
        pose = frame.estimate.map_from_ego
        about = {"frame": frame.index, "stamp_ns": frame.stamp_ns}
        try:
            ways = guide.paths(pose, frame.estimate.covariance, frame.estimate.direction)
        except DataError as error:
            reasons[str(error)] = reasons.get(str(error), 0) + 1
            features.append({"type": "Feature", "geometry": None, "properties": about | {"no_path": str(error)}})
            continue
        found += 1
        here = source.frame.geo_pose(pose)
        for way in ways:
            told = described(way, pose, source)
            places = [[lon_deg, lat_deg] for lat_deg, lon_deg in told["lat_lon"]]
            line = {"type": "LineString", "coordinates": [[round(here.lon_deg, 8), round(here.lat_deg, 8)], *places]}
            of_path = {key: told[key] for key in ("probability", "heading_deg", "std_deg", "turn_deg")}
            features.append({"type": "Feature", "geometry": line if places else None, "properties": about | of_path})
    collection = {"type": "FeatureCollection", "attribution": ATTRIBUTION, "features": features}
    write_text(path, json.dumps(collection, ensure_ascii=False) + "\n")
    most = sorted(reasons.items(), key=lambda each: -each[1])[:3]
    return {"with_path": found, "without": sum(reasons.values()), "reasons": dict(most)}
