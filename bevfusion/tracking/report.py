"""The report of a track: where it went on the map, how sure it was, and how far from GNSS. Nothing in it is scored.

One HTML file with its pictures inside, which fits a phone: panels stand side by side or stack.
"""

import base64
import html
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.direction.guide import Guide
from bevfusion.direction.picture import FIELD as WAY
from bevfusion.direction.picture import draw_paths
from bevfusion.drawing import ESTIMATE, PANEL_IN, PRIOR, TRUTH, new_figure
from bevfusion.files import write_text
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.pictures import ATTRIBUTION as CREDIT
from bevfusion.maps.pictures import legend, paint
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary
from bevfusion.tables import number
from bevfusion.tracking.follow import State, TrackedFrame
from bevfusion.tracking.outputs import ATTRIBUTION, gnss_distance_m, stretches

_MARGIN_M = 40.0
_MOST_CELLS = 1600  # along a side of the map's picture
_ARROWS = 25
_MAP_IN, _MAP_DOTS_PER_INCH, _MAP_OPACITY = 6.5, 150, 0.6
_NORMAL_95 = 1.96
_TOP_IN = 0.2  # above figures without a title
_TOLD: dict[State, str] = {
    "following": "with a pose",
    "waiting": "before the start",
    "lost": "lost",
    "doubtful": "too doubtful to say",
    "unreadable": "that cannot be read",
}
_ODOMETRY = {"none": "none", "log": "of the log", "kiss-icp": "KISS-ICP, from the scans", "truth": "the truth"}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
h1 {{ overflow-wrap: anywhere; line-height: 1.2; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #222; }}
img {{ display: block; max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; }}
td {{ padding: .1rem 1rem .1rem 0; }}
td + td {{ text-align: right; font-variant-numeric: tabular-nums; }} li {{ overflow-wrap: anywhere; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .6rem; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; list-style: none; font-size: .85rem; }}
.legend svg {{ vertical-align: -.15em; }}
footer {{ color: #666; font-size: .85rem; }}
</style></head><body>
<h1>{title}</h1>
<p>{headline}</p>
{start}<table>{rows}</table>
<h2>On the map</h2>
<img alt="{map_alt}" src="data:image/png;base64,{map_picture}">
<p>Red: the track, with the band that holds it across its way with 95 %; arrows: heading. Blue: GNSS. Yellow, dashed: no
pose. Green: the way ahead of each arrow, the likeliest one. Colours of the map:</p>
<ul class="legend">{legend}</ul>
<h2>Over time</h2>
<p>Yellow ticks at the bottom: frames without a pose.</p>
<div class="panels">{panels}</div>
<h2>What the log was made of</h2>
<ul>{notes}</ul>
<footer>{attribution}. The poses have been compared with no truth. Their doubt holds {map_error_m:g} m for the map's own
error.</footer>
</body></html>
"""


def counts(frames: Sequence[TrackedFrame]) -> dict[State, int]:
    """Frames in each state that occurs."""
    found = {state: sum(frame.state == state for frame in frames) for state in _TOLD}
    return {state: count for state, count in found.items() if count}


def headline(frames: Sequence[TrackedFrame]) -> str:
    """What came of the log, in one sentence."""
    told = [f"{count} {_TOLD[state]}" for state, count in counts(frames).items() if state != "following"]
    answered = sum(frame.answered for frame in frames)
    share = 100.0 * answered / len(frames) if frames else 0.0
    return f"{answered} of {len(frames)} frames have a pose ({share:.0f} %)" + (f"; {', '.join(told)}" if told else "")


def write_report(
    path: Path,
    name: str,
    frames: Sequence[TrackedFrame],
    source: MapSource,
    notes: Sequence[InputSummary],
    map_error_m: float,
    odometry: str,
    start: str = "",
    guide: Guide | None = None,
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        name: of the log.
        frames: in order.
        source: the map they were followed on.
        notes: what log and map were made of.
        map_error_m: what the covariances hold of the map's own error.
        odometry: where it came from, as of `Drive.odometry`.
        start: where it began and how wide the window was, in words.
        guide: says where the road goes; None: nobody knows.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    distance_m = [d for frame in frames if (d := gnss_distance_m(frame, source)) is not None]
    std_m = [_std_m(frame) for frame in frames if frame.answered]
    rows = {
        "odometry": _ODOMETRY.get(odometry, odometry),
        "frames": str(len(frames)),
        "with a pose": str(sum(frame.answered for frame in frames)),
        "distance driven with poses (m)": number(_driven_m(frames), 0),
        "standard deviation, median (m)": number(_median(std_m), 2),
        "distance from GNSS, median (m)": number(_median(distance_m), 2),
        "distance from GNSS, 95 % below (m)": number(float(np.quantile(distance_m, 0.95)) if distance_m else None, 2),
    }
    listed = [f"{summary.source}: {note.line()}" for summary in notes for note in summary.notes]
    page = _PAGE.format(
        title=html.escape(f"{name} on {source.name}"),
        headline=html.escape(headline(frames)),
        start=f"<p>Start: {html.escape(start)}.</p>\n" if start else "",
        rows="".join(
            f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>" for key, value in rows.items()
        ),
        map_alt="the track on the map",
        map_picture=_encoded(_map_figure(frames, source, guide), _MAP_DOTS_PER_INCH),
        panels="".join(
            f'<img alt="{html.escape(label)} over time" src="data:image/png;base64,{_encoded(figure)}">'
            for label, figure in _time_figures(frames, source)
        ),
        legend="".join(
            f'<li><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" fill="{colour}" '
            f'fill-opacity="{_MAP_OPACITY}" stroke="#999"/></svg> {html.escape(what)}</li>'
            for what, colour in legend()
        ),
        notes="".join(f"<li>{html.escape(line)}</li>" for line in listed) or "<li>nothing to remark</li>",
        attribution=html.escape(ATTRIBUTION),
        map_error_m=map_error_m,
    )
    write_text(path, page)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _std_m(frame: TrackedFrame) -> float:
    """Standard deviation along the worst direction."""
    if frame.estimate is None:
        return math.nan
    return math.sqrt(float(np.linalg.eigvalsh(frame.estimate.covariance[:2, :2])[-1]))


def _driven_m(frames: Sequence[TrackedFrame]) -> float:
    steps = (np.diff(_places_m(stretch), axis=0) for stretch in stretches(frames))
    return math.fsum(float(np.hypot(*step.T).sum()) for step in steps)


def _places_m(frames: Sequence[TrackedFrame]) -> np.ndarray:
    poses = [frame.estimate.map_from_ego for frame in frames if frame.estimate is not None]
    return np.array([(pose.x_m, pose.y_m) for pose in poses], dtype=float).reshape(-1, 2)


def _encoded(figure: Any, dots_per_inch: int = 110) -> str:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=dots_per_inch)
    return base64.b64encode(written.getvalue()).decode("ascii")


def _map_figure(frames: Sequence[TrackedFrame], source: MapSource, guide: Guide | None) -> Any:
    fixes = [source.frame.map_from_ego(frame.gnss) for frame in frames if frame.gnss is not None]
    fixes_m = np.array([(fix.x_m, fix.y_m) for fix in fixes], dtype=float).reshape(-1, 2)
    places_m = _places_m(frames)
    both_m = np.concatenate([places_m, fixes_m])
    x0, y0, x1, y1 = source.bounds_m
    low, high = (both_m.min(axis=0), both_m.max(axis=0)) if len(both_m) else (np.array([x0, y0]), np.array([x1, y1]))
    # one stray fix must not shrink the track to a dot
    low, high = np.maximum(low, [x0, y0]) - _MARGIN_M, np.minimum(high, [x1, y1]) + _MARGIN_M
    centre, half_m = 0.5 * (low + high), max(0.5 * float((high - low).max()), _MARGIN_M)
    cell_m = max(0.25, 2.0 * half_m / _MOST_CELLS)
    layers = source.draw(
        Grid.square(math.ceil(half_m / cell_m) * cell_m, cell_m), SE2(float(centre[0]), float(centre[1]))
    )
    figure, (axis,) = new_figure(_MAP_IN, _MAP_IN, top_in=_TOP_IN)
    extent = (centre[0] - half_m, centre[0] + half_m, centre[1] - half_m, centre[1] + half_m)
    axis.imshow(paint(layers), extent=extent, interpolation="nearest", alpha=_MAP_OPACITY)
    axis.plot(*fixes_m.T, ".", color=TRUTH, markersize=2)
    before: TrackedFrame | None = None
    for stretch in stretches(frames):
        line_m = _places_m(stretch)
        axis.fill(*_band_m(stretch).T, color=ESTIMATE, alpha=0.25, linewidth=0)
        axis.plot(*line_m.T, color=ESTIMATE, linewidth=1.5)
        if before is not None:
            axis.plot(*np.concatenate([_places_m([before]), line_m[:1]]).T, "--", color=PRIOR, linewidth=1.5)
        before = stretch[-1]
    answered = [frame for frame in frames if frame.estimate is not None]
    shown = answered[:: max(1, len(answered) // _ARROWS)]
    yaws = np.array([frame.estimate.map_from_ego.yaw_rad for frame in shown if frame.estimate is not None])
    axis.quiver(*_places_m(shown).T, np.cos(yaws), np.sin(yaws), color=ESTIMATE, width=0.004, scale=25)
    if guide is not None:
        guide.forget()
        for frame in shown:
            with suppress(DataError):  # nothing leads on from there
                assert frame.estimate is not None
                pose = frame.estimate.map_from_ego
                draw_paths(axis, pose, guide.paths(pose, frame.estimate.covariance)[:1], WAY)
    axis.set(xlim=extent[:2], ylim=extent[2:], xlabel="east (m)", ylabel="north (m)", aspect="equal")
    axis.annotate(CREDIT, (0.99, 0.01), xycoords="axes fraction", ha="right", va="bottom", fontsize=7)
    return figure


def _band_m(frames: Sequence[TrackedFrame]) -> np.ndarray:
    """The outline of the places that hold the track across its way with 95 %."""
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    for frame in frames:
        if frame.estimate is not None:
            pose = frame.estimate.map_from_ego
            across = np.array([-math.sin(pose.yaw_rad), math.cos(pose.yaw_rad)])
            std_m = math.sqrt(max(0.0, float(across @ frame.estimate.covariance[:2, :2] @ across)))
            for side, sign in ((left, 1.0), (right, -1.0)):
                side.append(np.array([pose.x_m, pose.y_m]) + sign * _NORMAL_95 * std_m * across)
    return np.array(left + right[::-1]).reshape(-1, 2)


def _time_figures(frames: Sequence[TrackedFrame], source: MapSource) -> Iterator[tuple[str, Any]]:
    """(what it shows, figure) of what changes over time."""
    stamped = [frame for frame in frames if frame.state != "unreadable"]
    first_ns = stamped[0].stamp_ns if stamped else 0
    seconds = np.array([(frame.stamp_ns - first_ns) * 1e-9 for frame in stamped])
    silent = np.array([not frame.answered for frame in stamped], dtype=bool)
    confidence = [math.nan if frame.estimate is None else frame.estimate.confidence for frame in stamped]
    distance_m = [math.nan if (d := gnss_distance_m(frame, source)) is None else d for frame in stamped]
    for label, values, limits in (
        ("heading from east (°)", [_heading_deg(frame) for frame in stamped], (-180.0, 180.0)),
        ("standard deviation (m)", [_std_m(frame) for frame in stamped], None),
        ("confidence", confidence, (0.0, 1.0)),
        ("distance from GNSS (m)", distance_m, None),
    ):
        figure, (axis,) = new_figure(PANEL_IN, 2.6, top_in=_TOP_IN)
        axis.plot(seconds, values, ".", color=ESTIMATE, markersize=3)
        if limits is None:
            axis.set_ylim(bottom=0.0)
        else:
            axis.set_ylim(*limits)
        # where there is no pose: along the lower border, whatever the axis counts
        across = axis.get_xaxis_transform()
        axis.plot(seconds[silent], np.full(silent.sum(), 0.03), "|", color=PRIOR, markersize=8, transform=across)
        axis.set(xlabel="time (s)", ylabel=label)
        yield label, figure


def _heading_deg(frame: TrackedFrame) -> float:
    """Counter-clockwise from the map's east."""
    return math.nan if frame.estimate is None else math.degrees(frame.estimate.map_from_ego.yaw_rad)
