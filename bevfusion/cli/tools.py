"""Subcommands for a step of work each, without a pipeline behind: `tile`, `export`, `benchmark` and `view`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from bevfusion.cli import completion
from bevfusion.cli.options import Checkpoint, wide_console

log = logging.getLogger(__name__)


def tile(
    extract: Annotated[
        Path,
        typer.Argument(
            metavar="MAP",
            exists=True,
            help="An OpenStreetMap extract (.osm, .osm.gz, .osm.pbf, ...), or vector features (.gpkg, .geojson, ...).",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="File to write, its suffix .tiles.")],
    cell_m: Annotated[float, typer.Option(min=0.05, max=10.0, help="As of the network that will use it.")] = 0.5,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            autocompletion=completion.checkpoints,
            help="Also encode the map with this network, into a .features file beside: with --map FILE it is used by "
            "this checkpoint, and refused by others.",
        ),
    ] = None,
) -> None:
    """Draw a whole map to disk, once: as --map, the file opens at once, however large the extract was."""
    from bevfusion.files import check_writable
    from bevfusion.maps.tile_file import BLOCK_CELLS
    from bevfusion.maps.tiled import tile_extract
    from bevfusion.progress import frame_progress

    check_writable(output)
    try:
        with frame_progress("tiles", 1) as show:
            made = tile_extract(extract, output, cell_m, show)
    except KeyboardInterrupt:
        log.warning("interrupted: nothing is kept of %s; a file of before is as it was", output)
        raise
    rows, columns = made.contents.blocks
    typer.echo(f"{output}: {rows * columns} tiles of {BLOCK_CELLS * cell_m:g} m, {output.stat().st_size / 1e6:.1f} MB")
    if features is not None:
        from bevfusion.map_encoding import encode_tiles

        with frame_progress("features", 1) as show:
            encoded = encode_tiles(output, features, show)
        about, size = encoded.contents, encoded.path.stat().st_size
        typer.echo(f"{encoded.path}: {about.channels} channels in cells of {about.cell_m:g} m, {size / 1e6:.1f} MB")


def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(metavar="FILE", help="model.onnx, or model.pt2 for torch.export.")],
    offset_m: Annotated[float, typer.Option(min=0.5, help="The prior may be so far off, along both axes.")] = 20.0,
    offset_deg: Annotated[float, typer.Option(min=0.5, max=180.0, help="And turned by so much.")] = 10.0,
) -> None:
    """Write the whole network, raster and matching included, as one graph that takes any number of points."""
    from bevfusion.export.write import write_export
    from bevfusion.files import check_writable

    check_writable(output)
    write_export(checkpoint, output, offset_m, offset_deg)
    wide_console().print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, +-{offset_m:g} m, +-{offset_deg:g} degrees")


def benchmark(
    suites: Annotated[
        list[str] | None,
        typer.Argument(metavar="SUITE", help="Which; all by default.", autocompletion=completion.suites),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="both, if there")] = None,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers there, too.")] = None,
) -> None:
    """Measure time and memory of the parts against what the hardware could do; an unknown SUITE lists them."""
    from bevfusion.benchmark.run import benchmark as measure
    from bevfusion.benchmark.run import rich_tables, write_json
    from bevfusion.files import check_writable

    if report is not None:
        check_writable(report)
    measured = measure(suites or [], device)
    for table in rich_tables(measured):
        wide_console(150).print(table)
    if report is not None:
        write_json(report, measured)


def view(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", exists=True, help="A folder that evaluate --viewer has written, or an .rrd file."
        ),
    ],
) -> None:
    """Open recordings in the rerun viewer: scan, map, belief and attention over time."""
    from bevfusion.evaluation.viewer import show

    show(paths)
