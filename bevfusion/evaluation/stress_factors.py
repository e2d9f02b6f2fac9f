"""What is made worse, and how far: the rows of a stress test."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bevfusion.choices import meant
from bevfusion.datasets.augment import insert_vehicles
from bevfusion.datasets.degrade import (
    fewer_beams,
    in_weather,
    insert_people,
    raised,
    smeared,
    tilted,
    turned,
    within_range,
    without_sector,
)
from bevfusion.evaluation.stress import Condition, Factor
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import OsmMap
from bevfusion.simulate.map_errors import with_invented_buildings, with_shifted_things, without_things
from bevfusion.structures import DataError, Scan

ChangeShare = Callable[[OsmMap, float, np.random.Generator], OsmMap]

_RAIN_BACK, _SNOW_BACK = 0.1, 0.5  # of the returns that are lost, how many come back from near
_SCALE_PER_PERCENT, _YAW_PER_PERCENT_RAD = 0.01, math.radians(0.005)  # of odometry, a metre


def factors(other_map: Path | None = None) -> tuple[Factor, ...]:
    """All of them.

    Args:
        other_map: asked in place of the map, such as one that lacks a street; None: that factor is left out.
    """
    rows = [
        _scans("vehicles", "vehicles on the road", "", (0.0, 10.0, 20.0, 40.0, 80.0), _vehicles),
        _scans("people", "people about", "", (0.0, 10.0, 20.0, 40.0), _people),
        _scans("beams", "beams", "of 64", (64.0, 32.0, 16.0, 8.0), _beams),
        _scans("range", "range cut", "m", (math.inf, 60.0, 45.0, 30.0), _range),
        _scans("sector", "view blocked ahead", "degrees", (0.0, 45.0, 90.0, 180.0), partial(_sector, 0.0)),
        _scans("sector_left", "view blocked on the left", "degrees", (0.0, 45.0, 90.0, 180.0), partial(_sector, 90.0)),
        _scans("rain", "rain, visibility", "m", (math.inf, 2000.0, 1000.0, 500.0), partial(_weather, _RAIN_BACK)),
        _scans("snow", "snow, visibility", "m", (math.inf, 1000.0, 500.0, 200.0), partial(_weather, _SNOW_BACK)),
        _scans("yaw", "sensor turned", "degrees", (0.0, 1.0, 2.0, 3.0, 5.0), _yaw),
        _scans("height", "sensor higher", "m", (-0.8, -0.4, 0.0, 0.4, 0.8), _height),
        _scans("pitch", "sensor's nose down", "degrees", (-5.0, -2.0, 0.0, 2.0, 5.0), _pitch),
        _scans("roll", "sensor leans right", "degrees", (0.0, 2.0, 5.0), _roll),
        _scans("speed", "motion of a turn not undone", "m/s", (0.0, 10.0, 20.0, 30.0), _speed),
        _scans("turn_rate", "turning, not undone, at 10 m/s", "degrees/s", (0.0, 15.0, 30.0, 60.0), _turn_rate),
        _maps("map_missing", "things missing on the map", "%", (0.0, 10.0, 25.0, 50.0), without_things),
        _maps("map_shifted", "things shifted on the map", "%", (0.0, 10.0, 25.0, 50.0), with_shifted_things),
        _maps("map_invented", "buildings invented on the map", "%", (0.0, 10.0, 25.0, 50.0), with_invented_buildings),
        Factor(
            "gnss",
            "GNSS jumps",
            "m",
            (0.0, 10.0, 20.0, 30.0, 50.0),
            tuple(Condition(prior_off_m=jump_m) for jump_m in (0.0, 10.0, 20.0, 30.0, 50.0)),
        ),
        _odometry("drift", "odometry drifts", "%", (0.0, 2.0, 5.0, 10.0, 20.0), _drift),
        _odometry("gaps", "frames without odometry", "%", (0.0, 25.0, 50.0, 100.0), _gaps),
        Factor(
            "together",
            "together: 1 everyday, 2 hard",
            "",
            (0.0, 1.0, 2.0),
            (Condition(), Condition(_everyday, partial(_with_share, without_things, 10)),
             Condition(_hard, partial(_with_share, without_things, 30))),
        ),
    ]  # fmt: skip
    if other_map is not None:
        conditions = (Condition(), Condition(other_map=other_map))
        rows.append(Factor("other_map", f"map {other_map.name}", "", (0.0, 1.0), conditions))
    return tuple(rows)


def chosen(names: Sequence[str], other_map: Path | None = None) -> tuple[Factor, ...]:
    """The factors of some names; all if there are none.

    Raises:
        DataError: if there is no factor of a name.
    """
    known = {factor.name: factor for factor in factors(other_map)}
    for name in names:
        if name not in known:
            hint = meant(name, known) or f"; there are {', '.join(known)}"
            raise DataError(f"no factor is called {name!r}{hint}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else tuple(known.values())


# -- scans


def _scans(
    name: str,
    title: str,
    unit: str,
    levels: tuple[float, ...],
    change: Callable[[float, Scan, np.random.Generator], Scan],
) -> Factor:
    clear = {"beams": 64.0, "range": math.inf, "rain": math.inf, "snow": math.inf}.get(name, 0.0)
    return Factor(
        name, title, unit, levels,
        tuple(Condition() if level == clear else Condition(partial(change, level)) for level in levels),
    )  # fmt: skip


def _vehicles(count: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return insert_vehicles(scan, int(count), rng)


def _people(count: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return insert_people(scan, int(count), rng)


def _beams(beams: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return fewer_beams(scan, int(beams))


def _range(range_m: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return within_range(scan, range_m)


def _sector(centre_deg: float, width_deg: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return without_sector(scan, math.radians(width_deg), math.radians(centre_deg))


def _weather(back_share: float, visibility_m: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return in_weather(scan, visibility_m, back_share, rng)


def _yaw(yaw_deg: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return turned(scan, math.radians(yaw_deg))


def _height(up_m: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return raised(scan, up_m)


def _pitch(pitch_deg: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return tilted(scan, math.radians(pitch_deg))


def _roll(roll_deg: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return tilted(scan, 0.0, math.radians(roll_deg))


def _speed(speed_m_s: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return smeared(scan, speed_m_s)


def _turn_rate(rate_deg_s: float, scan: Scan, rng: np.random.Generator) -> Scan:
    return smeared(scan, 10.0, math.radians(rate_deg_s))


def _everyday(scan: Scan, rng: np.random.Generator) -> Scan:
    """Traffic, people, a mount that is a degree off."""
    return turned(insert_people(insert_vehicles(scan, 15, rng), 10, rng), math.radians(1.0))


def _hard(scan: Scan, rng: np.random.Generator) -> Scan:
    """Much traffic in the rain, half of the beams, the view to the left blocked, a mount that is two degrees off."""
    crowded = insert_people(insert_vehicles(scan, 40, rng), 20, rng)
    seen = without_sector(fewer_beams(in_weather(crowded, 1000.0, _RAIN_BACK, rng), 32), 0.5 * math.pi, 0.5 * math.pi)
    return turned(seen, math.radians(2.0))


# -- maps


def _maps(name: str, title: str, unit: str, levels: tuple[float, ...], change: ChangeShare) -> Factor:
    return Factor(
        name, title, unit, levels,
        tuple(Condition(map=partial(_with_share, change, level)) if level else Condition() for level in levels),
    )  # fmt: skip


def _with_share(change: ChangeShare, percent: float, osm: OsmMap, rng: np.random.Generator) -> OsmMap:
    return change(osm, 0.01 * percent, rng)


# -- odometry


def _odometry(
    name: str,
    title: str,
    unit: str,
    levels: tuple[float, ...],
    change: Callable[[float, Sequence[SE2 | None], np.random.Generator], list[SE2 | None]],
) -> Factor:
    return Factor(
        name, title, unit, levels,
        tuple(Condition(odometry=partial(change, level) if level else None, sequence=True) for level in levels),
    )  # fmt: skip


def _drift(percent: float, poses: Sequence[SE2 | None], rng: np.random.Generator) -> list[SE2 | None]:
    """Steps that are too long by so many percent and turn by 0.005 degrees a metre for each of them."""
    drifted: list[SE2 | None] = []
    before: tuple[SE2, SE2] | None = None  # as it is, and drifted
    for pose in poses:
        if pose is None:
            drifted.append(None)
            continue
        if before is None:
            now = pose
        else:
            step = before[0].inverse() @ pose
            scale = 1.0 + _SCALE_PER_PERCENT * percent
            turn_rad = _YAW_PER_PERCENT_RAD * percent * math.hypot(step.x_m, step.y_m)
            now = before[1] @ SE2(scale * step.x_m, scale * step.y_m, step.yaw_rad + turn_rad)
        before = pose, now
        drifted.append(now)
    return drifted


def _gaps(percent: float, poses: Sequence[SE2 | None], rng: np.random.Generator) -> list[SE2 | None]:
    """Without odometry in so many percent of the frames, at random."""
    missing = rng.random(len(poses)) < 0.01 * percent
    return [None if gone else pose for pose, gone in zip(poses, missing.tolist(), strict=True)]
