"""The pictures inside report.html, each with words for those who cannot see it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from bevfusion.evaluation.plots import worst, worst_name
from bevfusion.evaluation.predictions import Prediction, errors_of
from bevfusion.evaluation.trajectories import courses
from bevfusion.tables import number

_LARGE_BYTES = 100_000  # pictures beyond are inlined as WebP, which maps and scans need a quarter of the room for
_WEBP_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside the page."""

    source: str  # data URI
    alt: str


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """One of the answers farthest from the truth."""

    title: str
    pictures: Sequence[Picture]


def pictures(report: Mapping[str, Any], predictions: Sequence[Prediction], plots: Path) -> dict[str, list[Picture]]:
    """The pictures of every section, by its name."""
    position, heading, runtime = report["position_m"], report["heading_deg"], report["runtime_ms"]
    coverage = report["calibration"]
    named = {
        "cumulative": (
            "cumulative_errors",
            f"Curves of the share of answers within an error, for the estimate and for the prior; medians "
            f"{number(position['median'], 2)} m and {number(heading['median'], 2)} degrees",
        ),
        "rose": (
            "heading_rose",
            f"Polar histogram of the heading error; {number(heading['flips_180'], 1)} percent are off by more than "
            "90 degrees",
        ),
        "calibration": (
            "reliability",
            f"Reliability curve: {number(coverage['coverage_68'], 1)} percent of the truths lie in the 68 percent "
            f"region, {number(coverage['coverage_95'], 1)} percent in the 95 percent region",
        ),
        "traffic": ("traffic", "Curves of the share of answers that turn by no more than so much under other traffic"),
        "runtime": (
            "runtime",
            f"Histogram of the time a frame: median {number(runtime['p50'], 1)} ms, 95th percentile "
            f"{number(runtime['p95'], 1)} ms",
        ),
    }
    found = {section: _inlined(plots / f"{name}.png", alt) for section, (name, alt) in named.items()}
    found |= {"trajectory": [], "errors": []}
    for course in courses(predictions):
        first = course.predictions[0]
        where = f"{first.drive} on map {first.map_name}, {len(course.predictions)} answers"
        found["trajectory"] += _inlined(
            plots / f"trajectory_{course.file_name}.png", f"Map with true course and estimates: {where}"
        )
        found["errors"] += _inlined(
            plots / f"errors_{course.file_name}.png", f"Lateral, longitudinal and heading error over time: {where}"
        )
    return found


def worst_frames(predictions: Sequence[Prediction], plots: Path) -> list[WorstFrame]:
    """The answers farthest from the truth with their pictures, where any were drawn."""
    frames = []
    for rank, prediction in enumerate(worst(predictions), start=1):
        errors = errors_of([prediction])
        title = (
            f"{rank}. {prediction.drive}, frame {prediction.frame}: {errors.position_m[0]:.2f} m off "
            f"({errors.lateral_m[0]:+.2f} m to the left, {errors.longitudinal_m[0]:+.2f} m ahead, "
            f"{errors.heading_deg[0]:+.2f}°)"
        )
        name = worst_name(rank, prediction)
        pictures = [
            *_inlined(plots / f"{name}.png", f"Scan over the map, at the estimate and at the truth: {title}"),
            *_inlined(plots / f"belief_of_{name}.png", f"Marginals of the belief over place and heading: {title}"),
            *_inlined(plots / f"attention_of_{name}.png", f"Where the network attended, over the map: {title}"),
        ]
        if pictures:
            frames.append(WorstFrame(title, pictures))
    return frames


def _inlined(path: Path, alt: str) -> list[Picture]:
    """The picture in a file, if it is there."""
    if not path.is_file():
        return []
    data, kind = path.read_bytes(), "png"
    pixels = cv2.imread(str(path)) if len(data) > _LARGE_BYTES else None
    if pixels is not None:
        _, packed = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])
        data, kind = packed.tobytes(), "webp"
    return [Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}", alt)]
