"""The result table, for the terminal and for Markdown."""

import sys
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from bevfusion.evaluation.traffic import in_words
from bevfusion.localizer import CLASSICAL
from bevfusion.tables import number

COLUMNS = {"lateral_m": "lateral", "longitudinal_m": "longitudinal", "position_m": "position", "heading_deg": "heading"}
_number = partial(number, unknown="-")


def rows(report: dict[str, Any]) -> list[tuple[str, str, list[tuple[list[str], str]]]]:
    """(name, frames, [(recalls, median) of each column]): what was scored, what it is held against, every drive."""
    scored = CLASSICAL if report["checkpoint"].get("path") == CLASSICAL else "network"
    found = [(scored, str(report["frames"]), _cells(report))]
    if report["classical"] is not None:
        found.append((CLASSICAL, str(report["classical"]["frames"]), _cells(report["classical"])))
    found.append(("chance", "", _cells(report["chance"])))
    for name, section in report["per_drive"].items():
        found.append((name, str(section["frames"]), _cells(section)))
    return found


def rich_table(report: dict[str, Any]) -> Table:
    """For the terminal: recalls above, the median below."""
    protocol = report["protocol"]
    together = f", {protocol['scans']} scans in one" if protocol["scans"] > 1 else ""
    table = Table(
        title=f"Recall in % below 1, 3, 5 m or degrees, and median; prior within {protocol['offset_m']:g} m, "
        f"{protocol['offset_deg']:g} degrees{together}",
        show_lines=True,
    )
    table.add_column("", overflow="fold")
    for title in ("frames", *COLUMNS.values()):
        table.add_column(title, justify="right", no_wrap=True)
    for name, frames, cells in rows(report):
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
            f"{_number(section[f'{key}_median'], 2)}  {_number(section[f'{key}_p95'], 2)} {key.rpartition('_')[2]}"
            for key in ("heading_deg", "position_m")
        ]
        changed = f"{_number(section['changed_percent'], 0)} %"
        table.add_row(in_words(done), _number(section["scans"], 0), changed, *moved)
    return table


def _cells(section: dict[str, Any]) -> list[tuple[list[str], str]]:
    cells = []
    for key in COLUMNS:
        recalls = [_number(value, 1) for value in section[key]["recall"].values()]
        cells.append((recalls, f"{_number(section[key]['median'], 2)} {key.rpartition('_')[2]}"))
    return cells


def print_table(report: dict[str, Any]) -> None:
    """Print the tables on standard output; files and pipes get room for all of them."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(rich_table(report))
    if report["traffic"]:
        console.print(traffic_table(report["traffic"]))
