"""Maps drawn to disk: the subcommand `tile`."""

from pathlib import Path
from typing import Annotated

import typer


def tile(
    extract: Annotated[
        Path,
        typer.Argument(
            metavar="MAP",
            exists=True,
            dir_okay=False,
            help="An OpenStreetMap extract (.osm, .osm.gz, .osm.bz2, .osm.pbf).",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="File to write, its suffix .tiles.")],
    cell_m: Annotated[float, typer.Option(min=0.05, max=10.0, help="As of the network that will use it.")] = 0.5,
) -> None:
    """Draw a whole map to disk, once: as --map, the file opens at once, however large the extract was."""
    from bevfusion.maps.tile_file import BLOCK_CELLS
    from bevfusion.maps.tiled import tile_extract
    from bevfusion.progress import frame_progress

    with frame_progress("tiles", 1) as show:
        made = tile_extract(extract, output, cell_m, show)
    rows, columns = made.contents.blocks
    typer.echo(f"{output}: {rows * columns} tiles of {BLOCK_CELLS * cell_m:g} m, {output.stat().st_size / 1e6:.1f} MB")
