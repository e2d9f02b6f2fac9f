"""Mechanisms side by side: means over seeds and their spread, as Markdown, CSV and a picture."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from bevfusion.drawing import MAP, new_figure, save_figure
from bevfusion.files import atomic_file, write_text
from bevfusion.tables import markdown_table

# Columns of the Markdown table: key of the values, heading, digits. `{slot}` is the slot that the row is about.
COLUMNS = (
    ("position_1m", "position @1 m (%)", 1),
    ("position_3m", "@3 m (%)", 1),
    ("longitudinal_1m", "along the road @1 m (%)", 1),
    ("heading_1deg", "heading @1 deg (%)", 1),
    ("heading_3deg", "@3 deg (%)", 1),
    ("thinned_longitudinal_1m", "half the roadside away: along the road @1 m (%)", 1),
    ("thinned_heading_1deg", "heading @1 deg (%)", 1),
    ("shift_heading_median_deg", "heading shift by vehicles, median (deg)", 2),
    ("shift_heading_p95_deg", "p95 (deg)", 2),
    ("{slot}_roadside_lift", "attention on roadside (x its cells)", 2),
    ("{slot}_vehicles_lift", "on vehicles (x)", 2),
    ("saliency_roadside_lift", "saliency of roadside (x)", 2),
    ("saliency_vehicles_lift", "of vehicles (x)", 2),
    ("{slot}_parameters", "parameters in the slot", 0),
    ("latency_ms", "latency (ms)", 1),
)
# The same of recorded drives, where there are any.
LOGGED = (
    ("logged_shift_removed_heading_median_deg", "logged: heading shift without its vehicles, median (deg)", 2),
    ("logged_shift_removed_heading_p95_deg", "p95 (deg)", 2),
    ("logged_shift_heading_median_deg", "with more vehicles, median (deg)", 2),
    ("logged_shift_heading_p95_deg", "p95 (deg)", 2),
    ("logged_saliency_roadside_lift", "saliency of roadside (x)", 2),
    ("logged_saliency_vehicles_lift", "of vehicles (x)", 2),
)
# What a mechanism brings over `none` in its slot: key, heading.
GAINS = (
    ("longitudinal_1m", "along the road @1 m (%)"),
    ("heading_1deg", "heading @1 deg (%)"),
    ("thinned_longitudinal_1m", "half the roadside away: along the road @1 m (%)"),
    ("thinned_heading_1deg", "heading @1 deg (%)"),
    ("shift_heading_median_deg", "heading shift by vehicles, median (deg)"),
)
# Student's t at 97.5 % by degrees of freedom, from 1 on; the last for all that are more.
_T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
# Panels of the picture: key, title.
PANELS = (
    ("position_1m", "position @1 m (%)"),
    ("heading_1deg", "heading @1 deg (%)"),
    ("shift_heading_p95_deg", "heading shift by vehicles,\n95th percentile (deg)"),
    ("saliency_roadside_lift", "saliency of roadside\n(x its share of cells)"),
    ("saliency_vehicles_lift", "saliency of vehicles\n(x their share of cells)"),
)
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One mechanism in one slot."""

    slot: str
    name: str
    runs: int
    mean: Values
    spread: Values  # sample standard deviation over the runs; NaN for a single one
    gain: Mapping[str, tuple[float, float]]  # of `GAINS`, over the runs without: mean and half its 95 % interval


def row_of(slot: str, name: str, runs: Sequence[Values], without: Sequence[tuple[Values, Values]] = ()) -> AblationRow:
    """The row of a mechanism; what a run does not know is left out of the mean.

    Args:
        slot: where it is.
        name: of the mechanism.
        runs: at least one.
        without: pairs of a run and the one of the same seed with nothing in the slot.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run))
    known = {key: np.array([run[key] for run in runs if math.isfinite(run.get(key, math.nan))]) for key in keys}
    mean = {key: float(values.mean()) if len(values) else math.nan for key, values in known.items()}
    spread = {key: float(values.std(ddof=1)) if len(values) > 1 else math.nan for key, values in known.items()}
    gains = {
        key: _gain([run.get(key, math.nan) - base.get(key, math.nan) for run, base in without]) for key, _ in GAINS
    }
    return AblationRow(
        slot, name, len(runs), mean, spread, {key: gain for key, gain in gains.items() if gain is not None}
    )


def _gain(differences: Sequence[float]) -> tuple[float, float] | None:
    """Mean and half of the 95 % interval by Student's t over the seeds; None of fewer than two."""
    known = np.array([difference for difference in differences if math.isfinite(difference)])
    if len(known) < 2:
        return None
    quantile = _T_975[min(len(known) - 1, len(_T_975)) - 1]
    return float(known.mean()), float(quantile * known.std(ddof=1) / math.sqrt(len(known)))


def write_tables(folder: Path, rows: Sequence[AblationRow], failed: Mapping[str, str], about: str) -> None:
    """Write ablation.md, ablation.csv and, where there are rows, ablation.png; earlier ones are replaced.

    Args:
        folder: where to; it exists.
        rows: in any order; tables have the best position recall first.
        failed: what could not be run, and why.
        about: what the table says of itself, Markdown.
    """
    ranked = sorted(rows, key=lambda row: (row.slot, -row.mean.get("position_1m", math.nan), row.name))
    write_text(folder / "ablation.md", markdown(ranked, failed, about))
    with atomic_file(folder / "ablation.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        _write_csv(file, ranked)
    if ranked:
        _draw({slot: _points(ranked, slot) for slot in _slots(ranked)}, folder / "ablation.png")


def markdown(rows: Sequence[AblationRow], failed: Mapping[str, str], about: str) -> str:
    """A table for each slot, and what is missing."""
    parts = [about.rstrip(), ""]
    columns = COLUMNS + tuple(column for column in LOGGED if any(column[0] in row.mean for row in rows))
    for slot in _slots(rows):
        titles = ["mechanism", *(heading for _, heading, _ in columns), "seeds"]
        cells = (_cells(row, columns) for row in rows if row.slot == slot)
        parts += [f"### In the {slot} slot", "", *markdown_table(titles, cells), ""]
        parts += _gains(slot, [row for row in rows if row.slot == slot and row.gain])
    if failed:
        parts += ["Not in the table:", "", *(f"- {name}: {reason}" for name, reason in failed.items()), ""]
    return "\n".join(parts)


def _gains(slot: str, rows: Sequence[AblationRow]) -> list[str]:
    """The table of what mechanisms bring; nothing where no row knows."""
    if not rows:
        return []
    titles = ["mechanism", *(heading for _, heading in GAINS), "seeds"]
    lines = (
        [f"`{row.name}`", *(_gained(*row.gain[key]) if key in row.gain else "-" for key, _ in GAINS), str(row.runs)]
        for row in rows
    )
    return [
        f"What it brings over `none` in the {slot} slot, seed by seed: mean and 95 % interval, **bold** where it "
        "leaves out zero.",
        "",
        *markdown_table(titles, lines),
        "",
    ]


def _gained(mean: float, half: float) -> str:
    text = f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
    return f"**{text}**" if abs(mean) > half else text


def _cells(row: AblationRow, columns: Sequence[tuple[str, str, int]]) -> list[str]:
    cells = [f"`{row.name}`"]
    for key, _, digits in columns:
        mean, spread = (values.get(key.format(slot=row.slot), math.nan) for values in (row.mean, row.spread))
        text = f"{mean:,.{digits}f}" if math.isfinite(mean) else "-"
        cells.append(f"{text} ± {spread:.{digits}f}" if math.isfinite(spread) and digits else text)
    return [*cells, str(row.runs)]


def _write_csv(file: TextIO, rows: Sequence[AblationRow]) -> None:
    keys = list(dict.fromkeys(key for row in rows for key in row.mean))
    writer = csv.writer(file)
    writer.writerow(["slot", "mechanism", "runs", *(f"{key}_{kind}" for key in keys for kind in ("mean", "std"))])
    for row in rows:
        numbers = [values.get(key, math.nan) for key in keys for values in (row.mean, row.spread)]
        writer.writerow(
            [
                row.slot,
                row.name,
                row.runs,
                *("" if not math.isfinite(number) else f"{number:.6g}" for number in numbers),
            ]
        )


def _points(rows: Sequence[AblationRow], slot: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Title of a panel -> mechanism -> (mean, spread)."""
    return {
        title: {
            row.name: (row.mean.get(key, math.nan), row.spread.get(key, math.nan)) for row in rows if row.slot == slot
        }
        for key, title in PANELS
    }


def _slots(rows: Sequence[AblationRow]) -> list[str]:
    return list(dict.fromkeys(row.slot for row in rows))


def _draw(slots: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]], path: Path) -> None:
    """Dots with bars of one spread: slot -> title of a panel -> mechanism, best first -> (mean, spread)."""
    panels = max(len(of_slot) for of_slot in slots.values())
    longest = max(len(points) for of_slot in slots.values() for points in of_slot.values())
    height_in = len(slots) * (1.2 + 0.22 * longest)
    figure, axes = new_figure(3.0 * panels, height_in, rows=len(slots), columns=panels)
    for row, (slot, of_slot) in enumerate(slots.items()):
        for column, (title, points) in enumerate(of_slot.items()):
            axis = axes[row * panels + column]
            names = list(points)[::-1]
            means, spreads = np.array([points[name] for name in names]).T
            axis.errorbar(means, range(len(names)), xerr=np.nan_to_num(spreads), fmt="o", color=MAP, markersize=4)
            axis.set_yticks(range(len(names)), names if column == 0 else [""] * len(names))
            axis.set_title(f"{slot}: {title}" if column == 0 else title, fontsize=9)
            axis.grid(alpha=0.3)
    save_figure(figure, path)
