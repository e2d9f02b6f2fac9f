"""What a stress test says: stress.json, curves as pictures, and a page that opens without a network."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bevfusion.drawing import ESTIMATE, PRIOR, TRUTH, new_figure, save_figure
from bevfusion.evaluation.report import page_template
from bevfusion.evaluation.stress import RIGHT_DEG, RIGHT_M, SURE, Curve
from bevfusion.files import atomic_folder, write_text
from bevfusion.maps.pictures import ATTRIBUTION
from bevfusion.parsing import read_json
from bevfusion.structures import DataError
from bevfusion.tables import number

Section = dict[str, Any]
_ABOUT = ("drive", "map", "scans", "sequence", "offset_m", "offset_deg", "seed")
_COLOURS = (ESTIMATE, TRUTH, PRIOR, "#2e7d32", "#6a3d9a")
_COLUMNS = (
    ("position_m_median", "position (m)"),
    ("heading_deg_median", "heading (°)"),
    ("direction_deg_median", "direction 16 m ahead (°)"),
)


def section_of(curves: Sequence[Curve], about: Mapping[str, object]) -> Section:
    """Content of stress.json."""
    return dict(about) | {
        "right": {"m": RIGHT_M, "deg": RIGHT_DEG},
        "sure": SURE,
        "factors": {
            curve.factor.name: {
                "title": curve.factor.title,
                "unit": curve.factor.unit,
                "levels": [_without_infinity(point.numbers()) for point in curve.points],
            }
            for curve in curves
        },
    }


def read_section(path: Path) -> Section:
    """The content of a stress.json, to draw beside another one.

    Raises:
        DataError: if it is none.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("factors"), dict) or "checkpoint" not in found:
        raise DataError(f"{path} is no stress.json: it has no factors or no checkpoint")
    return found


def write_stress(folder: Path, section: Section, beside: Sequence[Section] = (), *, plots: bool = True) -> None:
    """Write stress.json, stress.html and, if asked, stress.png and a picture a factor; the folder appears at once.

    Args:
        folder: where to; what was there is replaced.
        section: of this test.
        beside: of others, drawn into the same axes.
        plots: whether to draw.
    """
    sections = [section, *beside]
    with atomic_folder(folder) as staged:
        (staged / "stress.json").write_text(json.dumps(section, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        pictures = {}
        if plots and section["factors"]:
            draw_curves(sections, list(section["factors"]), staged / "stress.png")
            for name in section["factors"]:
                draw_curves(sections, [name], staged / f"{name}.png")
                encoded = base64.b64encode((staged / f"{name}.png").read_bytes()).decode("ascii")
                pictures[name] = f"data:image/png;base64,{encoded}"
        write_text(staged / "stress.html", _page(section, pictures))


def draw_curves(sections: Sequence[Section], names: Sequence[str], path: Path) -> None:
    """A row a factor: position, heading, direction, and what was right against what the verdict claimed.

    Args:
        sections: of the tests, each a colour.
        names: of the factors.
        path: of the picture.
    """
    rows = len(names)
    figure, axes = new_figure(13.0, 2.3 * rows + 1.1, rows=rows, columns=4, gap_in=0.7)
    for row, name in enumerate(names):
        here = axes[4 * row : 4 * row + 4]
        for section, colour in zip(sections, _COLOURS, strict=False):
            factor = section["factors"].get(name)
            if factor is None:
                continue
            points = factor["levels"]
            ticks = list(range(len(points)))
            label = str(section["checkpoint"].get("name", section["checkpoint"].get("path")))
            for axis, (key, title) in zip(here, _COLUMNS, strict=False):
                axis.plot(ticks, [_or_nan(point[key]) for point in points], "o-", color=colour, label=label)
                axis.set_ylabel(title)
                axis.set_ylim(0.0, max(1.15 * max(_numbers(sections, name, key), default=0.0), 0.5))
            right, verdict = here[3], [100.0 * _or_nan(point["verdict_mean"]) for point in points]
            right.plot(ticks, [_or_nan(point["right_percent"]) for point in points], "o-", color=colour, label="right")
            right.plot(ticks, verdict, "x--", color=colour, label="claimed")
            right.set_ylim(-3.0, 103.0)
            right.set_ylabel("right —, claimed - - (%)")
            for axis in here:
                axis.set_xticks(ticks, [_level(point["level"]) for point in points])
                axis.set_xlabel(f"{factor['title']} {factor['unit'] and '(' + factor['unit'] + ')'}")
                axis.grid(alpha=0.3)
        if row == 0:
            here[0].legend(fontsize=8)
    save_figure(figure, path)


def _numbers(sections: Sequence[Section], name: str, key: str) -> list[float]:
    """All values of a curve that are known, of all tests."""
    points = [point for section in sections for point in section["factors"].get(name, {"levels": []})["levels"]]
    return [point[key] for point in points if point[key] is not None]


def _level(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _without_infinity(numbers: Mapping[str, float | int | None]) -> dict[str, float | int | None]:
    """JSON has none: an unlimited range or visibility is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in numbers.items()
    }


def _page(section: Section, pictures: Mapping[str, str]) -> str:
    titles = ("answers", "silent", "refused", *(title for _, title in _COLUMNS), "right (%)", "claimed (%)",
              f"wrong, yet claimed ≥ {100 * SURE:.0f} %")  # fmt: skip
    factors = []
    for name, factor in section["factors"].items():
        rows = [
            (_level(point["level"]), [
                str(point["answers"]), str(point["silent"]), str(point["refused"]),
                *(number(point[key], 2) for key, _ in _COLUMNS),
                number(point["right_percent"], 0),
                number(None if point["verdict_mean"] is None else 100.0 * point["verdict_mean"], 0),
                number(point["falsely_sure_percent"], 0),
            ])
            for point in factor["levels"]
        ]  # fmt: skip
        factors.append((factor["title"], factor["unit"], rows, pictures.get(name, "")))
    return page_template("stress.html").render(
        title=f"Stress test of {section['checkpoint'].get('path')} on {section['drive']}",
        about=[(key, str(section[key])) for key in _ABOUT],
        titles=titles,
        factors=factors,
        right=f"{RIGHT_M:g} m and {RIGHT_DEG:g}°",
        written=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        attribution=ATTRIBUTION,
    )
