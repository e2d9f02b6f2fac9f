"""The suites, and the report over them."""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table

from bevfusion.benchmark.attention import attention_rows, attention_table
from bevfusion.benchmark.bev import bev_rows
from bevfusion.benchmark.encoders import encoder_rows
from bevfusion.benchmark.matching import matching_rows, search_rows
from bevfusion.benchmark.measuring import comparison_table
from bevfusion.benchmark.step import step_rows
from bevfusion.benchmark.tiles import tiles_rows
from bevfusion.choices import meant
from bevfusion.files import write_text
from bevfusion.machine import hardware
from bevfusion.structures import DataError


class Suite(NamedTuple):
    """A subject: its rows (dataclasses) on a device, and how they look in a terminal."""

    rows: Callable[[torch.device], Sequence[Any]]
    table: Callable[[str, Sequence[Mapping[str, Any]]], Table]


# What can be measured: one line a suite.
SUITES: dict[str, Suite] = {
    "attention": Suite(attention_rows, attention_table),
    "matching": Suite(matching_rows, comparison_table),
    "bev": Suite(bev_rows, comparison_table),
    "tiles": Suite(tiles_rows, comparison_table),
    "step": Suite(step_rows, comparison_table),
    "search": Suite(search_rows, comparison_table),
    "encoders": Suite(encoder_rows, comparison_table),
}
_HARDWARE = {"cpu": "cpu", "cuda": "gpu"}  # keys of `hardware()`


def benchmark(suites: Sequence[str], device: str | None = None) -> dict[str, Any]:
    """Measure suites of `SUITES`.

    Args:
        suites: which; none are all.
        device: cpu or cuda; by default the CPU, and CUDA where there is one.

    Returns:
        What the JSON file holds: hardware, versions, and the rows by suite and device.

    Raises:
        DataError: if there is no such suite or device.
    """
    unknown = [name for name in suites if name not in SUITES]
    if unknown:
        raise DataError(
            f"no benchmark is called {unknown[0]!r}; there are {', '.join(SUITES)}{meant(unknown[0], SUITES)}"
        )
    devices = _devices(device)
    measured = {
        name: {kind: [asdict(row) for row in SUITES[name].rows(torch.device(kind))] for kind in devices}
        for name in suites or SUITES
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return {
        "hardware": hardware() | {"threads": torch.get_num_threads()},
        "versions": versions,
        "dtype": "float32",
        "command": " ".join(sys.argv),
        "suites": measured,
    }


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report of `benchmark`, for later comparison."""
    write_text(path, json.dumps(report, indent=2) + "\n")


def rich_tables(report: Mapping[str, Any]) -> list[Table]:
    """One table for each suite and device."""
    return [
        SUITES[suite].table(f"{suite} on {report['hardware'][_HARDWARE[device]]}", rows)
        for suite, devices in report["suites"].items()
        for device, rows in devices.items()
    ]


def _devices(device: str | None) -> list[str]:
    found = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if device is None:
        return found
    if device not in found:
        raise DataError(f"there is no device {device!r} here; there is {', '.join(found)}")
    return [device]
