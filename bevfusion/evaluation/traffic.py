"""Vehicles must not sway the answer: put some in, take all out, and see how far the estimate moves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bevfusion.datasets.augment import insert_vehicles, without_vehicles
from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.protocol import Protocol, displaced
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.lidar.ground import fit_ground
from bevfusion.maps.source import MapSource
from bevfusion.structures import Locator, Scan

COUNTS = (10, 20, 40)


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one scan's estimate moves when its traffic changes, both found from the same prior."""

    drive: str
    frame: int
    vehicles: int | None  # inserted; None: every labelled vehicle removed
    changed: float  # share of the points that moved or went
    heading_deg: float  # absolute
    position_m: float


def with_vehicles(scan: Scan, count: int, seed: Sequence[int]) -> Scan:
    """A scan with vehicles on its own ground; with one seed, fewer vehicles are the first of more."""
    ground_z_m = float(fit_ground(scan.xyz)[2])
    return insert_vehicles(scan, count, np.random.default_rng(list(seed)), ground_z_m=ground_z_m)


def vehicle_shifts(
    locator: Locator,
    drive: Drive,
    source: MapSource,
    *,
    counts: Sequence[int] = COUNTS,
    frames: int | None = None,
    protocol: Protocol | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> list[Shift]:
    """Ask for frames as they are and with other traffic.

    Args:
        locator: what is tried; it works on `source`.
        drive: frames without truth or off the map are left out.
        source: the map.
        counts: numbers of vehicles to insert; 0 gives no shift at all.
        frames: so many, evenly spaced over the drive; all by default.
        protocol: how far the prior is off, and the seed.
        on_frame: called with (frames done, frames in all).
    """
    asked = protocol or Protocol()
    positions = evenly_spaced(len(drive), frames)
    shifts: list[Shift] = []
    for done, position in enumerate(positions, start=1):
        frame = drive[position]
        truth = None if frame.truth is None else source.frame.map_from_ego(frame.truth)
        if truth is not None and source.covers(truth.x_m, truth.y_m):
            prior = displaced(truth, asked, drive.name, frame.index, 0)
            variants: list[tuple[int | None, Scan]] = [
                (count, with_vehicles(frame.scan, count, (asked.seed, frame.index))) for count in counts
            ]
            if frame.scan.labels is not None:
                variants.append((None, without_vehicles(frame.scan)))
            before = _pose(locator, frame.scan, prior, asked)
            for vehicles, scan in variants:
                after = _pose(locator, scan, prior, asked)
                shifts.append(
                    Shift(drive.name, frame.index, vehicles, changed_share(frame.scan, scan), *_apart(before, after))
                )
        if on_frame is not None:
            on_frame(done, len(positions))
    return shifts


def summarise_shifts(shifts: Sequence[Shift]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile, by what was done: `inserted` (any number), `inserted_N` for each N, `removed`.

    What was not done is left out.
    """
    inserted = [shift for shift in shifts if shift.vehicles]
    groups = {"inserted": inserted}
    for count in sorted({shift.vehicles for shift in inserted if shift.vehicles is not None}):
        groups[f"inserted_{count}"] = [shift for shift in inserted if shift.vehicles == count]
    groups["removed"] = [shift for shift in shifts if shift.vehicles is None]
    return {name: _summary(group) for name, group in groups.items() if group}


def evenly_spaced(length: int, count: int | None) -> list[int]:
    """`count` positions of 0 .. length - 1, in order, or all."""
    if count is None or count >= length:
        return list(range(length))
    return [int(position) for position in np.linspace(0, length - 1, count).round()]


def changed_share(before: Scan, after: Scan) -> float:
    """Share of the points of a scan that moved or are missing in a variant of it."""
    if not len(before):
        return 0.0
    if len(after) != len(before):
        return (len(before) - len(after)) / len(before)
    return float((before.xyz != after.xyz).any(axis=1).mean())


def _pose(locator: Locator, scan: Scan, prior: SE2, protocol: Protocol) -> SE2:
    return locator.locate(scan, prior, protocol.offset_m, math.radians(protocol.offset_deg)).map_from_ego


def _apart(a: SE2, b: SE2) -> tuple[float, float]:
    """Degrees and metres between two poses."""
    turn_deg = math.degrees(abs(wrap_angle(a.yaw_rad - b.yaw_rad)))
    return turn_deg, math.hypot(a.x_m - b.x_m, a.y_m - b.y_m)


def _summary(shifts: Sequence[Shift]) -> dict[str, float]:
    heading_deg = np.array([shift.heading_deg for shift in shifts])
    position_m = np.array([shift.position_m for shift in shifts])
    return {
        "scans": float(len(shifts)),
        "changed_percent": 100.0 * float(np.mean([shift.changed for shift in shifts])),
        "heading_deg_median": float(np.median(heading_deg)),
        "heading_deg_p95": float(np.percentile(heading_deg, 95)),
        "position_m_median": float(np.median(position_m)),
        "position_m_p95": float(np.percentile(position_m, 95)),
    }
