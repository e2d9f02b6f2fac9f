"""Several ways to do one task, side by side: what most suites measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from bevfusion.benchmark.measuring import Timing, floor_ms, peak_mb, span, timed_in_turns, timing


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, and the least that it takes: written down before anything is measured."""

    name: str
    least_bytes: int  # inputs read once, outputs written once
    least_operations: float  # of the cheapest known way; a multiplication and a sum are two


@dataclass(frozen=True, slots=True)
class MethodTiming:
    """One way to do one task on one device."""

    task: str
    method: str
    timed: Timing
    peak_mb: float  # allocated on top of the inputs, 10^6 bytes
    floor_ms: float  # of the task
    speed_up: float  # over the first method of the same task


def compared(task: Task, methods: Mapping[str, Callable[[], object]], device: torch.device) -> list[MethodTiming]:
    """Measure every method; the first is what the others are compared with."""
    floor = floor_ms(task.least_bytes, task.least_operations, device)
    rows: list[MethodTiming] = []
    for name, run in methods.items():
        timed = timing(run, device)
        first_ms = rows[0].timed.median_ms if rows else timed.median_ms
        rows.append(MethodTiming(task.name, name, timed, peak_mb(run, device), floor, first_ms / timed.median_ms))
    return rows


def compared_in_turns(
    task: Task, methods: Mapping[str, Callable[[], object]], device: torch.device
) -> list[MethodTiming]:
    """As `compared`, one run of each method after the other: what else a machine does falls on all of them alike."""
    floor = floor_ms(task.least_bytes, task.least_operations, device)
    timed = timed_in_turns(list(methods.values()), device)
    return [
        MethodTiming(task.name, name, own, peak_mb(run, device), floor, timed[0].median_ms / own.median_ms)
        for (name, run), own in zip(methods.items(), timed, strict=True)
    ]


def comparison_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows as a table for the terminal."""
    caption = "median (quartiles); floor: least traffic as one copy or least arithmetic as one product of matrices"
    table = Table(title=title, caption=caption)
    for heading in ("task", "method"):
        table.add_column(heading)
    for heading in ("ms", "p95 ms", "processor ms", "MB", "floor ms", "x floor", "x faster"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["task"],
            row["method"],
            span(row["timed"]),
            f"{row['timed']['p95_ms']:.2f}",
            f"{row['timed']['processor_ms']:.2f}",
            f"{row['peak_mb']:.1f}",
            f"{row['floor_ms']:.3f}",
            f"{row['timed']['median_ms'] / row['floor_ms']:.1f}",
            f"{row['speed_up']:.1f}",
        )
    return table
