"""Subcommands that score: `evaluate` and `compare`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bevfusion.cli.options import Checkpoint, Maps, wide_console

if TYPE_CHECKING:
    from bevfusion.datasets.drive import Drive

ODOMETRIES, PARTS = ("log", "kiss-icp", "truth"), ("lidar", "gnss", "imu", "odometry")


def evaluate(
    checkpoint: Checkpoint,
    drives: Annotated[
        list[Path],
        typer.Argument(
            metavar="DRIVE",
            help="A ROS bag (.bag, .db3, .mcap, folder), a folder of scans with poses, or a drive of KITTI raw, "
            "KITTI odometry, KITTI-360, nuScenes or Argoverse 2; known by its path.",
        ),
    ],
    maps: Maps,
    offset_m: Annotated[float, typer.Option(help="The prior lies within this of the truth, east and north.")] = 20.0,
    offset_deg: Annotated[float, typer.Option(help="The same for its heading; 180: any heading.")] = 10.0,
    draws: Annotated[int, typer.Option(min=1, help="Priors drawn for each frame.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    mode: Annotated[
        str,
        typer.Option(
            help="single: each frame on its own. filter: each drive as a sequence, from a prior for its first frame. "
            "global: the same without any prior, searching the whole map."
        ),
    ] = "single",
    odometry: Annotated[
        str,
        typer.Option(
            help="log: what the drive carries, and KISS-ICP for sequences where it carries none. kiss-icp: always. "
            "truth: made from its true poses, with noise, for experiments."
        ),
    ] = "log",
    topic: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=NAME", help="ROS topic of a part (lidar, gnss, imu, odometry) that is not unique."),
    ] = None,
    deskew: Annotated[bool, typer.Option(help="Undo the vehicle's motion during a turn where points carry times.")] = (
        True
    ),
    output: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/evaluation/NAME-DATE-TIME")] = None,
) -> None:
    """Score a checkpoint on drives with ground truth.

    Writes report.html, metrics.json, predictions.csv, trajectories (.tum) and plots.
    """
    from bevfusion.datasets.logged import LogOptions
    from bevfusion.datasets.open import open_drive
    from bevfusion.evaluation.run import Protocol
    from bevfusion.evaluation.run import evaluate as run_evaluation
    from bevfusion.evaluation.table import print_table
    from bevfusion.localizer import describe_checkpoint, open_locator
    from bevfusion.maps.source import open_map

    described = describe_checkpoint(checkpoint)
    readout = str(described.get("readout", "argmax"))
    try:
        protocol = Protocol(mode, offset_m, offset_deg, draws, seed, readout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    folder = output or Path("runs/evaluation") / f"{Path(checkpoint).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    options = LogOptions(deskew=deskew, topics=parse_topics(topic or []))
    opened = [open_drive(path, options) for path in drives]
    report = run_evaluation(
        lambda source: open_locator(checkpoint, source),
        [_with_odometry(drive, odometry, mode != "single", seed, folder) for drive in opened],
        [open_map(path) for path in maps],
        protocol,
        folder,
        described,
    )
    print_table(report)
    typer.echo(f"report in {folder}")


def compare(
    run_a: Annotated[
        Path, typer.Argument(metavar="RUN_A", exists=True, file_okay=False, help="A folder that evaluate has written.")
    ],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", exists=True, file_okay=False, help="Another.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write comparison.md and comparison.png there.")
    ] = None,
) -> None:
    """Set two evaluation runs side by side, on the frames that both answered: differences and their 95 % intervals."""
    from bevfusion.evaluation.compare import compare as compare_runs
    from bevfusion.evaluation.compare import read_run
    from bevfusion.evaluation.side_by_side import about, rich_table, write_comparison

    comparison = compare_runs(read_run(run_a), read_run(run_b))
    wide_console().print(rich_table(comparison))
    for sentence in about(comparison):
        typer.echo(sentence)
    if output is not None:
        write_comparison(output, comparison)
        typer.echo(f"comparison in {output}")


def _with_odometry(drive: "Drive", odometry: str, sequence: bool, seed: int, folder: Path) -> "Drive":
    """The drive with the odometry that was asked for; KISS-ICP keeps its poses beside the report."""
    if odometry not in ODOMETRIES:
        raise typer.BadParameter(f"--odometry is one of {', '.join(ODOMETRIES)}, got {odometry!r}")
    if odometry == "truth":
        from bevfusion.evaluation.sequence import TruthOdometry

        return TruthOdometry(drive, seed)
    if odometry == "log" and (drive.odometry != "none" or not sequence):
        return drive
    from bevfusion.datasets.odometry import with_kiss_icp
    from bevfusion.progress import frame_progress

    with frame_progress(f"odometry of {drive.name}", len(drive)) as show:
        return with_kiss_icp(drive, folder.with_name(folder.name + "-odometry"), show)


def parse_topics(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(part, topic) of each PART=NAME.

    Raises:
        typer.BadParameter: if one is not that.
    """
    pairs = [tuple(word.split("=", 1)) for word in words]
    for word, pair in zip(words, pairs, strict=True):
        if len(pair) != 2 or pair[0] not in PARTS or not pair[1]:
            raise typer.BadParameter(f"--topic expects PART=NAME with a part of {', '.join(PARTS)}, got {word!r}")
    return tuple((pair[0], pair[1]) for pair in pairs)
