"""Simulated drives: the subcommand `simulate`."""

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bevfusion.cli import completion

log = logging.getLogger(__name__)

_RENAMED = {"drawn_m": "map_noise_m", "swerve_m": "map_warp_m"}


def simulate(
    source: Annotated[str, typer.Argument(metavar="MAP|town:SEED", help="A map file, or an invented town.")],
    output: Annotated[Path, typer.Option(help="Folder to create.")],
    sensor: Annotated[
        str,
        typer.Option(
            autocompletion=completion.sensors,
            help="Which LiDAR, or a YAML file that describes one; an unknown name lists all.",
        ),
    ] = "hdl64e",
    frames: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the route, the traffic and the errors of the map.")] = 0,
    spacing_m: Annotated[float, typer.Option(help="Metres between frames.")] = 1.0,
    packed: Annotated[
        bool, typer.Option("--packed", help="Scans in a tenth of the space, to a centimetre; only read here.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="vehicles=2.5, missing=0.2, ...; an unknown key lists all."),
    ] = None,
) -> None:
    """Drive a simulated LiDAR through a map and write a KITTI raw drive with labels.

    Of a map file, the output folder becomes the drive.

    Of town:SEED, it receives the map town_SEED.osm.gz and the folder drive.
    """
    from bevfusion.datasets.simulated import map_file
    from bevfusion.maps.reading import read_features
    from bevfusion.progress import frame_progress
    from bevfusion.simulate.drive import DriveOptions, simulate_drive
    from bevfusion.simulate.sensor import sensor_choice

    options = DriveOptions(sensor=sensor_choice(sensor), frames=frames, seed=seed, spacing_m=spacing_m)
    options = replace(options, **_numbers(overrides or [], [field.name for field in fields(options)[4:]]))
    town = source.startswith("town:")
    map_path = Path(source) if Path(source).is_dir() else map_file(source, output)  # a folder may hold vector files
    folder = output / "drive" if town else output
    osm = read_features(map_path)
    done = 0

    def on_frame(number: int, count: int) -> None:
        nonlocal done
        done = number
        show(number, count)

    try:
        with frame_progress("simulate", frames) as show:
            simulate_drive(osm, folder, options, on_frame, packed=packed, keep_interrupted=True)
    except KeyboardInterrupt:
        told = f"{done} of {frames} frames are kept in {folder}" if done else "before the first frame; nothing is kept"
        log.warning("interrupted: %s", told)
        raise
    typer.echo(f"drive in {folder}" + (f", map {map_path}" if town else ""))


def _numbers(overrides: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Numbers by name, from KEY=VALUE.

    Raises:
        DataError: if a key is unknown or a value no number.
    """
    from bevfusion.structures import DataError

    numbers: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        if key in _RENAMED:
            log.warning("--set %s: '%s' is called '%s' now", override, key, _RENAMED[key])
            key = _RENAMED[key]
        if key not in known:
            raise DataError(f"--set {override}: expected one of {', '.join(f'{name}=NUMBER' for name in known)}")
        try:
            numbers[key] = int(text) if key == "columns" else float(text)
        except ValueError as error:
            raise DataError(f"--set {override}: expected a number after '{key}='") from error
    return numbers
