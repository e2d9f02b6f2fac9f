"""What came of one drive as a file, so that a run that was interrupted goes on where it was.

One .npz a drive: numbers as arrays, words as JSON; nothing in it is executed when it is read.
"""

import dataclasses
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.evaluation.marginals import Marginals
from bevfusion.evaluation.predictions import Prediction
from bevfusion.evaluation.scoring import Answers
from bevfusion.evaluation.traffic import Shift
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2

FORMAT = 3
_WORDS = ("drive", "odometry", "not_covered", "without_truth", "lost", "box_deg", "failed")
_WHOLE = ("position", "frame", "stamp_ns", "draw", "map_index")
_REAL = ("confidence", "runtime_ms", "credible_mass", "nll")
_POSES = ("prior", "truth", "estimate")
_CLASSICAL = "classical_"  # begins the names of the training-free matcher's columns


def to_bytes(answers: Answers) -> bytes:
    """The whole of it."""
    arrays = {**_columns(answers.predictions, ""), **_columns(answers.classical, _CLASSICAL)}
    worst = []
    for number, (position, draw, distance_m, marginals) in enumerate(answers.worst.items()):
        window, centre = marginals.window, marginals.centre
        worst.append(
            {
                "position": position,
                "draw": draw,
                "distance_m": distance_m,
                "centre": [centre.x_m, centre.y_m, centre.yaw_rad],
                "window": dataclasses.asdict(window),
                "attention": list(marginals.attention),
                "attention_half_m": marginals.attention_half_m,
            }
        )
        arrays |= {f"worst{number}_place": marginals.place, f"worst{number}_heading": marginals.heading}
        arrays |= {f"worst{number}_attention_{slot}": weight for slot, weight in marginals.attention.items()}
    words = {name: getattr(answers, name) for name in _WORDS}
    words |= {"format": FORMAT, "worst": worst, "traffic": [dataclasses.asdict(shift) for shift in answers.traffic]}
    with io.BytesIO() as file:
        np.savez_compressed(file, words=np.array(json.dumps(words)), **arrays)
        return file.getvalue()


def from_bytes(data: bytes, drive_index: int) -> Answers:
    """The inverse of `to_bytes`.

    Args:
        data: what it gave.
        drive_index: the drive's place among all, in this run.

    Raises:
        ValueError: if it is not that.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            words = json.loads(str(kept["words"]))
            if words["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {words['format']}")
            words["box_deg"] = None if words["box_deg"] is None else tuple(words["box_deg"])
            answers = Answers(**{name: words[name] for name in _WORDS})
            answers.predictions = _predictions(kept, "", answers.drive, drive_index)
            answers.classical = _predictions(kept, _CLASSICAL, answers.drive, drive_index)
            answers.traffic = [Shift(**shift) for shift in words["traffic"]]
            for number, item in enumerate(words["worst"]):
                attention = {slot: kept[f"worst{number}_attention_{slot}"] for slot in item["attention"]}
                place, heading = kept[f"worst{number}_place"], kept[f"worst{number}_heading"]
                window, centre = PoseWindow(**item["window"]), SE2(*item["centre"])
                marginals = Marginals(centre, window, place, heading, attention, item["attention_half_m"])
                answers.worst.keep((drive_index, item["position"]), item["draw"], item["distance_m"], marginals)
    except (OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"not a kept drive: {error}") from error
    return answers


def _columns(predictions: Sequence[Prediction], prefix: str) -> dict[str, Any]:
    """An array for each field."""
    columns: dict[str, Any] = {name: np.array([getattr(p, name) for p in predictions], np.int64) for name in _WHOLE}
    for name in _REAL:  # None becomes NaN; a real NaN does not occur
        columns[name] = np.array([np.nan if getattr(p, name) is None else getattr(p, name) for p in predictions])
    for name in _POSES:
        poses = [getattr(p, name) for p in predictions]
        columns[name] = np.array([(q.x_m, q.y_m, q.yaw_rad) for q in poses], np.float64).reshape(-1, 3)
    columns["covariance"] = np.array([p.covariance for p in predictions], np.float64).reshape(-1, 3, 3)
    columns["map_name"] = np.array([p.map_name for p in predictions], np.str_)
    return {prefix + name: column for name, column in columns.items()}


def _predictions(kept: Mapping[str, Any], prefix: str, drive: str, drive_index: int) -> list[Prediction]:
    """The inverse of `_columns`."""
    names = (*_WHOLE, *_REAL, *_POSES, "covariance", "map_name")
    columns = {name: kept[prefix + name] for name in names}
    predictions = []
    for i in range(len(columns["frame"])):
        values: dict[str, Any] = {name: int(columns[name][i]) for name in _WHOLE}
        values |= {name: _known(float(columns[name][i])) for name in _REAL}
        values |= {name: SE2(*(float(v) for v in columns[name][i])) for name in _POSES}
        values |= {"map_name": str(columns["map_name"][i]), "covariance": columns["covariance"][i]}
        predictions.append(Prediction(drive_index=drive_index, drive=drive, **values))
    return predictions


def save(path: Path, data: bytes) -> None:
    """Write beside, then move: an interrupted run leaves no half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_bytes(data)
    beside.replace(path)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
