"""Time and memory of the parts: the subcommand `benchmark`."""

from pathlib import Path
from typing import Annotated

import typer

from bevfusion.cli.options import wide_console


def benchmark(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="Which; all by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="both, if there")] = None,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there, too.")] = None,
) -> None:
    """Measure time and memory of the parts against what the hardware could do; an unknown SUITE lists them."""
    from bevfusion.benchmark.run import benchmark as measure
    from bevfusion.benchmark.run import rich_tables, write_json

    measured = measure(suites or [], device)
    for table in rich_tables(measured):
        wide_console(150).print(table)
    if report is not None:
        write_json(report, measured)
