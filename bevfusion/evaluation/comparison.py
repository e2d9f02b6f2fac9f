"""Two evaluation runs compared on the answers that both gave: differences, how far chance could move them, tables.

Intervals come from a paired block bootstrap. Frames that are near each other see the same and err alike, so single ones
must not be drawn as if they were independent: whole stretches of the way are.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.table import Table

from bevfusion import metrics
from bevfusion.drawing import RUN_A, RUN_B, cumulative, new_figure, save_figure
from bevfusion.evaluation.results import ERROR_COLUMNS, POSE_COLUMNS, QUANTITY_KEYS
from bevfusion.files import write_text
from bevfusion.parsing import read_json
from bevfusion.structures import DataError
from bevfusion.tables import escaped, markdown_table, number

BLOCK_M = 100.0  # about twice as far as a scan says much of
LEAST_BLOCKS = 5  # with fewer, an interval would say more than is known: there is none
RESAMPLES = 2000

FILES = ("comparison.md", "comparison.png")  # of `write_comparison`
TITLES = ("", "A", "B", "B - A", "95 % interval", "better")
INTERVALS = (
    f"Intervals: paired bootstrap over {{blocks}} stretches of at least {BLOCK_M:g} m of a drive (a shorter "
    "drive is one). Of twenty figures without any difference, one lies outside its interval by chance."
)
Key = tuple[str, int, int]  # drive, frame, draw
_POSES = POSE_COLUMNS[:6]  # of prior and truth
_SAME = 1e-3  # m or rad: poses in the table are rounded


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """An evaluation as its folder tells it."""

    name: str
    protocol: Mapping[str, Any]
    lost: Mapping[str, int]  # frames without an answer, by drive
    rows: Mapping[Key, Float[np.ndarray, " 9"]]  # prior, truth, `ERROR_COLUMNS`


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """One figure of both runs; the interval is None where there are too few blocks for one."""

    quantity: str
    statistic: str  # "<3" or "median"
    a: float
    b: float
    interval: tuple[float, float] | None  # of b - a, 95 %

    @property
    def difference(self) -> float:
        """How much more run B has than run A."""
        return self.b - self.a

    @property
    def verdict(self) -> str:
        """Which run is better beyond chance: A, B, or neither (empty)."""
        if self.interval is None or self.interval[0] <= 0.0 <= self.interval[1]:
            return ""
        more_is_better = self.statistic != "median"
        return "B" if (self.difference > 0) == more_is_better else "A"


@dataclass(frozen=True, slots=True)
class RunComparison:
    """What came of two runs; the figures of all drives, and of each."""

    name_a: str
    name_b: str
    pairs: int
    frames: int
    blocks: int
    figures: Sequence[ComparedFigure]
    per_drive: Mapping[str, Sequence[ComparedFigure]]
    notes: Sequence[str]  # what a reader must know before believing the figures
    errors_a: Mapping[str, Float[np.ndarray, " n"]]  # by the keys of `QUANTITIES`, absolute
    errors_b: Mapping[str, Float[np.ndarray, " n"]]


def read_run(folder: Path) -> EvaluationRun:
    """The run in a folder of `evaluate`.

    Raises:
        DataError: if a file is missing or is not what `evaluate` writes.
    """
    report, table = folder / "metrics.json", folder / "predictions.csv"
    for path in (report, table):
        if not path.is_file():
            raise DataError(f"{path}: expected a folder that evaluate has written, this file is missing")
    try:
        content = read_json(report)
        protocol = dict(content["protocol"])
        lost = {str(drive): int(count) for drive, count in content.get("lost", {}).items()}
        with table.open(newline="", encoding="utf-8") as file:
            rows = _read_rows(csv.DictReader(file))
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{folder}: metrics.json or predictions.csv is not what evaluate writes ({error})") from error
    return EvaluationRun(folder.resolve().name, protocol, lost, rows)


def compare_runs(a: EvaluationRun, b: EvaluationRun, *, resamples: int = RESAMPLES, seed: int = 0) -> RunComparison:
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
    block = blocks(names, np.array([frame for _, frame, _ in keys]), rows_a[:, 3:5])
    errors_a, errors_b = _errors(rows_a), _errors(rows_b)
    drives = list(dict.fromkeys(names))
    of_drive = {drive: np.array([name == drive for name in names]) for drive in drives}
    number = int(block.max()) + 1
    return RunComparison(
        name_a=a.name,
        name_b=b.name,
        pairs=len(keys),
        frames=len({key[:2] for key in keys}),
        blocks=number,
        figures=compared_figures(errors_a, errors_b, block, resamples, seed),
        per_drive={
            drive: compared_figures(_some(errors_a, mine), _some(errors_b, mine), block[mine], resamples, seed)
            for drive, mine in of_drive.items()
        },
        notes=_notes(a, b, rows_a, rows_b, number),
        errors_a=errors_a,
        errors_b=errors_b,
    )


def compared_figures(
    errors_a: Mapping[str, Float[np.ndarray, " n"]],
    errors_b: Mapping[str, Float[np.ndarray, " n"]],
    block: np.ndarray,
    resamples: int,
    seed: int,
) -> list[ComparedFigure]:
    """Recalls and median of every quantity, with the intervals of their differences.

    Args:
        errors_a: absolute errors by quantity, of the same n answers as `errors_b`.
        errors_b: see there.
        block: of each answer; numbers may have gaps.
        resamples: draws of the
        seed: of these draws.
    """
    different, block = np.unique(block, return_inverse=True)
    block = block.reshape(-1)
    enough = len(different) >= LEAST_BLOCKS
    counts = drawn_counts(len(different), resamples if enough else 0, seed)
    figures = []
    for quantity, a in errors_a.items():
        b = errors_b[quantity]
        for threshold, key in ((t, metrics.threshold_key(t)) for t in metrics.THRESHOLDS):
            drawn = recall_differences(a < threshold, b < threshold, block, counts)
            recall_a, recall_b = (metrics.recalls(errors, (threshold,))[key] for errors in (a, b))
            figures.append(ComparedFigure(quantity, f"<{key}", recall_a, recall_b, _interval(drawn)))
        medians = float(np.median(a)), float(np.median(b))
        drawn = median_differences(a, b, block, counts)
        figures.append(ComparedFigure(quantity, "median", *medians, _interval(drawn)))
    return figures


def _interval(differences: np.ndarray) -> tuple[float, float] | None:
    return interval_95(differences) if len(differences) else None


def _read_rows(reader: "csv.DictReader[str]") -> dict[Key, np.ndarray]:
    """The rows of predictions.csv.

    Raises:
        KeyError: if a column is missing.
        ValueError: if a value is no finite number, or a row is there twice.
    """
    rows: dict[Key, np.ndarray] = {}
    for line in reader:
        key = line["drive"], int(line["frame"]), int(line["draw"])
        values = np.array([float(line[name]) for name in (*_POSES, *ERROR_COLUMNS)])
        if not np.isfinite(values).all() or key in rows:
            raise ValueError(f"{key[0]}, frame {key[1]}, draw {key[2]}: not finite, or there twice")
        rows[key] = values
    return rows


def _errors(rows: Float[np.ndarray, "n 9"]) -> dict[str, np.ndarray]:
    lateral_m, longitudinal_m, heading_deg = np.abs(rows[:, len(_POSES) :]).T
    values = (lateral_m, longitudinal_m, np.hypot(lateral_m, longitudinal_m), heading_deg)
    return dict(zip(QUANTITY_KEYS, values, strict=True))


def _some(errors: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {quantity: values[chosen] for quantity, values in errors.items()}


def _drives(run: EvaluationRun) -> str:
    names = sorted({drive for drive, _, _ in run.rows})
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "no answers"


def _notes(a: EvaluationRun, b: EvaluationRun, rows_a: np.ndarray, rows_b: np.ndarray, number: int) -> list[str]:
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
    if number < LEAST_BLOCKS:
        notes.append(
            f"No intervals: the way makes {number} block{'s' if number > 1 else ''} of {BLOCK_M:g} m, and "
            f"fewer than {LEAST_BLOCKS} say too little about chance."
        )
    elif number < 4 * LEAST_BLOCKS:
        notes.append(f"The intervals rest on {number} blocks only and are rough, rather too narrow than too wide.")
    return notes


# the bootstrap


def blocks(
    drives: Sequence[str],
    frames: Int[np.ndarray, " n"],
    places_m: Float[np.ndarray, "n 2"],
    length_m: float = BLOCK_M,
) -> Int[np.ndarray, " n"]:
    """The block of each of n answers, numbered from 0.

    A block is a stretch of one drive, with all draws of its frames. A drive is cut into as many equally long ones as
    are no shorter than `length_m`; a shorter drive is one block. A jump counts as `length_m`, however far it goes.

    Args:
        drives: drive of each answer.
        frames: number of its frame.
        places_m: where that was, (x, y).
        length_m: of the shortest stretch.
    """
    names = np.asarray(drives)
    block = np.zeros(len(names), dtype=np.int64)
    begun = 0
    for drive in dict.fromkeys(drives):
        mine = names == drive
        _, first, rank = np.unique(frames[mine], return_index=True, return_inverse=True)
        steps_m = np.minimum(np.hypot(*np.diff(places_m[mine][first], axis=0).T), length_m)
        driven_m = np.concatenate([[0.0], np.cumsum(steps_m)])
        own_m = float(steps_m.mean()) if len(steps_m) else 0.0  # the last frame stands for a step, too
        whole_m = float(driven_m[-1]) + own_m
        pieces = max(1, int(whole_m // length_m))
        stretch = np.floor(driven_m * pieces / max(whole_m, 1e-9)).astype(np.int64)
        stretch = np.unique(stretch, return_inverse=True)[1].reshape(-1)  # a jump may leave one empty
        block[mine] = begun + stretch[rank.reshape(-1)]
        begun = int(block.max()) + 1
    return block


def drawn_counts(number: int, resamples: int, seed: int) -> Int[np.ndarray, "r k"]:
    """How often each of `number` blocks is drawn, in each of `resamples` draws of as many with replacement."""
    counts: np.ndarray = np.random.default_rng(seed).multinomial(number, np.full(number, 1.0 / number), size=resamples)
    return counts


def recall_differences(
    hit_a: Bool[np.ndarray, " n"],
    hit_b: Bool[np.ndarray, " n"],
    block: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "r k"],
) -> Float[np.ndarray, " r"]:
    """Recall of B less that of A in percent, in each resample."""
    number = counts.shape[1]
    gained = np.bincount(block, weights=hit_b.astype(float) - hit_a.astype(float), minlength=number)
    sizes = np.bincount(block, minlength=number)
    difference: np.ndarray = 100.0 * (counts @ gained) / (counts @ sizes)
    return difference


def median_differences(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    block: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "r k"],
) -> Float[np.ndarray, " r"]:
    """Median of B less median of A, in each resample."""
    difference: np.ndarray = _medians(b, block, counts) - _medians(a, block, counts)
    return difference


def interval_95(differences: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """The middle 95 % of resampled differences."""
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def _medians(
    values: Float[np.ndarray, " n"], block: Int[np.ndarray, " n"], counts: Int[np.ndarray, "r k"]
) -> Float[np.ndarray, " r"]:
    """Median of the values when every block is repeated as often as it was drawn: sorted once, not every time."""
    order = np.argsort(values)
    ordered, of_block = values[order], block[order]
    medians = np.empty(len(counts))
    for i, drawn in enumerate(counts):
        upto = np.cumsum(drawn[of_block])
        total = int(upto[-1])
        low, high = np.searchsorted(upto, ((total - 1) // 2, total // 2), side="right")
        medians[i] = 0.5 * (ordered[low] + ordered[high])
    return medians


# for people: on the terminal, as Markdown, as a picture


def cells(figure: ComparedFigure) -> tuple[str, ...]:
    """A figure as text: name, A, B, difference, interval, verdict."""
    digits = 2 if figure.statistic == "median" else 1
    text = partial(number, digits=digits, unknown="-")
    quantity, _, unit = figure.quantity.rpartition("_")
    share = f"{quantity} {figure.statistic} {unit} (%)"
    shown = f"{quantity} median ({unit})" if figure.statistic == "median" else share
    interval = "-" if figure.interval is None else " to ".join(text(end, sign=True) for end in figure.interval)
    values = text(figure.a), text(figure.b), text(figure.difference, sign=True)
    return shown, *values, interval, figure.verdict


def about(comparison: RunComparison) -> list[str]:
    """What the table is made of, in sentences."""
    return [
        f"A is {comparison.name_a}, B is {comparison.name_b}: {comparison.pairs} answers to {comparison.frames} frames "
        "that both runs gave.",
        *([INTERVALS.format(blocks=comparison.blocks)] if comparison.figures[0].interval is not None else []),
        *comparison.notes,
    ]


def rich_table(comparison: RunComparison) -> Table:
    """The figures of all drives as a table for the terminal."""
    table = Table(title=f"A: {comparison.name_a}    B: {comparison.name_b}")
    for title in TITLES:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for figure in comparison.figures:
        table.add_row(*cells(figure), end_section=figure.statistic == "median")
    return table


def markdown(comparison: RunComparison) -> str:
    """For a file: what it is, the table, and one more for each drive where there are several."""
    parts = [f"# {escaped(comparison.name_a)} and {escaped(comparison.name_b)}", ""]
    parts += [f"- {escaped(sentence)}" for sentence in about(comparison)]
    parts += ["", *_table(comparison.figures)]
    if len(comparison.per_drive) > 1:
        for drive, figures in comparison.per_drive.items():
            parts += ["", f"## {escaped(drive)}", "", *_table(figures)]
    return "\n".join(parts) + "\n"


def write_comparison(folder: Path, comparison: RunComparison) -> None:
    """Write comparison.md and comparison.png into a folder, made if missing; earlier ones are replaced."""
    table, curves = FILES
    write_text(folder / table, markdown(comparison))
    save_figure(picture(comparison), folder / curves)


def picture(comparison: RunComparison) -> Any:
    """Above the error curves of both runs, below the differences of recalls and of medians with their intervals."""
    figure, axes = new_figure(14.0, 8.0, rows=2, columns=len(comparison.errors_a))
    columns = len(comparison.errors_a)
    for axis, below, quantity in zip(axes[:columns], axes[columns:], comparison.errors_a, strict=True):
        runs = (
            ("A", comparison.errors_a, RUN_A, comparison.name_a),
            ("B", comparison.errors_b, RUN_B, comparison.name_b),
        )
        for letter, errors, colour, name in runs:
            cumulative(axis, errors[quantity], f"{letter}: {name}", colour)
        axis.set_xlim(0.0, 10.0)
        title, _, unit = quantity.rpartition("_")
        axis.set_xlabel(f"{title} error ({unit})")
        _differences(below, [one for one in comparison.figures if one.quantity == quantity])
        below.set_xlabel("recall, B - A (percentage points)")
    axes[0].set_ylabel("answers within (%)")
    axes[columns - 1].legend(loc="lower right", fontsize=8)
    return figure


def _differences(axis: Any, figures: Sequence[ComparedFigure]) -> None:
    """Dots with bars of the recalls; the median has another unit and is told in the title."""
    recalls = [one for one in figures if one.statistic != "median"]
    (median,) = (one for one in figures if one.statistic == "median")
    axis.axvline(0.0, color="0.4", linewidth=0.8)
    for height, one in enumerate(reversed(recalls)):
        if one.interval is not None:
            axis.plot(one.interval, (height, height), "-", color="black", linewidth=2)
        colour = {"A": RUN_A, "B": RUN_B, "": "0.3"}[one.verdict]
        axis.plot(one.difference, height, "o", color=colour, markersize=8)
    reach = max(5.0, *(abs(end) for end in axis.get_xlim()))  # nothing looks large that is not
    axis.set_xlim(-reach, reach)
    axis.set_yticks(range(len(recalls)), [one.statistic for one in reversed(recalls)])
    axis.set_ylim(-0.6, len(recalls) - 0.4)
    _, _, _, difference, interval, _ = cells(median)
    axis.set_title(f"median, B - A: {difference}" + ("" if interval == "-" else f" ({interval})"), fontsize=10)
    axis.grid(alpha=0.3)


def _table(figures: Sequence[ComparedFigure]) -> list[str]:
    return markdown_table(TITLES, ([escaped(cell) for cell in cells(one)] for one in figures), align="---:")
