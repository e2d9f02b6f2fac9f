"""Vehicles must not sway the answer: put some in, take all out, and see how far the estimate moves."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bevfusion.datasets.augment import insert_vehicles, without_vehicles
from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.protocol import Protocol, displaced, evenly_spaced
from bevfusion.evaluation.results import TrafficShift
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.source import MapSource, first_covering
from bevfusion.structures import DataError, Locator, Scan

COUNTS = (10, 20, 40)
HIDING = (40,)


def with_vehicles(scan: Scan, count: int, seed: Sequence[int]) -> Scan:
    """A scan with vehicles on its own ground; with one seed, fewer vehicles are the first of more."""
    return insert_vehicles(scan, count, np.random.default_rng(list(seed)))


def only_hidden(before: Scan, after: Scan) -> Scan:
    """A scan without what vehicles of `after` hide, and without those vehicles."""
    return before.select((before.xyz == after.xyz).all(axis=1))


def vehicle_shifts(
    make_locator: Callable[[MapSource], Locator],
    drive: Drive,
    maps: Sequence[MapSource],
    *,
    counts: Sequence[int] = COUNTS,
    hiding: Sequence[int] = (),
    frames: int | None = None,
    protocol: Protocol | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> list[TrafficShift]:
    """Ask for frames as they are and with other traffic.

    Args:
        make_locator: what is tried, opened once for each map that is used.
        drive: frames without truth or off the maps are left out.
        maps: each frame takes the first that covers its true place.
        counts: numbers of vehicles to insert; 0 gives no shift at all.
        hiding: those of them for which is also asked what comes of all that they hide alone.
        frames: so many, evenly spaced over the drive; all by default.
        protocol: how far the prior is off, and the seed.
        on_frame: called with (frames done, frames in all).
    """
    asked = protocol or Protocol()
    frame_indices = evenly_spaced(len(drive), frames)
    locators: dict[int, Locator] = {}
    shifts: list[TrafficShift] = []
    for done, frame_index in enumerate(frame_indices, start=1):
        try:
            frame = drive[frame_index]
        except DataError:  # counted where the drive is scored
            continue
        found = None if frame.truth is None else first_covering(maps, frame.truth)
        if found is not None:
            index, truth = found
            if index not in locators:
                locators[index] = make_locator(maps[index])
            locator = locators[index]
            prior = displaced(truth, asked, drive.name, frame.index, 0)
            before = _pose(locator, frame.scan, prior, asked)
            for vehicles, hidden_only, scan in _variants(frame.scan, counts, hiding, (asked.seed, frame.index)):
                after = _pose(locator, scan, prior, asked)
                changed = changed_share(frame.scan, scan)
                shift = TrafficShift(
                    drive.name,
                    frame.index,
                    vehicles,
                    changed,
                    *_apart(before, after),
                    hidden_only,
                    (before.x_m, before.y_m, before.yaw_rad),
                    (after.x_m, after.y_m, after.yaw_rad),
                    index,
                )
                shifts.append(shift)
        if on_frame is not None:
            on_frame(done, len(frame_indices))
    return shifts


def _variants(
    scan: Scan, counts: Sequence[int], hiding: Sequence[int], seed: Sequence[int]
) -> Iterator[tuple[int | None, bool, Scan]]:
    """The scan in other traffic: (vehicles, what they hide alone, scan), as `TrafficShift` has them."""
    for count in counts:
        varied = with_vehicles(scan, count, seed)
        yield count, False, varied
        if count in hiding:
            yield count, True, only_hidden(scan, varied)
    if scan.labels is not None:
        yield None, False, without_vehicles(scan)


def summarise_shifts(shifts: Sequence[TrafficShift]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile, by what was done (`done_to`), and `inserted` for any number of vehicles.

    What was not done is left out.
    """
    inserted = [shift for shift in shifts if shift.vehicles and not shift.hidden_only]
    groups = by_what_was_done(shifts) | ({"inserted": inserted} if inserted else {})
    return {name: _summary(group) for name, group in groups.items()}


def by_what_was_done(shifts: Sequence[TrafficShift]) -> dict[str, list[TrafficShift]]:
    """The shifts by `done_to`: vehicles put in, few before many, then what they hide, then vehicles removed."""
    groups: dict[str, list[TrafficShift]] = {}
    for shift in sorted(shifts, key=lambda shift: (shift.vehicles is None, shift.hidden_only, shift.vehicles or 0)):
        if shift.vehicles != 0:
            groups.setdefault(done_to(shift), []).append(shift)
    return groups


def done_to(shift: TrafficShift) -> str:
    """What was done to the scan: `inserted_N`, `hidden_N` (by as many), or `removed`."""
    if shift.vehicles is None:
        return "removed"
    return f"{'hidden' if shift.hidden_only else 'inserted'}_{shift.vehicles}"


def in_words(done: str) -> str:
    """A key of `summarise_shifts` for people."""
    what, _, count = done.partition("_")
    if what == "removed":
        return "every labelled vehicle taken out"
    return f"without what {count} vehicles hide" if what == "hidden" else f"{count or 'any number of'} vehicles put in"


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


def _summary(shifts: Sequence[TrafficShift]) -> dict[str, float]:
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
