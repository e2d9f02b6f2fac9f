"""Networks for other runtimes: the subcommand `export`."""

from pathlib import Path
from typing import Annotated

import typer

from bevfusion.cli.options import Checkpoint, wide_console


def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(metavar="FILE", help="model.onnx, or model.pt2 for torch.export.")],
    offset_m: Annotated[float, typer.Option(min=0.5, help="The prior may be so far off, along both axes.")] = 20.0,
    offset_deg: Annotated[float, typer.Option(min=0.5, max=180.0, help="And turned by so much.")] = 10.0,
) -> None:
    """Write the whole network, raster and matching included, as one graph that takes any number of points."""
    from bevfusion.export.write import write_export

    write_export(checkpoint, output, offset_m, offset_deg)
    wide_console().print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, +-{offset_m:g} m, +-{offset_deg:g} degrees")
