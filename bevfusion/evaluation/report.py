"""What an evaluation says: report.html, one file that opens without a network, and tables on the terminal."""

import base64
import glob
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jinja2
from rich.console import Console
from rich.table import Table

from bevfusion.evaluation.plots import BAD, cumulative_name, drawn_worst, error_names, worst_name
from bevfusion.evaluation.results import (
    QUANTITIES,
    QUANTITY_KEYS,
    ScoredEstimate,
    errors_of,
    trajectories,
)
from bevfusion.evaluation.traffic import in_words
from bevfusion.files import write_text
from bevfusion.localizer import CLASSICAL
from bevfusion.maps.pictures import ATTRIBUTION, legend
from bevfusion.tables import is_number, number

_LARGE_BYTES = 100_000  # pictures beyond are inlined as WebP, which maps and scans need a quarter of the room for
_WEBP_QUALITY = 85
_PANELS = {
    "estimate": "Scan on the map where the answer puts it",
    "truth": "Scan on the map where it belongs",
    "places": "How probable each place was",
    "headings": "How probable each heading was",
    "fusion": "What the fusion of both branches attended to",
    "refine": "What the refinement attended to",
    "saliency": "Which cells of the scan count most in the matching",
}
_terminal_number = partial(number, unknown="-")
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
class ResultRow:
    """A line of the result table."""

    name: str
    kind: str  # class in the style sheet: all, chance, drive, shifted
    frames: str
    cells: Sequence[str]


def page_template(name: str) -> jinja2.Template:
    """A page of `templates/`: what is put into it is escaped, and what is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bevfusion.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def write_report(
    path: Path,
    report: Mapping[str, Any],
    estimates: Sequence[ScoredEstimate],
    plots: Path,
    written: datetime | None = None,
) -> None:
    """Write the page.

    Args:
        path: of the page.
        report: content of metrics.json.
        estimates: what the figures in it come from.
        plots: folder of `write_plots`; a picture that is not there is left out, its section says so.
        written: date on the page; now by default.
    """
    date = (written or datetime.now()).astimezone()
    page = page_template("report.html").render(
        title=f"Localization report: {_checkpoint_name(report)}",
        headline=headline(report),
        warnings=warnings(report),
        quantities=[f"{quantity.title} ({quantity.unit})" for quantity in QUANTITIES],
        thresholds=list(report["position_m"]["recall"]),
        rows=rows(report),
        chance=CHANCE[report["protocol"]["mode"]],
        classical=report["classical"]["frames"] if report["classical"] is not None else 0,
        card=card(report, date),
        calibration=_calibration_rows(report),
        traffic=_traffic_rows(report),
        has_belief=is_number(report["calibration"]["coverage_68"]),
        sequence=report["protocol"]["mode"] != "single",
        pictures=_pictures(report, estimates, plots),
        worst=_worst_frames(estimates, plots),
        bad=f"{BAD:g}",
        is_bad=bool(drawn_worst(estimates)),
        legend=legend(),
        attribution=ATTRIBUTION,
    )
    write_text(path, page)


def headline(report: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    position, heading, chance = report["position_m"], report["heading_deg"], report["chance"]
    drives = len(report["per_drive"])
    threshold = list(position["recall"])[len(position["recall"]) // 2]
    answered = answered_share(report)
    return (
        f"{report['frames']} frames of {drives} drive{'s' if drives != 1 else ''}{answered and f', {answered}'}: "
        f"the position is right to {threshold} m in {number(position['recall'][threshold], 1)} % of the answers "
        f"(without looking: {number(chance['position_m']['recall'][threshold], 1)} %), the heading to "
        f"{threshold}° in {number(heading['recall'][threshold], 1)} % "
        f"({number(chance['heading_deg']['recall'][threshold], 1)} %); half of the answers are within "
        f"{number(position['median'], 2)} m and {number(heading['median'], 2)}°."
    )


def answered_share(report: Mapping[str, Any]) -> str:
    """What share of the frames was answered, in words; empty where all of them were."""
    lost = sum(report["lost"].values())
    if not lost:
        return ""
    return f"{number(report['answered_percent'], 1)} % of what was asked ({lost} without an answer count in no figure)"


def warnings(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the table: frames that are not in it."""
    reasons = {
        "lost": "frames without an answer (the tracker was lost or not sure enough); they count in no figure",
        "not_covered": "frames that no map covers, not scored",
        "without_truth": "frames without a true pose, not scored",
        "unreadable": "frames that cannot be read, left out",
    }
    failed = [f"{drive}: failed, and is in no figure: {reason}" for drive, reason in report.get("failed", {}).items()]
    return failed + [
        f"{drive}: {count} {reason}."
        for key, reason in reasons.items()
        for drive, count in report[key].items()
        if count
    ]


def rows(report: Mapping[str, Any]) -> list[ResultRow]:
    """The result table: all answers, what they are held against, every drive with and without its constant offset."""
    found = [ResultRow("all drives", "all", str(report["frames"]), _cells(report))]
    if report["classical"] is not None:
        frames = f"{report['classical']['frames']} of them"
        found.append(ResultRow("classical: no weights, same priors", "chance", frames, _cells(report["classical"])))
    found.append(ResultRow(CHANCE[report["protocol"]["mode"]], "chance", "", _cells(report["chance"])))
    for name, section in report["per_drive"].items():
        found.append(ResultRow(name, "drive", str(section["frames"]), _cells(section)))
        removed = section["offset_removed"]
        label = (
            f"{name}, offset removed ({number(removed['east_m'], 2, sign=True)} m east, "
            f"{number(removed['north_m'], 2, sign=True)} m north)"
        )
        found.append(ResultRow(label, "shifted", "", _cells(removed)))
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
        ("error of the map", f"{protocol['map_error_m']:g} m, standard deviation, added to the doubt of every answer"),
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
    for key, title in (
        ("lost", "without an answer"),
        ("not_covered", "off all maps"),
        ("without_truth", "without a true pose"),
        ("unreadable", "that cannot be read"),
    ):
        lines.append((f"frames {title}", ", ".join(f"{name}: {count}" for name, count in report.get(key, {}).items())))
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
    for key in QUANTITY_KEYS:
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


# the pictures inside the page, each with words for those who cannot see it


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


def _pictures(report: Mapping[str, Any], estimates: Sequence[ScoredEstimate], plots: Path) -> dict[str, list[Picture]]:
    """The pictures of every section, by its name."""
    heading, runtime = report["heading_deg"], report["runtime_ms"]
    coverage = report["calibration"]
    named = {
        "rose": (
            "heading_rose",
            f"Polar histogram of the heading error; {number(heading['flips_180'], 1)} percent are off by more than "
            "90 degrees",
        ),
        "near": ("heading_near", "Histogram of the heading errors around zero, those within ten degrees"),
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
    found["rose"] += found.pop("near")
    found |= {"cumulative": [], "trajectory": [], "errors": [], "way": []}
    for picture in sorted(plots.glob("way_*.png")):
        which = picture.stem.removeprefix("way_").replace("_", " ")
        found["way"] += _inlined(picture, f"The way ahead, {which}: scan, map, field, path and the path driven")
    for quantity in QUANTITIES:
        found["cumulative"] += _inlined(
            plots / f"{cumulative_name(quantity)}.png",
            f"Share of answers within an error, {quantity.title}, for the estimate and for the prior; median "
            f"{number(report[quantity.key]['median'], 2)} {quantity.unit}",
        )
    for trajectory in trajectories(estimates):
        first = trajectory.estimates[0]
        where = f"{first.drive} on map {first.map_name}, {len(trajectory.estimates)} answers"
        found["trajectory"] += _inlined(
            plots / f"trajectory_{trajectory.file_name}.png", f"Map with true course and estimates: {where}"
        )
        for word, name in error_names(trajectory).items():
            found["errors"] += _inlined(plots / f"{name}.png", f"Signed error over time, {word}: {where}")
    return found


def _worst_frames(estimates: Sequence[ScoredEstimate], plots: Path) -> list[WorstFrame]:
    """The answers farthest from the truth with their pictures, where any were drawn."""
    frames = []
    for rank, estimate in enumerate(drawn_worst(estimates), start=1):
        errors = errors_of([estimate])
        title = (
            f"{rank}. {estimate.drive}, frame {estimate.frame}: {errors.position_m[0]:.2f} m off "
            f"(across {errors.lateral_m[0]:+.2f} m, along {errors.longitudinal_m[0]:+.2f} m, "
            f"heading {errors.heading_deg[0]:+.2f}°)"
        )
        stem = worst_name(rank, estimate)
        pictures = [
            picture
            for path in sorted(plots.glob(f"{glob.escape(stem)}_[0-9]_*.png"))
            for picture in _inlined(
                path, f"{_PANELS.get(path.stem[len(stem) + 3 :], path.stem[len(stem) + 3 :])}: {title}"
            )
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


# on the terminal


def terminal_rows(report: dict[str, Any]) -> list[tuple[str, str, list[tuple[list[str], str]]]]:
    """(name, frames, [(recalls, median) of each column]): what was scored, what it is held against, every drive."""
    scored = CLASSICAL if report["checkpoint"].get("path") == CLASSICAL else "network"
    found = [(scored, str(report["frames"]), _terminal_cells(report))]
    if report["classical"] is not None:
        found.append((CLASSICAL, str(report["classical"]["frames"]), _terminal_cells(report["classical"])))
    found.append(("chance", "", _terminal_cells(report["chance"])))
    for name, section in report["per_drive"].items():
        found.append((name, str(section["frames"]), _terminal_cells(section)))
    return found


def rich_table(report: dict[str, Any]) -> Table:
    """For the terminal: recalls above, the median below."""
    protocol = report["protocol"]
    together = f", {protocol['scans']} scans in one" if protocol["scans"] > 1 else ""
    table = Table(
        title=f"Recall in % below 1, 3, 5 m or degrees, and median; prior within {protocol['offset_m']:g} m, "
        f"{protocol['offset_deg']:g} degrees{together}",
        show_lines=True,
        caption=f"answered: {answered_share(report)}" if answered_share(report) else None,
    )
    table.add_column("", overflow="fold")
    for title in ("frames", *(quantity.word for quantity in QUANTITIES)):
        table.add_column(title, justify="right", no_wrap=True)
    for name, frames, cells in terminal_rows(report):
        table.add_row(name, frames, *(f"{' '.join(recalls)}\n{median}" for recalls, median in cells))
    return table


def traffic_table(traffic: dict[str, Any]) -> Table:
    """For the terminal: how far answers move as vehicles come and go."""
    table = Table(title="How far other traffic moves the answer: median and 95th percentile")
    table.add_column("", overflow="fold")
    for title in ("frames", "points changed", "heading", "position"):
        table.add_column(title, justify="right", no_wrap=True)
    for done, section in traffic.items():
        moved = [
            "  ".join([*(_terminal_number(section[f"{key}_{part}"], 2) for part in ("median", "p95"))]) + f" {unit}"
            for key, unit in (("heading_deg", "deg"), ("position_m", "m"))
        ]
        changed = f"{_terminal_number(section['changed_percent'], 0)} %"
        table.add_row(in_words(done), _terminal_number(section["scans"], 0), changed, *moved)
    return table


def _terminal_cells(section: dict[str, Any]) -> list[tuple[list[str], str]]:
    cells = []
    for key in QUANTITY_KEYS:
        recalls = [_terminal_number(value, 1) for value in section[key]["recall"].values()]
        cells.append((recalls, f"{_terminal_number(section[key]['median'], 2)} {key.rpartition('_')[2]}"))
    return cells


def direction_table(direction: dict[str, Any]) -> Table:
    """The path 16 m ahead against the one that was driven, beside the baselines."""
    counted = f"{direction['frames']} frames, {direction['turning']['frames']} turning"
    table = Table(title=f"The way the road goes, 16 m ahead ({counted})")
    for title in ("", "final (m)", "average (m)", "within 2 m", "Hausdorff (m)", "turning: final (m)", "within 2 m"):
        table.add_column(title, justify="right" if title else "left")
    rows = {"route, moved to the vehicle": direction} | direction["baselines"]
    for name, section in rows.items():
        near, turning = section["path_16m"], section["turning"]
        cells = [near["fde_m"], near["ade_m"], near["hit"], near["hausdorff_m"], turning["fde_m"], turning["hit"]]
        table.add_row(name.replace("_", " "), *(_terminal_number(value, 2) for value in cells))
    return table


def print_table(report: dict[str, Any]) -> None:
    """Print the tables on standard output; files and pipes get room for all of them."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(rich_table(report))
    if report["traffic"]:
        console.print(traffic_table(report["traffic"]))
    if report.get("direction"):
        console.print(direction_table(report["direction"]))
