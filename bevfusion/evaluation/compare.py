"""Two evaluation runs side by side, on the answers that both gave."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion import metrics
from bevfusion.evaluation import bootstrap
from bevfusion.structures import DataError

QUANTITIES = ("lateral_m", "longitudinal_m", "position_m", "heading_deg")
Key = tuple[str, int, int]  # drive, frame, draw
_POSES = ("prior_x_m", "prior_y_m", "prior_yaw_rad", "truth_x_m", "truth_y_m", "truth_yaw_rad")
_ERRORS = ("lateral_m", "longitudinal_m", "heading_deg")
_SAME = 1e-3  # m or rad: poses in the table are rounded


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation as its folder tells it."""

    name: str
    protocol: Mapping[str, Any]
    lost: Mapping[str, int]  # frames without an answer, by drive
    rows: Mapping[Key, Float[np.ndarray, " 9"]]  # `_POSES`, then `_ERRORS`


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both runs; the interval is None where there are too few blocks for one."""

    quantity: str
    statistic: str  # "<3" or "median"
    a: float
    b: float
    interval: tuple[float, float] | None  # of b - a, 95 %

    @property
    def difference(self) -> float:
        """B less A."""
        return self.b - self.a

    @property
    def verdict(self) -> str:
        """Which run is better beyond chance: A, B, or neither (empty)."""
        if self.interval is None or self.interval[0] <= 0.0 <= self.interval[1]:
            return ""
        more_is_better = self.statistic != "median"
        return "B" if (self.difference > 0) == more_is_better else "A"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of two runs; the lines of all drives, and of each."""

    name_a: str
    name_b: str
    pairs: int
    frames: int
    blocks: int
    lines: Sequence[Line]
    per_drive: Mapping[str, Sequence[Line]]
    notes: Sequence[str]  # what a reader must know before believing the lines
    errors_a: Mapping[str, Float[np.ndarray, " n"]]  # by `QUANTITIES`, absolute
    errors_b: Mapping[str, Float[np.ndarray, " n"]]


def read_run(folder: Path) -> Run:
    """The run in a folder of `evaluate`.

    Raises:
        DataError: if a file is missing or is not what `evaluate` writes.
    """
    report, table = folder / "metrics.json", folder / "predictions.csv"
    for path in (report, table):
        if not path.is_file():
            raise DataError(f"{path}: expected a folder that evaluate has written, this file is missing")
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        protocol = dict(content["protocol"])
        lost = {str(drive): int(count) for drive, count in content.get("lost", {}).items()}
        with table.open(newline="", encoding="utf-8") as file:
            rows = _read_rows(csv.DictReader(file))
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{folder}: metrics.json or predictions.csv is not what evaluate writes ({error})") from error
    return Run(folder.resolve().name, protocol, lost, rows)


def compare(a: Run, b: Run, *, resamples: int = bootstrap.RESAMPLES, seed: int = 0) -> Comparison:
    """Set two runs side by side on the answers (drive, frame, draw) that both have.

    Raises:
        DataError: if there are none.
    """
    keys = sorted(a.rows.keys() & b.rows.keys())
    if not keys:
        raise DataError(
            f"runs {a.name} and {b.name} share no frames: {a.name} has {_drives(a)}, {b.name} has {_drives(b)}"
        )
    rows_a, rows_b = (np.array([run.rows[key] for key in keys]) for run in (a, b))
    names = [drive for drive, _, _ in keys]
    block = bootstrap.blocks(names, np.array([frame for _, frame, _ in keys]), rows_a[:, 3:5])
    errors_a, errors_b = _errors(rows_a), _errors(rows_b)
    drives = list(dict.fromkeys(names))
    of_drive = {drive: np.array([name == drive for name in names]) for drive in drives}
    number = int(block.max()) + 1
    return Comparison(
        name_a=a.name,
        name_b=b.name,
        pairs=len(keys),
        frames=len({key[:2] for key in keys}),
        blocks=number,
        lines=compared_lines(errors_a, errors_b, block, resamples, seed),
        per_drive={
            drive: compared_lines(_some(errors_a, mine), _some(errors_b, mine), block[mine], resamples, seed)
            for drive, mine in of_drive.items()
        },
        notes=_notes(a, b, rows_a, rows_b, number),
        errors_a=errors_a,
        errors_b=errors_b,
    )


def compared_lines(
    errors_a: Mapping[str, Float[np.ndarray, " n"]],
    errors_b: Mapping[str, Float[np.ndarray, " n"]],
    block: np.ndarray,
    resamples: int,
    seed: int,
) -> list[Line]:
    """Recalls and median of every quantity, with the intervals of their differences.

    Args:
        errors_a: absolute errors by quantity, of the same n answers as `errors_b`.
        errors_b: see there.
        block: of each answer; numbers may have gaps.
        resamples: draws of the bootstrap.
        seed: of these draws.
    """
    different, block = np.unique(block, return_inverse=True)
    block = block.reshape(-1)
    enough = len(different) >= bootstrap.LEAST_BLOCKS
    counts = bootstrap.drawn_counts(len(different), resamples if enough else 0, seed)
    lines = []
    for quantity, a in errors_a.items():
        b = errors_b[quantity]
        for threshold, key in ((t, metrics.threshold_key(t)) for t in metrics.THRESHOLDS):
            drawn = bootstrap.recall_differences(a < threshold, b < threshold, block, counts)
            recall_a, recall_b = (metrics.recalls(errors, (threshold,))[key] for errors in (a, b))
            lines.append(Line(quantity, f"<{key}", recall_a, recall_b, _interval(drawn)))
        medians = float(np.median(a)), float(np.median(b))
        drawn = bootstrap.median_differences(a, b, block, counts)
        lines.append(Line(quantity, "median", *medians, _interval(drawn)))
    return lines


def _interval(differences: np.ndarray) -> tuple[float, float] | None:
    return bootstrap.interval_95(differences) if len(differences) else None


def _read_rows(reader: "csv.DictReader[str]") -> dict[Key, np.ndarray]:
    """The rows of predictions.csv.

    Raises:
        KeyError: if a column is missing.
        ValueError: if a value is no finite number, or a row is there twice.
    """
    rows: dict[Key, np.ndarray] = {}
    for line in reader:
        key = line["drive"], int(line["frame"]), int(line["draw"])
        values = np.array([float(line[name]) for name in (*_POSES, *_ERRORS)])
        if not np.isfinite(values).all() or key in rows:
            raise ValueError(f"{key[0]}, frame {key[1]}, draw {key[2]}: not finite, or there twice")
        rows[key] = values
    return rows


def _errors(rows: Float[np.ndarray, "n 9"]) -> dict[str, np.ndarray]:
    lateral_m, longitudinal_m, heading_deg = np.abs(rows[:, len(_POSES) :]).T
    values = (lateral_m, longitudinal_m, np.hypot(lateral_m, longitudinal_m), heading_deg)
    return dict(zip(QUANTITIES, values, strict=True))


def _some(errors: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {quantity: values[chosen] for quantity, values in errors.items()}


def _drives(run: Run) -> str:
    names = sorted({drive for drive, _, _ in run.rows})
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "no answers"


def _notes(a: Run, b: Run, rows_a: np.ndarray, rows_b: np.ndarray, number: int) -> list[str]:
    """Everything that makes the two runs less than comparable."""
    notes = []
    for run, other, letter in ((a, b, "A"), (b, a, "B")):
        alone = len(run.rows.keys() - other.rows.keys())
        if alone:
            notes.append(f"{alone} answers of {letter} have no partner in the other run and do not count here.")
        lost = sum(run.lost.values())
        if lost:
            notes.append(f"{letter} gave no answer in {lost} frames (lost): they do not count here.")
    mine, theirs = a.protocol, b.protocol
    for key in dict.fromkeys((*mine, *theirs)):
        if mine.get(key) != theirs.get(key):
            notes.append(f"The protocols differ in {key}: {mine.get(key)} in A, {theirs.get(key)} in B.")
    for name, columns in (("true poses", slice(3, 6)), ("priors", slice(0, 3))):
        apart = rows_a[:, columns] - rows_b[:, columns]
        apart[:, 2] = metrics.wrap_angles(apart[:, 2])
        differing = int((np.abs(apart) > _SAME).any(axis=1).sum())
        if differing:
            notes.append(f"The {name} differ in {differing} of {len(apart)} pairs (another map, or another start).")
    if number < bootstrap.LEAST_BLOCKS:
        notes.append(
            f"No intervals: the way makes {number} block{'s' if number > 1 else ''} of {bootstrap.BLOCK_M:g} m, and "
            f"fewer than {bootstrap.LEAST_BLOCKS} say too little about chance."
        )
    elif number < 4 * bootstrap.LEAST_BLOCKS:
        notes.append(f"The intervals rest on {number} blocks only and are rough, rather too narrow than too wide.")
    return notes


def finite(value: float, digits: int, sign: str = "") -> str:
    """A number for tables."""
    return f"{value:{sign}.{digits}f}" if math.isfinite(value) else "-"
