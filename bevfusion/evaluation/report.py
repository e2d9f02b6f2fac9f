"""report.html: everything that an evaluation says, in one file that opens without a network."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import jinja2

from bevfusion.evaluation.plots import worst, worst_name
from bevfusion.evaluation.predictions import Prediction, errors_of
from bevfusion.evaluation.traffic import in_words
from bevfusion.evaluation.trajectories import courses

QUANTITIES = {
    "lateral_m": "across the road (m)",
    "longitudinal_m": "along the road (m)",
    "position_m": "position (m)",
    "heading_deg": "heading (deg)",
}
# What the prior is worth in each mode, which is what the row and the curve of that name show.
CHANCE = {
    "single": "chance: the prior itself",
    "filter": "odometry alone, from the first prior",
    "global": "chance: the middle of the map",
    "smooth": "odometry alone, from the first prior",
}
MODES = {
    "single": "every frame on its own, from a prior drawn about its true pose",
    "filter": "each drive as a sequence, from a prior for its first frame",
    "global": "each drive as a sequence, without any prior: the whole map is searched",
    "smooth": "each drive as a sequence in hindsight (fixed-lag smoother: not causal), from its first prior",
}
_LARGE_BYTES = 100_000  # pictures beyond are inlined as WebP, which maps and scans need a quarter of the room for
_WEBP_QUALITY = 85
_UNKNOWN = "–"  # noqa: RUF001 (an en dash is meant)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside the page."""

    source: str  # data URI
    alt: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the result table."""

    name: str
    kind: str  # class in the style sheet: all, chance, drive, shifted
    frames: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """One of the answers farthest from the truth."""

    title: str
    pictures: Sequence[Picture]


def write_report(
    path: Path,
    report: Mapping[str, Any],
    predictions: Sequence[Prediction],
    plots: Path,
    written: datetime | None = None,
) -> None:
    """Write the page.

    Args:
        path: of the page.
        report: content of metrics.json.
        predictions: what the figures in it come from.
        plots: folder of `write_plots`; a picture that is not there is left out, its section says so.
        written: date on the page; now by default.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bevfusion.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    date = (written or datetime.now()).astimezone()
    page = environment.get_template("report.html").render(
        title=f"Localization report: {_checkpoint_name(report)}",
        headline=headline(report),
        warnings=warnings(report),
        quantities=QUANTITIES,
        thresholds=list(report["position_m"]["recall"]),
        rows=rows(report),
        chance=CHANCE[report["protocol"]["mode"]],
        classical=report["classical"]["frames"] if report["classical"] is not None else 0,
        card=card(report, date),
        calibration=_calibration_rows(report),
        traffic=_traffic_rows(report),
        has_belief=_is_number(report["calibration"]["coverage_68"]),
        sequence=report["protocol"]["mode"] != "single",
        pictures=_pictures(report, predictions, plots),
        worst=_worst_frames(predictions, plots),
    )
    path.write_text(page, encoding="utf-8")


def headline(report: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    position, heading, chance = report["position_m"], report["heading_deg"], report["chance"]
    drives = len(report["per_drive"])
    threshold = list(position["recall"])[len(position["recall"]) // 2]
    return (
        f"{report['frames']} frames of {drives} drive{'s' if drives != 1 else ''}: the position is right to "
        f"{threshold} m in {number(position['recall'][threshold], 1)} % of the answers "
        f"(without looking: {number(chance['position_m']['recall'][threshold], 1)} %), the heading to "
        f"{threshold}° in {number(heading['recall'][threshold], 1)} % "
        f"({number(chance['heading_deg']['recall'][threshold], 1)} %); half of the answers are within "
        f"{number(position['median'], 2)} m and {number(heading['median'], 2)}°."
    )


def warnings(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the table: frames that are not in it."""
    reasons = {
        "lost": "frames without an answer (the tracker was lost or not sure enough); they count in no figure",
        "not_covered": "frames that no map covers, not scored",
        "without_truth": "frames without a true pose, not scored",
    }
    failed = [f"{drive}: failed, and is in no figure: {reason}" for drive, reason in report.get("failed", {}).items()]
    return failed + [
        f"{drive}: {count} {reason}."
        for key, reason in reasons.items()
        for drive, count in report[key].items()
        if count
    ]


def rows(report: Mapping[str, Any]) -> list[Row]:
    """The result table: all answers, what they are held against, every drive with and without its constant offset."""
    found = [Row("all drives", "all", str(report["frames"]), _cells(report))]
    if report["classical"] is not None:
        frames = f"{report['classical']['frames']} of them"
        found.append(Row("classical: no weights, same priors", "chance", frames, _cells(report["classical"])))
    found.append(Row(CHANCE[report["protocol"]["mode"]], "chance", "", _cells(report["chance"])))
    for name, section in report["per_drive"].items():
        found.append(Row(name, "drive", str(section["frames"]), _cells(section)))
        removed = section["offset_removed"]
        label = (
            f"{name}, offset removed ({number(removed['east_m'], 2, sign=True)} m east, "
            f"{number(removed['north_m'], 2, sign=True)} m north)"
        )
        found.append(Row(label, "shifted", "", _cells(removed)))
    return found


def card(report: Mapping[str, Any], written: datetime) -> list[tuple[str, str]]:
    """The protocol card: what one must know to run this again."""
    protocol = report["protocol"]
    mode = protocol["mode"]
    heading = "any heading" if protocol["offset_deg"] >= 180 else f"±{protocol['offset_deg']:g}° in heading"
    window = f"±{protocol['offset_m']:g} m east and north, {heading}; the prior is drawn uniformly within"
    lines = [
        ("mode", f"{mode}: {MODES[mode]}"),
        ("window", "none: the whole map is searched" if mode == "global" else window),
        ("priors a frame", f"{protocol['draws']}, seed {protocol['seed']}"),
        (
            "recall",
            f"share of errors {protocol['threshold']} {', '.join(report['position_m']['recall'])} m or °, in percent",
        ),
        ("read-out of the belief", str(protocol["readout"])),
        ("odometry", str(protocol["odometry"])),
        ("scans in one cloud", str(protocol["scans"])),
        *((f"checkpoint, {key}", value) for key, value in flat(report["checkpoint"])),
    ]
    for name, section in report["map"].items():
        origin = f"{section['origin_lat_deg']:.7f}, {section['origin_lon_deg']:.7f}"
        lines.append((f"map {name}", f"{section['frames']} frames; origin at lat, lon {origin}"))
        if "file" in section:
            date = section["data_date"] or "the file does not say; it was written " + section["file_date"]
            lines.append((f"map {name}, file", f"{section['file']} (sha256 {section['sha256'][:12]}); data of {date}"))
    for key, title in (("lost", "without an answer"), ("not_covered", "off all maps"), ("without_truth", "no truth")):
        lines.append((f"frames {title}", ", ".join(f"{name}: {count}" for name, count in report[key].items())))
    p50, p95 = (f"{number(report['runtime_ms'][key], 1)} ms" for key in ("p50", "p95"))
    lines.append(("runtime a frame", f"median {p50}, 95th percentile {p95}"))
    lines += [(f"hardware, {key}", value) for key, value in flat(report["hardware"])]
    return [*lines, ("written", f"{written:%Y-%m-%d %H:%M %Z}")]


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as lines: names joined by dots, lists as JSON."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            lines.append((f"{prefix}{key}", json.dumps(value, default=str)))
        else:
            lines.append((f"{prefix}{key}", "none" if value is None else str(value)))
    return lines


def number(value: object, digits: int, *, sign: bool = False) -> str:
    """A number for people; a dash for what is not known."""
    if not _is_number(value):
        return _UNKNOWN
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _cells(section: Mapping[str, Any]) -> list[str]:
    """Recalls and median of each quantity, and the share of headings read the other way round."""
    cells = []
    for key in QUANTITIES:
        cells += [number(value, 1) for value in section[key]["recall"].values()]
        cells.append(number(section[key]["median"], 2))
    return [*cells, number(section["heading_deg"]["flips_180"], 1)]


def _calibration_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    sections = {"all drives": report["calibration"]}
    sections |= {name: section["calibration"] for name, section in report["per_drive"].items()}
    return [
        (name, [number(s["coverage_68"], 1), number(s["coverage_95"], 1), number(s["nll"], 2)])
        for name, s in sections.items()
    ]


def _traffic_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What was done, and how far the answers moved; nothing where it was not asked."""
    columns = ("heading_deg_median", "heading_deg_p95", "position_m_median", "position_m_p95")
    return [
        (
            in_words(done),
            [number(s["scans"], 0), number(s["changed_percent"], 0), *(number(s[key], 2) for key in columns)],
        )
        for done, s in (report["traffic"] or {}).items()
    ]


def _pictures(report: Mapping[str, Any], predictions: Sequence[Prediction], plots: Path) -> dict[str, list[Picture]]:
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


def _worst_frames(predictions: Sequence[Prediction], plots: Path) -> list[WorstFrame]:
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


def _checkpoint_name(report: Mapping[str, Any]) -> str:
    checkpoint = report["checkpoint"]
    return str(checkpoint.get("name") or checkpoint.get("path") or "unnamed checkpoint")
