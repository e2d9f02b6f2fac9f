"""The result of one drive as a file, so that a run that was interrupted goes on where it was.

One .npz a drive: numbers as arrays, words as JSON, with a digest; nothing in it is executed when it is read.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.array_files import from_npz, to_npz
from bevfusion.evaluation.results import BeliefMarginals, DriveResult, ScoredEstimate, TrafficShift
from bevfusion.files import atomic_file
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.parsing import parse_json
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

FORMAT = 7
_WORDS = ("drive", "odometry", "done", "not_covered", "without_truth", "unreadable", "lost", "box_deg", "failed")
_WHOLE = ("frame_index", "frame", "stamp_ns", "draw", "map_index")
_REAL = ("confidence", "runtime_ms", "credible_mass", "nll")
_POSES = ("prior", "truth", "estimate")
_CLASSICAL = "classical_"  # begins the names of the training-free matcher's columns


def encode(result: DriveResult) -> bytes:
    """A result as the bytes of an .npz file."""
    arrays = {**_columns(result.estimates, ""), **_columns(result.classical, _CLASSICAL)}
    worst = []
    for number, (frame_index, draw, badness, marginals) in enumerate(result.worst.items()):
        window, centre = marginals.window, marginals.centre
        worst.append(
            {
                "frame_index": frame_index,
                "draw": draw,
                "badness": badness,
                "centre": [centre.x_m, centre.y_m, centre.yaw_rad],
                "window": dataclasses.asdict(window),
                "attention": list(marginals.attention),
                "attention_half_m": marginals.attention_half_m,
            }
        )
        arrays |= {f"worst{number}_place": marginals.place, f"worst{number}_heading": marginals.heading}
        arrays |= {f"worst{number}_attention_{slot}": weight for slot, weight in marginals.attention.items()}
    words = {name: getattr(result, name) for name in _WORDS}
    words |= {"format": FORMAT, "worst": worst, "traffic": [dataclasses.asdict(shift) for shift in result.traffic]}
    return to_npz({"words": np.array(json.dumps(words)), **arrays})


def decode(data: bytes, drive_index: int) -> DriveResult:
    """The inverse of `encode`.

    Args:
        data: what it gave.
        drive_index: the drive's place among all, in this run.

    Raises:
        ValueError: if it is not that.
    """
    try:
        stored = from_npz(data)
        words = parse_json(str(stored["words"]), "its words")
        if words["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {words['format']}")
        words["box_deg"] = None if words["box_deg"] is None else tuple(words["box_deg"])
        result = DriveResult(**{name: words[name] for name in _WORDS})
        result.estimates = _estimates(stored, "", result.drive, drive_index)
        result.classical = _estimates(stored, _CLASSICAL, result.drive, drive_index)
        result.traffic = [_shift(shift) for shift in words["traffic"]]
        for number, item in enumerate(words["worst"]):
            attention = {slot: stored[f"worst{number}_attention_{slot}"] for slot in item["attention"]}
            place, heading = stored[f"worst{number}_place"], stored[f"worst{number}_heading"]
            window, centre = PoseWindow(**item["window"]), SE2(*(float(value) for value in item["centre"]))
            marginals = BeliefMarginals(centre, window, place, heading, attention, item["attention_half_m"])
            result.worst.restore((drive_index, item["frame_index"]), item["draw"], item["badness"], marginals)
    except (KeyError, IndexError, TypeError, DataError) as error:  # damaged, or written whole, but not by this
        raise ValueError(f"not a cached result: {error}") from error
    return result


def _shift(words: Mapping[str, Any]) -> TrafficShift:
    """JSON makes lists of tuples."""
    poses = {key: None if words[key] is None else tuple(words[key]) for key in ("before", "after")}
    return TrafficShift(**{**words, **poses})


def _columns(estimates: Sequence[ScoredEstimate], prefix: str) -> dict[str, Any]:
    """An array for each field."""
    columns: dict[str, Any] = {name: np.array([getattr(e, name) for e in estimates], np.int64) for name in _WHOLE}
    for name in _REAL:  # None becomes NaN; a real NaN does not occur
        columns[name] = np.array([np.nan if getattr(e, name) is None else getattr(e, name) for e in estimates])
    for name in _POSES:
        poses = [getattr(e, name) for e in estimates]
        columns[name] = np.array([(q.x_m, q.y_m, q.yaw_rad) for q in poses], np.float64).reshape(-1, 3)
    columns["covariance"] = np.array([e.covariance for e in estimates], np.float64).reshape(-1, 3, 3)
    columns["map_name"] = np.array([e.map_name for e in estimates], np.str_)
    return {prefix + name: column for name, column in columns.items()}


def _estimates(stored: Mapping[str, Any], prefix: str, drive: str, drive_index: int) -> list[ScoredEstimate]:
    """The inverse of `_columns`."""
    names = (*_WHOLE, *_REAL, *_POSES, "covariance", "map_name")
    columns = {name: stored[prefix + name] for name in names}
    estimates = []
    for i in range(len(columns["frame"])):
        values: dict[str, Any] = {name: int(columns[name][i]) for name in _WHOLE}
        values |= {name: _known(float(columns[name][i])) for name in _REAL}
        values |= {name: SE2(*(float(v) for v in columns[name][i])) for name in _POSES}
        values |= {"map_name": str(columns["map_name"][i]), "covariance": columns["covariance"][i]}
        estimates.append(ScoredEstimate(drive_index=drive_index, drive=drive, **values))
    return estimates


def save(path: Path, result: DriveResult) -> None:
    """Write a result; an interrupted run leaves no half a file."""
    with atomic_file(path) as draft:
        draft.write_bytes(encode(result))


def load(path: Path, drive_index: int) -> DriveResult | None:
    """The result in a file; None if there is none, or it is not one of this version (a warning says so)."""
    if not path.is_file():
        return None
    try:
        return decode(path.read_bytes(), drive_index)
    except ValueError as error:
        log.warning("%s: %s: evaluated anew", path, error)
        return None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
