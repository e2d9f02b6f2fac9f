"""Subcommands that score: `evaluate` and `compare`."""

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from bevfusion.choices import meant
from bevfusion.cli import completion
from bevfusion.cli.fetching import Overpass, places_of, with_fetched
from bevfusion.cli.options import (
    BAD_INPUT,
    ODOMETRIES,
    Checkpoint,
    Columns,
    Extrinsics,
    MapError,
    Maps,
    Overwrite,
    PrecisionChoice,
    Topics,
    Truth,
    fail,
    log_options,
    refuse_to_replace,
    wide_console,
)

log = logging.getLogger(__name__)


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
            autocompletion=completion.modes,
            help="single: each frame on its own. filter: each drive as a sequence, from a prior for its first frame. "
            "global: the same without any prior, searching the whole map. smooth: filter, then backwards, so that "
            "every frame knows of those after it; for logs, not for driving.",
        ),
    ] = "single",
    scans: Annotated[
        int,
        typer.Option(
            min=1,
            help="With --mode single: the last so many scans, put together by odometry, make one. Not for networks "
            "that were trained on single scans (augment.scans: 1).",
        ),
    ] = 1,
    odometry: Annotated[
        str,
        typer.Option(
            autocompletion=completion.odometries,
            help="log: what the drive carries, and KISS-ICP where it carries none and some is needed. kiss-icp: "
            "always. truth: made from its true poses, with noise, for experiments.",
        ),
    ] = "log",
    topic: Topics = None,
    extrinsics: Extrinsics = None,
    truth: Truth = None,
    deskew: Annotated[bool, typer.Option(help="Undo the vehicle's motion during a turn where points carry times.")] = (
        True
    ),
    classical: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="FRAMES",
            show_default="50",
            help="With --mode single: frames of each drive, evenly spread, that the training-free matcher is asked "
            "for, too, as a row to compare with; 0: none.",
        ),
    ] = None,
    traffic: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="FRAMES",
            help="With --mode single: frames of each drive, evenly spread, that are asked again with vehicles put onto "
            "the road and, where points are labelled, with all of them taken out: how far does the answer move?",
        ),
    ] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="filter.KEY=VALUE",
            help="Change a setting of the filter, e.g. filter.limits.speak=0.6; an unknown key is answered by the "
            "nearest.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/evaluation/NAME-DATE-TIME")] = None,
    map_error_m: MapError = 1.0,
    overwrite: Overwrite = False,
    start: Annotated[int, typer.Option(min=0, help="First frame of each drive, counted from 0.")] = 0,
    frames: Annotated[
        int | None, typer.Option(min=1, metavar="FRAMES", show_default="all", help="So many frames of each drive.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Every so many frames only.")] = 1,
    plots: Annotated[bool, typer.Option(help="Draw; without, the report has tables alone.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, each with a drive of its own.")] = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="A task a drive on the Ray cluster of RAY_ADDRESS, or on this machine.")
    ] = False,
    viewer: Annotated[
        bool, typer.Option("--viewer", help="Also write a recording (.rrd) of each drive, which `view` opens.")
    ] = False,
    precision: PrecisionChoice = "auto",
    overpass: Overpass = None,
    columns: Columns = None,
) -> None:
    """Score a checkpoint on drives with ground truth.

    Writes report.html, metrics.json, predictions.csv, runtimes.csv, trajectories (.tum) and plots. A drive that
    fails is reported and ends no other; the status is 2 then, and the same command with the same --output repeats only
    what failed.

    Ctrl-C keeps what was answered beside --output and says where; the status is 130, and the same command goes on.
    """
    from bevfusion.datasets.drive import FrameSelection
    from bevfusion.evaluation.jobs import INTERNAL
    from bevfusion.evaluation.protocol import CLASSICAL_FRAMES, AuxiliaryChecks, Protocol
    from bevfusion.evaluation.report import print_table
    from bevfusion.evaluation.run import evaluate_files
    from bevfusion.extras import is_installed
    from bevfusion.localizer import CLASSICAL, best_device, describe_checkpoint, filter_config
    from bevfusion.precision import chosen_precision, precision_named

    computing = chosen_precision(precision_named(precision), best_device())  # the same in all processes
    if odometry not in ODOMETRIES:
        raise typer.BadParameter(
            f"--odometry is one of {', '.join(ODOMETRIES)}, got {odometry!r}{meant(odometry, ODOMETRIES)}"
        )
    if traffic and mode != "single":
        raise typer.BadParameter(f"--traffic asks frames one by one, which is --mode single; got --mode {mode}")
    if plots and not is_installed("matplotlib"):
        log.warning("the report has tables alone: pip install 'bevfusion[report]' for pictures")
        plots = False
    described = describe_checkpoint(checkpoint)
    if checkpoint != CLASSICAL:
        described["precision"] = computing
    try:
        protocol = Protocol(mode, offset_m, offset_deg, draws, seed, scans, map_error_m)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if overrides and mode == "single":
        raise typer.BadParameter("--set changes the filter, and --mode single has none")
    if mode != "single":
        protocol = replace(protocol, filter=filter_config(checkpoint, overrides or []))
    folder = output or Path("runs/evaluation") / f"{Path(checkpoint).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    options = log_options(topic, extrinsics, truth, columns, deskew=deskew)
    report = evaluate_files(
        checkpoint,
        drives,
        with_fetched(maps, overpass, lambda: places_of(drives, options)),
        protocol,
        folder,
        described,
        options=options,
        odometry=odometry,
        selection=FrameSelection(start, frames, every),
        jobs=jobs,
        ray=ray,
        viewer=viewer,
        checks=AuxiliaryChecks(
            0 if checkpoint == CLASSICAL else CLASSICAL_FRAMES if classical is None else classical, traffic
        ),
        plots=plots,
        overwrite=overwrite,
        precision=computing,
    )
    print_table(report)
    typer.echo(f"report in {folder}")
    failed = report["failed"]
    if isinstance(failed, dict) and failed:
        told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        bug = any(str(reason).startswith(INTERNAL) for reason in failed.values())
        raise typer.Exit(fail(f"{len(failed)} of {len(drives)} drives failed: {told}", 1 if bug else BAD_INPUT))


def compare(
    run_a: Annotated[
        Path, typer.Argument(metavar="RUN_A", exists=True, file_okay=False, help="A folder that evaluate has written.")
    ],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", exists=True, file_okay=False, help="Another.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write comparison.md and comparison.png there.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Set two evaluation runs side by side, on the frames that both answered: differences and their 95 % intervals."""
    from bevfusion.evaluation.comparison import FILES, about, compare_runs, read_run, rich_table, write_comparison

    if output is not None:
        refuse_to_replace([output / name for name in FILES], overwrite)
    comparison = compare_runs(read_run(run_a), read_run(run_b))
    wide_console().print(rich_table(comparison))
    for sentence in about(comparison):
        typer.echo(sentence)
    if output is not None:
        write_comparison(output, comparison)
        typer.echo(f"comparison in {output}")
