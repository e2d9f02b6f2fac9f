"""report.html: everything that an evaluation says, in one file that opens without a network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from bevfusion.evaluation.embedded import pictures, worst_frames
from bevfusion.evaluation.predictions import Prediction
from bevfusion.evaluation.traffic import in_words
from bevfusion.tables import is_number, number

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


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the result table."""

    name: str
    kind: str  # class in the style sheet: all, chance, drive, shifted
    frames: str
    cells: Sequence[str]


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
        has_belief=is_number(report["calibration"]["coverage_68"]),
        sequence=report["protocol"]["mode"] != "single",
        pictures=pictures(report, predictions, plots),
        worst=worst_frames(predictions, plots),
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


def _checkpoint_name(report: Mapping[str, Any]) -> str:
    checkpoint = report["checkpoint"]
    return str(checkpoint.get("name") or checkpoint.get("path") or "unnamed checkpoint")
