"""The command line: `bevfusion SUBCOMMAND`, and the same behind `tools/*.py`.

Everything heavy is imported inside the commands, so that help appears at once. `main` turns what users can mend into
one line on standard error and exit status 2; every other exception is a bug and keeps its traceback.
"""

import json
import logging
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bevfusion.datasets.drive import Drive

BAD_INPUT = 2
# typer carries its own copy of click from 0.26 on: the base of its usage errors, whichever module it comes from
UsageProblem: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="bevfusion",
    help="Where on the map am I, and which way do I face? LiDAR localization against OpenStreetMap.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A .safetensors file, the folder of a training run, default (the weights that ship), or "
        "classical (the training-free matcher).",
    ),
]
Maps = Annotated[
    list[Path],
    typer.Option(
        "--map",
        exists=True,
        help="An OpenStreetMap extract (.osm, .osm.gz, .osm.bz2, .osm.pbf) or "
        "a georeferenced image. May be given several times: a frame takes the first that covers it.",
    ),
]
ODOMETRIES, PARTS = ("log", "kiss-icp", "truth"), ("lidar", "gnss", "imu", "odometry")
WINDOW_M, WINDOW_DEG, ANY_HEADING_DEG = 20.0, 10.0, 180.0


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", exists=True, dir_okay=False, help="YAML file, e.g. configs/small.yaml.")
    ],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/NAME")] = None,
    resume: Annotated[Path | None, typer.Option(exists=True, help="last.ckpt of the run to go on with.")] = None,
) -> None:
    """Train a network as a configuration says."""
    from bevfusion.config import load_config

    loaded = load_config(config, overrides or [])  # before torch: a misspelt key is answered at once
    from bevfusion.training.module import NonFiniteLossError
    from bevfusion.training.run import train as run_training

    try:
        run_training(loaded, output, resume)
    except NonFiniteLossError as error:
        raise typer.Exit(_fail(str(error), status=1)) from error


@app.command()
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
    """Score a checkpoint on drives with ground truth: a table, metrics.json, predictions.csv and plots."""
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


@app.command()
def locate(
    checkpoint: Checkpoint,
    scans: Annotated[list[Path], typer.Argument(metavar="SCAN", help="Single scans: .bin, .pcd, .ply, .npy, .las.")],
    maps: Maps,
    near: Annotated[
        str,
        typer.Option(
            metavar="LAT,LON[,HEADING_DEG]",
            help="Where to look: within 20 m along both axes. The heading counts counter-clockwise from east (0 east, "
            "90 north, -90 south; not a compass bearing) and is good to 10 degrees; without it every heading is "
            "tried. South and west are negative: --near=-33.9,18.4,90",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a scan on standard output.")] = False,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write pictures of attention and belief there.")
    ] = None,
) -> None:
    """Find scans on a map, given about where they were taken."""
    lat_deg, lon_deg, heading_deg = parse_near(near)
    from bevfusion.datasets.open import read_scan
    from bevfusion.geometry.geodesy import GeoPose
    from bevfusion.localizer import open_locator
    from bevfusion.maps.source import open_map
    from bevfusion.structures import DataError

    guess = GeoPose(lat_deg, lon_deg, math.radians(heading_deg or 0.0))
    offset_deg = ANY_HEADING_DEG if heading_deg is None else WINDOW_DEG
    sources = [open_map(path) for path in maps]
    priors = [source.frame.map_from_ego(guess) for source in sources]
    covering = [i for i, prior in enumerate(priors) if sources[i].covers(prior.x_m, prior.y_m)]
    if not covering:
        raise DataError(f"--near {near} lies on none of the maps ({', '.join(source.name for source in sources)})")
    source, prior = sources[covering[0]], priors[covering[0]]
    if explain is not None:
        from bevfusion.localizer import open_localizer

        network = open_localizer(checkpoint, source)
    locator = network if explain is not None else open_locator(checkpoint, source)
    answers: list[dict[str, Any]] = []
    for path in scans:
        scan = read_scan(path)
        estimate = locator.locate(scan, prior, WINDOW_M, math.radians(offset_deg))
        if explain is not None:
            from bevfusion.evaluation.explain import explain as write_pictures

            write_pictures(network, scan, prior, WINDOW_M, math.radians(offset_deg), explain, path.stem)
        pose, place = estimate.map_from_ego, source.frame.geo_pose(estimate.map_from_ego)
        answer = {
            "scan": str(path),
            "map": source.name,
            "lat": place.lat_deg,
            "lon": place.lon_deg,
            "heading_deg": math.degrees(place.yaw_rad),
            "x_m": pose.x_m,
            "y_m": pose.y_m,
            "covariance": estimate.covariance.tolist(),
            "confidence": estimate.confidence,
        }
        answers.append(answer)
        if as_json:
            typer.echo(json.dumps(answer))
    if not as_json:
        _print_answers(answers)


@app.command()
def simulate(
    source: Annotated[str, typer.Argument(metavar="MAP|town:SEED", help="A map file, or an invented town.")],
    output: Annotated[Path, typer.Option(help="Folder to create.")],
    sensor: Annotated[str, typer.Option(help="Which LiDAR; an unknown name lists all.")] = "hdl64e",
    frames: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the route, the traffic and the errors of the map.")] = 0,
    spacing_m: Annotated[float, typer.Option(help="Metres between frames.")] = 1.0,
) -> None:
    """Drive a simulated LiDAR through a map and write a KITTI raw drive with labels.

    Of a map file, the output folder becomes the drive.

    Of town:SEED, it receives the map town_SEED.osm.gz and the folder drive.
    """
    from bevfusion.datasets.simulated import map_file
    from bevfusion.maps.osm import read_osm
    from bevfusion.progress import frame_progress
    from bevfusion.simulate.drive import DriveOptions, simulate_drive

    options = DriveOptions(sensor=sensor, frames=frames, seed=seed, spacing_m=spacing_m)
    town = source.startswith("town:")
    map_path, folder = map_file(source, output), output / "drive" if town else output
    osm = read_osm(map_path)
    with frame_progress("simulate", frames) as show:
        simulate_drive(osm, folder, options, show)
    typer.echo(f"drive in {folder}" + (f", map {map_path}" if town else ""))


@app.command()
def benchmark(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="Which; all by default.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="both, if there")] = None,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there, too.")] = None,
) -> None:
    """Measure time and memory of the parts against what the hardware could do; an unknown SUITE lists them."""
    from bevfusion.benchmark import benchmark as measure
    from bevfusion.benchmark import rich_tables, write_json

    measured = measure(suites or [], device)
    for table in rich_tables(measured):
        _wide_console(150).print(table)
    if report is not None:
        write_json(report, measured)


@app.command()
def ablate(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", exists=True, dir_okay=False, help="YAML file, e.g. configs/small.yaml.")
    ],
    attention: Annotated[str, typer.Option(metavar="all|NAME,NAME", help="Which mechanisms.")] = "all",
    slots: Annotated[str, typer.Option(help="In which slots; the other stays as in CONFIG.")] = "fusion,refine",
    seeds: Annotated[str, typer.Option(help="Each mechanism is trained once with every seed.")] = "0,1,2",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/ablation-NAME")] = None,
) -> None:
    """Train one pipeline with every attention mechanism and compare; finished runs in the folder are not repeated."""
    from bevfusion.config import load_config

    loaded = load_config(config, overrides or [])
    numbers = [word.strip() for word in seeds.split(",")]
    if not all(number.isdigit() for number in numbers):
        raise typer.BadParameter(f"--seeds are whole numbers from 0 on, as in 0,1,2; got {seeds!r}")
    from bevfusion.training.ablation import ablate as run_ablation

    folder = output or Path("runs") / f"ablation-{loaded.name}"
    failed = run_ablation(
        loaded, attention, [slot.strip() for slot in slots.split(",")], list(map(int, numbers)), folder
    )
    typer.echo(f"tables in {folder}")
    if failed:
        typer.echo(f"{len(failed)} runs failed, see {folder / 'ablation.md'}", err=True)
        raise typer.Exit(1)


@app.command()
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
    _wide_console().print(rich_table(comparison))
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


def parse_near(text: str) -> tuple[float, float, float | None]:
    """Latitude, longitude and, if given, heading of LAT,LON[,HEADING_DEG]: degrees, counter-clockwise from east.

    Raises:
        typer.BadParameter: if it is not that.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not all(math.isfinite(number) for number in numbers):
        raise typer.BadParameter(f"--near expects LAT,LON[,HEADING_DEG] in degrees, e.g. 49.01,8.42,90, got {text!r}")
    if abs(numbers[0]) > 90.0 or abs(numbers[1]) > 180.0:
        raise typer.BadParameter(f"--near: latitude lies in -90 to 90, longitude in -180 to 180, got {text!r}")
    return numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None


def _print_answers(answers: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table()
    for title in ("scan", "lat", "lon", "heading (deg)", "x (m)", "y (m)", "std x, y (m), yaw (deg)", "confidence"):
        table.add_column(title, justify="left" if title == "scan" else "right")
    for answer in answers:
        std_x_m, std_y_m, std_rad = (math.sqrt(max(0.0, answer["covariance"][i][i])) for i in range(3))
        table.add_row(
            Path(answer["scan"]).name,
            f"{answer['lat']:.7f}",
            f"{answer['lon']:.7f}",
            f"{answer['heading_deg']:.1f}",
            f"{answer['x_m']:.2f}",
            f"{answer['y_m']:.2f}",
            f"{std_x_m:.2f}, {std_y_m:.2f}, {math.degrees(std_rad):.1f}",
            f"{answer['confidence']:.2f}",
        )
    _wide_console().print(table)


def _wide_console(width: int = 120) -> Any:
    """Standard output through rich; files and pipes get room for the whole table."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def main(subcommand: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status.

    Args:
        subcommand: run this one only (for `tools/*.py`).
        arguments: instead of `sys.argv[1:]`.

    Returns:
        0 done, 1 interrupted, 2 bad usage or bad input.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if subcommand is None and not words:
        words = ["--help"]
    command = typer.main.get_command(app)
    program = "bevfusion"
    if subcommand is not None:
        command, program = command.commands[subcommand], f"tools/{subcommand}.py"  # type: ignore[attr-defined]
    _log_to_stderr()
    try:
        status = command.main(words, prog_name=program, standalone_mode=False)
    except UsageProblem as error:
        return _fail(error.format_message())
    except typer.Abort:
        return _fail("interrupted", status=1)
    except ValueError as error:
        if not _is_users(error):
            raise
        return _fail(str(error))
    except OSError as error:
        if not _names_input(error.filename, words):
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int = BAD_INPUT) -> int:
    typer.echo("error: " + " ".join(message.split()), err=True)
    return status


def _is_users(error: ValueError) -> bool:
    """Whether an error tells of the user's input (imported here: both modules are heavier than help should be)."""
    from bevfusion.config import ConfigError
    from bevfusion.structures import DataError

    return isinstance(error, ConfigError | DataError)


def _names_input(filename: object, words: Sequence[str]) -> bool:
    """Whether a file is one that the command line names, or lies inside a folder that it names."""
    if not isinstance(filename, str | Path):
        return False
    named = {Path(word.rpartition("=")[2]).resolve() for word in words if word}
    path = Path(filename).resolve()
    return any(candidate in named for candidate in (path, *path.parents) if candidate != Path("/"))


def _log_to_stderr() -> None:
    """Messages of the package through rich, unless the program around has its own handlers."""
    if logging.getLogger().handlers:
        return
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
