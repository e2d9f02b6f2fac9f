"""The report of a track: where it went on the map, how sure it was, and how far from GNSS. Nothing in it is scored.

One HTML file with its pictures inside, which fits a phone.
"""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.drawing import ESTIMATE, PRIOR, TRUTH, new_figure
from bevfusion.files import write_text
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.pictures import paint
from bevfusion.maps.source import MapSource
from bevfusion.summary import InputSummary
from bevfusion.tables import number
from bevfusion.tracking.follow import State, TrackedFrame
from bevfusion.tracking.outputs import ATTRIBUTION, gnss_distance_m, stretches

_MARGIN_M = 40.0
_MOST_CELLS = 1600  # along a side of the map's picture
_ARROWS = 25
_NORMAL_95 = 1.96
_TOLD: dict[State, str] = {
    "following": "with a pose",
    "waiting": "before the start",
    "lost": "lost",
    "doubtful": "too doubtful to say",
    "unreadable": "that cannot be read",
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #222; }}
img {{ max-width: 100%; height: auto; }} table {{ border-collapse: collapse; }} td {{ padding: .1rem 1rem .1rem 0; }}
td + td {{ text-align: right; font-variant-numeric: tabular-nums; }} li {{ overflow-wrap: anywhere; }}
footer {{ color: #666; font-size: .85rem; }}
</style></head><body>
<h1>{title}</h1>
<p>{headline}</p>
<table>{rows}</table>
<h2>On the map</h2>
<img alt="{map_alt}" src="data:image/png;base64,{map_picture}">
<p>Red: the track with the band that holds it with 95 %, arrows: heading. Blue: GNSS. Yellow, dashed: no pose.</p>
<h2>Over time</h2>
<img alt="{time_alt}" src="data:image/png;base64,{time_picture}">
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
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        name: of the log.
        frames: in order.
        source: the map they were followed on.
        notes: what log and map were made of.
        map_error_m: what the covariances hold of the map's own error.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    distance_m = [d for frame in frames if (d := gnss_distance_m(frame, source)) is not None]
    std_m = [_std_m(frame) for frame in frames if frame.answered]
    rows = {
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
        rows="".join(
            f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>" for key, value in rows.items()
        ),
        map_alt="the track on the map",
        map_picture=_encoded(_map_figure(frames, source)),
        time_alt="standard deviation, confidence and distance from GNSS over time",
        time_picture=_encoded(_time_figure(frames, source)),
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


def _encoded(figure: Any) -> str:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return base64.b64encode(written.getvalue()).decode("ascii")


def _map_figure(frames: Sequence[TrackedFrame], source: MapSource) -> Any:
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
    figure, (axis,) = new_figure(8.0, 8.2)
    extent = (centre[0] - half_m, centre[0] + half_m, centre[1] - half_m, centre[1] + half_m)
    axis.imshow(paint(layers), extent=extent, interpolation="nearest", alpha=0.6)
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
    axis.set(xlim=extent[:2], ylim=extent[2:], xlabel="east (m)", ylabel="north (m)", aspect="equal")
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


def _time_figure(frames: Sequence[TrackedFrame], source: MapSource) -> Any:
    stamped = [frame for frame in frames if frame.state != "unreadable"]
    first_ns = stamped[0].stamp_ns if stamped else 0
    seconds = np.array([(frame.stamp_ns - first_ns) * 1e-9 for frame in stamped])
    confidence = [math.nan if frame.estimate is None else frame.estimate.confidence for frame in stamped]
    distance_m = [math.nan if (d := gnss_distance_m(frame, source)) is None else d for frame in stamped]
    series = [
        ("standard deviation (m)", [_std_m(frame) for frame in stamped]),
        ("confidence", confidence),
        ("distance from GNSS (m)", distance_m),
    ]
    figure, axes = new_figure(8.0, 6.0, rows=len(series), sharex=True)
    silent = np.array([not frame.answered for frame in stamped], dtype=bool)
    for axis, (label, values) in zip(axes, series, strict=True):
        axis.plot(seconds, values, ".-", color=ESTIMATE, markersize=3, linewidth=1)
        axis.plot(seconds[silent], np.zeros(silent.sum()), "|", color=PRIOR, markersize=8)
        axis.set(ylabel=label)
        axis.set_ylim(bottom=0.0)
    axes[-1].set(xlabel="time (s)")
    return figure
