"""Scans and maps varied as the world varies them: weaker sensors, other traffic, mappers who draw less."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Int8

from bevfusion.maps.schema import layer_index
from bevfusion.structures import Scan

VEHICLE_CLASSES = (10, 11, 13, 15, 16, 18, 20, 30, 31, 32, *range(252, 260))  # of SemanticKITTI: what moves or may
_CAR_CLASS = 10
_ROAD_CLASS = 40
MAPPED_KINDS = (  # what mappers draw together or leave out together; streets are on every map
    ("building", "building_outline"),
    ("vegetation", "tree", "tree_row", "hedge"),
    ("wall", "fence", "kerb"),
    ("pole", "lamp", "sign", "signal"),
    ("path", "parking"),
    ("water", "rail"),
)


def mirrored(scan: Scan) -> Scan:
    """The scan in a mirror along the vehicle: y turned round."""
    return replace(scan, xyz=scan.xyz * np.array([1.0, -1.0, 1.0], dtype=scan.xyz.dtype))


def drop_points(scan: Scan, share: float, rng: np.random.Generator) -> Scan:
    """Without a share of its points, at random."""
    return scan.select(rng.random(len(scan)) >= share)


def drop_beams(scan: Scan, share: float, rng: np.random.Generator, *, rings: int = 64) -> Scan:
    """Without a share of its elevation rings: every scan as a coarser sensor would have taken it."""
    elevation = np.arctan2(scan.xyz[:, 2], np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]))
    low, high = np.deg2rad(-25.0), np.deg2rad(15.0)
    ring = np.clip((elevation - low) / (high - low) * rings, 0, rings - 1).astype(np.int64)
    return scan.select((rng.random(rings) >= share)[ring])


def without_vehicles(scan: Scan) -> Scan:
    """Without the points labelled as vehicles or people.

    Raises:
        ValueError: if the scan has no labels.
    """
    if scan.labels is None:
        raise ValueError("expected a scan with labels, got one without")
    return scan.select(~np.isin(scan.labels & 0xFFFF, VEHICLE_CLASSES))


def drop_mapped_kinds(
    layers: Int8[np.ndarray, "l h w"], share: float, rng: np.random.Generator
) -> Int8[np.ndarray, "l h w"]:
    """A tile without a share of the `MAPPED_KINDS`, at random: many places have streets on the map and little else."""
    kept = layers.copy()
    for kind in MAPPED_KINDS:
        if rng.random() < share:
            kept[[layer_index(name) for name in kind]] = 0
    return kept


def insert_vehicles(scan: Scan, count: int, rng: np.random.Generator, *, ground_z_m: float = -1.7) -> Scan:
    """With `count` cars, vans and trucks put on the road (or, without labels, anywhere from 4 to 35 m).

    The rays stay those of the scan: where one meets a vehicle before its return, the return moves to the vehicle, so
    what stands behind is hidden as it would be.
    """
    xyz, intensity = scan.xyz.copy(), scan.intensity.copy()
    labels = None if scan.labels is None else scan.labels.copy()
    range_m = np.hypot(xyz[:, 0], xyz[:, 1])
    for centre_m, yaw_rad, size_m in _placements(scan, count, rng, ground_z_m):
        hit, share = _first_hit(xyz, range_m, centre_m, yaw_rad, size_m)
        xyz[hit] *= share[:, None]
        range_m[hit] *= share
        intensity[hit] = rng.uniform(0.05, 0.6)
        if labels is not None:
            labels[hit] = _CAR_CLASS
    return Scan(xyz, intensity, labels)


def _placements(
    scan: Scan, count: int, rng: np.random.Generator, ground_z_m: float
) -> list[tuple[Float[np.ndarray, " 3"], float, Float[np.ndarray, " 3"]]]:
    """Centre, yaw and (length, width, height) of each vehicle, none on top of the sensor."""
    road = np.zeros((0, 3)) if scan.labels is None else scan.xyz[(scan.labels & 0xFFFF) == _ROAD_CLASS]
    range_m = np.hypot(road[:, 0], road[:, 1])
    road = road[(range_m > 4.0) & (range_m < 35.0)]
    placements = []
    for _ in range(count):
        height_m = rng.choice([1.5, 2.0, 3.2], p=[0.75, 0.15, 0.1])
        size_m = np.array([rng.uniform(3.6, 5.2) * (1.6 if height_m > 3 else 1.0), rng.uniform(1.7, 2.1), height_m])
        if len(road):
            x_m, y_m, z_m = road[rng.integers(len(road))]
        else:
            angle, away_m = rng.uniform(-np.pi, np.pi), rng.uniform(4.0, 35.0)
            x_m, y_m, z_m = away_m * np.cos(angle), away_m * np.sin(angle), ground_z_m
        if np.hypot(x_m, y_m) < 0.5 * size_m[0] + 2.0:
            continue
        yaw_rad = rng.normal(0.0, 0.1) + rng.choice([0.0, 0.5 * np.pi], p=[0.85, 0.15])
        placements.append((np.array([x_m, y_m, z_m + 0.5 * size_m[2]]), float(yaw_rad), size_m))
    return placements


def _first_hit(
    xyz: Float[np.ndarray, "n 3"],
    range_m: Float[np.ndarray, " n"],
    centre_m: Float[np.ndarray, " 3"],
    yaw_rad: float,
    size_m: Float[np.ndarray, " 3"],
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Which rays meet a box before their return, and at what share of the way.

    `range_m` is the range of `xyz` in the plane.
    """
    away_m = float(np.hypot(centre_m[0], centre_m[1]))
    reach_m = 0.5 * float(np.hypot(size_m[0], size_m[1]))
    # Only rays within the cone that the box fills, and beyond its near side, can.
    along = xyz[:, :2] @ centre_m[:2].astype(xyz.dtype)
    cone = np.sqrt(max(away_m**2 - reach_m**2, 0.0))
    near = np.flatnonzero((along > range_m * cone) & (range_m > away_m - reach_m))
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    to_box = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    direction, origin = xyz[near] @ to_box.T, -to_box @ centre_m
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (-0.5 * size_m - origin) / direction, (0.5 * size_m - origin) / direction
    enter, leave = np.fmin(first, second).max(1), np.fmax(first, second).min(1)
    hits = (enter <= leave) & (enter > 0.0) & (enter < 1.0)
    return near[hits], enter[hits].astype(xyz.dtype)
