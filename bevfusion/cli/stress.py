"""The subcommand `stress`: how answers worsen as the street gets harder."""

import logging
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from bevfusion.cli import completion
from bevfusion.cli.options import (
    Checkpoint,
    Columns,
    Extrinsics,
    MapError,
    Topics,
    Truth,
    log_options,
    refuse_to_replace,
)

log = logging.getLogger(__name__)

ONE_MAP = typer.Option("--map", metavar="MAP", help="Map file, as of `evaluate`; one.")


def stress(
    checkpoint: Checkpoint,
    drive: Annotated[Path, typer.Argument(metavar="DRIVE", help="With true poses, as of `evaluate`.")],
    map_path: Annotated[Path, ONE_MAP],
    other_map: Annotated[
        Path | None,
        typer.Option(metavar="MAP", help="Asked in place of the map, as one more factor: one that lacks a street."),
    ] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this factor; may be repeated.",
            show_default="all",
            autocompletion=completion.factors,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Scans a level, evenly spread over the drive.")] = 10,
    sequence: Annotated[int, typer.Option(min=2, help="Frames of a sequence, where odometry gets worse.")] = 20,
    offset_m: Annotated[float, typer.Option(help="As of `evaluate`.")] = 20.0,
    offset_deg: Annotated[float, typer.Option(help="As of `evaluate`.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    beside: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A stress.json of another checkpoint, drawn beside; may be repeated."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/stress/NAME-DATE-TIME")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")] = False,
    plots: Annotated[bool, typer.Option(help="Draw; without, the report has tables alone.")] = True,
    map_error_m: MapError = 1.0,
    topic: Topics = None,
    extrinsics: Extrinsics = None,
    truth: Truth = None,
    columns: Columns = None,
) -> None:
    """Make a drive harder, one factor at a time and a few together, and see how the answers fare.

    Position, heading, direction and the verdict apart; traffic, weaker sensors, weather, wrong mounts, wrong maps,
    bad GNSS and odometry. Writes stress.json, stress.html and pictures of the curves. Ctrl-C keeps the curves that are
    complete.
    """
    from bevfusion.datasets.open import open_drive
    from bevfusion.evaluation.protocol import Protocol
    from bevfusion.evaluation.stress import Curve, StressTest
    from bevfusion.evaluation.stress_factors import chosen
    from bevfusion.evaluation.stress_report import read_section, section_of, write_stress
    from bevfusion.extras import is_installed
    from bevfusion.files import check_writable
    from bevfusion.localizer import describe_checkpoint, filter_config, open_locator
    from bevfusion.maps.source import open_map
    from bevfusion.progress import frame_progress

    asked = chosen(factor or [], other_map)
    others = [read_section(path) for path in beside or []]
    try:
        protocol = Protocol("single", offset_m, offset_deg, 1, seed, 1, map_error_m)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    folder = output or Path("runs/stress") / f"{Path(checkpoint).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    refuse_to_replace([folder / "stress.json"], overwrite)
    check_writable(folder)
    if plots and not is_installed("matplotlib"):
        log.warning("the report has tables alone: pip install 'bevfusion[report]' for pictures")
        plots = False
    described = describe_checkpoint(checkpoint)
    source = open_map(map_path)
    opened = open_drive(drive, log_options(topic, extrinsics, truth, columns))
    opened.summary.log(log)
    test = StressTest(
        lambda on_map: open_locator(checkpoint, on_map),
        opened,
        source,
        protocol,
        filter_config(checkpoint),
        frames=frames,
        sequence=sequence,
        open_map=open_map,
    )
    about = {
        "checkpoint": described,
        "drive": opened.name,
        "map": source.name,
        "scans": test.scans,
        "sequence": min(sequence, len(opened)),
        "offset_m": offset_m,
        "offset_deg": offset_deg,
        "seed": seed,
    }
    curves: list[Curve] = []
    total, done = test.questions(asked), 0
    try:
        with frame_progress(f"stress {opened.name}", total) as show:

            def more(count: int) -> None:
                nonlocal done
                done += count
                show(done, total)

            for one in asked:
                curves.append(test.curve(one, more))
    except KeyboardInterrupt:
        write_stress(folder, section_of(curves, about), others, plots=False)
        log.warning("interrupted: %d of %d curves are kept in %s", len(curves), len(asked), folder)
        raise
    write_stress(folder, section_of(curves, about), others, plots=plots)
    typer.echo(f"{len(curves)} curves in {folder}")
