"""The subcommand `gap`: simulated scans beside real ones."""

from pathlib import Path
from typing import Annotated

import typer

_SENSOR, _SPACING_M = "hdl64e", 15.0
_HILLS = (0.007, 0.03, 0.007, 0.06, 0.015)  # maps that are simulated take them in turn


def gap(
    real: Annotated[list[Path], typer.Argument(metavar="REAL_DRIVE...", help="Recorded drives, two at least.")],
    against: Annotated[
        list[str], typer.Option("--against", metavar="DRIVE|MAP|town:SEED", help="Simulated; once for each.")
    ],
    frames: Annotated[int, typer.Option(min=1, help="At most so many scans a drive.")] = 20,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there, too.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", metavar="FILE", help="Draw the numbers there.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder of drives that are simulated for this.")] = Path("data/cache"),
    seed: Annotated[int, typer.Option(min=0, help="Of simulation, crops and classifiers.")] = 0,
) -> None:
    """How far simulated scans are from real ones: shares of cells over range, and whether a classifier can tell.

    What is no folder is a map: a drive by an HDL-64E is simulated through it and kept in the cache.
    """
    import json

    from bevfusion.benchmark.gap import draw_gap, gap_json, gap_lines, measure_gap
    from bevfusion.config import BevConfig
    from bevfusion.datasets.open import open_drive
    from bevfusion.datasets.simulated import DriveRequest, make_drives, simulated_drive
    from bevfusion.files import check_writable, write_text
    from bevfusion.simulate.drive import DriveOptions

    for path in (report, picture):
        if path is not None:
            check_writable(path)
    requests = {}
    for number, source in enumerate(source for source in against if not Path(source).is_dir()):
        hills = _HILLS[number % len(_HILLS)]
        options = DriveOptions(sensor=_SENSOR, frames=frames, spacing_m=_SPACING_M, seed=seed, hills=hills)
        requests[source] = DriveRequest(source, options)
    recorded = [open_drive(path) for path in real]
    make_drives(list(requests.values()), cache)
    simulated = [
        simulated_drive(source, requests[source].options, cache) if source in requests else open_drive(Path(source))
        for source in against
    ]
    measured = measure_gap(recorded, simulated, BevConfig().slices_m, frames=frames, seed=seed)
    typer.echo("\n".join(gap_lines(measured)))
    if report is not None:
        write_text(report, json.dumps(gap_json(measured), indent=1) + "\n")
    if picture is not None:
        draw_gap(measured, picture)
