"""What a log and a map are made of: the subcommand `info`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bevfusion.cli.options import Columns, Extrinsics, Topics, Truth, log_options

HEADINGS = {
    "used": "taken",
    "assumed": "assumed",
    "ignored": "left on purpose",
    "lost": "lost",
    "warning": "looks wrong",
}


def info(
    drive: Annotated[Path, typer.Argument(metavar="DRIVE", help="Any drive that evaluate takes.")],
    topic: Topics = None,
    extrinsics: Extrinsics = None,
    truth: Truth = None,
    columns: Columns = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what a drive is made of: topics or files, frames, clock, rate, shares with truth, GNSS and odometry."""
    from bevfusion.datasets.open import open_drive

    opened = open_drive(drive, log_options(topic, extrinsics, truth, columns))
    summary = opened.summary
    if as_json:
        typer.echo(json.dumps({"frames": len(opened), "odometry": opened.odometry, **summary.as_dict()}, indent=2))
        return
    typer.echo(f"{summary.source}: {len(opened)} frames, odometry: {opened.odometry}")
    for kind, heading in HEADINGS.items():
        notes = [note for note in summary.notes if note.kind == kind]
        if notes:
            typer.echo(f"\n{heading}:")
        for note in notes:
            typer.echo(f"  {note.line()}")
