"""Scans and maps varied as the world varies them: weaker sensors, other traffic, mappers who draw less."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Int8

from bevfusion.lidar.ground import fit_ground
from bevfusion.maps.schema import layer_index
from bevfusion.structures import Scan

VEHICLE_CLASSES = (10, 11, 13, 15, 16, 18, 20, 30, 31, 32, *range(252, 260))  # of SemanticKITTI: what moves or may
_CAR_CLASS = 10
_ROAD_CLASS = 40
_VEHICLES_AWAY_M = (4.0, 35.0)
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


def insert_vehicles(scan: Scan, count: int, rng: np.random.Generator) -> Scan:
    """With up to `count` cars, vans and trucks put on the road (or, without labels, anywhere from 4 to 35 m).

    What stands behind them is hidden, see `insert_boxes`.
    """
    return insert_boxes(scan, place_vehicles(scan, count, rng), rng, _CAR_CLASS)


def insert_boxes(scan: Scan, boxes: "Sequence[Vehicle]", rng: np.random.Generator, label: int) -> Scan:
    """With boxes in its way.

    The rays stay those of the scan: where one meets a box before its return, the return moves to the box, so what
    stands behind is hidden as it would be.

    Args:
        scan: without them.
        boxes: in the scan's frame.
        rng: draws their reflectance.
        label: class of SemanticKITTI of their points.
    """
    xyz, intensity = scan.xyz.copy(), scan.intensity.copy()
    labels = None if scan.labels is None else scan.labels.copy()
    range_m = np.hypot(xyz[:, 0], xyz[:, 1])
    for box in boxes:
        hit, share = _first_hit(xyz, range_m, box)
        xyz[hit] *= share[:, None]
        range_m[hit] *= share
        intensity[hit] = rng.uniform(0.05, 0.6)
        if labels is not None:
            labels[hit] = label
    return Scan(xyz, intensity, labels)


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A box on the road, in the scan's frame."""

    centre_m: Float[np.ndarray, " 3"]
    yaw_rad: float
    size_m: Float[np.ndarray, " 3"]  # length, width, height

    def footprint_m(self) -> Float[np.ndarray, " 4"]:
        """Its box along x and y: centre and half sides."""
        cos, sin = abs(np.cos(self.yaw_rad)), abs(np.sin(self.yaw_rad))
        length_m, width_m, _ = self.size_m
        half_m = 0.5 * (cos * length_m + sin * width_m), 0.5 * (sin * length_m + cos * width_m)
        return np.array([*self.centre_m[:2], *half_m])


def place_vehicles(scan: Scan, count: int, rng: np.random.Generator) -> list[Vehicle]:
    """So many vehicles, fewer where the road is full: half a metre apart, and none on top of the sensor.

    They stand along the ego x axis or, one in seven, across it; where the scan has no labels, on the ground that is
    fitted to it.
    """
    road = _road_places(scan)
    ground = None if len(road) else fit_ground(scan.xyz)
    placed: list[Vehicle] = []
    taken_m = np.zeros((count, 4))
    for _ in range(10 * count):
        if len(placed) == count:
            break
        height_m = rng.choice([1.5, 2.0, 3.2], p=[0.75, 0.15, 0.1])
        size_m = np.array([rng.uniform(3.6, 5.2) * (1.6 if height_m > 3 else 1.0), rng.uniform(1.7, 2.1), height_m])
        if ground is None:
            x_m, y_m, z_m = road[rng.integers(len(road))]
        else:
            angle, away_m = rng.uniform(-np.pi, np.pi), rng.uniform(*_VEHICLES_AWAY_M)
            x_m, y_m = away_m * np.cos(angle), away_m * np.sin(angle)
            z_m = float(ground.z_m(np.array([[x_m, y_m]]))[0])
        yaw_rad = rng.normal(0.0, 0.1) + rng.choice([0.0, 0.5 * np.pi], p=[0.85, 0.15])
        vehicle = Vehicle(np.array([x_m, y_m, z_m + 0.5 * size_m[2]]), float(yaw_rad), size_m)
        box_m, others_m = vehicle.footprint_m(), taken_m[: len(placed)]
        apart_m = np.abs(others_m[:, :2] - box_m[:2]) - others_m[:, 2:] - box_m[2:]
        if np.hypot(x_m, y_m) >= 0.5 * size_m[0] + 2.0 and (apart_m.max(axis=1) > 0.5).all():
            taken_m[len(placed)] = box_m
            placed.append(vehicle)
    return placed


def _road_places(scan: Scan) -> Float[np.ndarray, "n 3"]:
    """A labelled road point from each half metre of road: points themselves crowd about the sensor, cars do not."""
    if scan.labels is None:
        return np.zeros((0, 3), np.float32)
    road = scan.xyz[(scan.labels & 0xFFFF) == _ROAD_CLASS]
    range_m = np.hypot(road[:, 0], road[:, 1])
    road = road[(range_m > _VEHICLES_AWAY_M[0]) & (range_m < _VEHICLES_AWAY_M[1])]
    row, col = np.floor(road[:, :2].T / 0.5).astype(np.int64)
    _, first = np.unique(row * 1000 + col, return_index=True)
    places: np.ndarray = road[first]
    return places


def _first_hit(
    xyz: Float[np.ndarray, "n 3"],
    range_m: Float[np.ndarray, " n"],
    vehicle: Vehicle,
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Which rays meet a vehicle before their return, and at what share of the way.

    `range_m` is the range of `xyz` in the plane.
    """
    centre_m, yaw_rad, size_m = vehicle.centre_m, vehicle.yaw_rad, vehicle.size_m
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
