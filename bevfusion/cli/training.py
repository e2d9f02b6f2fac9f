"""Subcommands that train: `train` and `ablate`."""

from pathlib import Path
from typing import Annotated

import typer

from bevfusion.cli import completion
from bevfusion.cli.options import fail


def train(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            autocompletion=completion.configs,
            help="YAML file, or one that ships by its name, e.g. fusion_cbam.",
        ),
    ],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/NAME")] = None,
    resume: Annotated[Path | None, typer.Option(exists=True, help="last.ckpt of the run to go on with.")] = None,
) -> None:
    """Train a network as a configuration says."""
    from bevfusion.config import load_config

    loaded = load_config(config, overrides or [])  # before torch: a misspelt key is answered at once
    from bevfusion.extras import needs

    with needs("train", "training"):
        from bevfusion.evaluation.trained import evaluate_run
        from bevfusion.training.module import NonFiniteLossError
        from bevfusion.training.run import train as run_training

    try:
        run_training(loaded, output, resume, evaluate=evaluate_run)
    except NonFiniteLossError as error:
        raise typer.Exit(fail(str(error), status=1)) from error


def ablate(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            autocompletion=completion.configs,
            help="YAML file, or one that ships by its name, e.g. ablation.",
        ),
    ],
    attention: Annotated[
        str, typer.Option(metavar="all|NAME,NAME", help="Which mechanisms; own is CONFIG's, in each slot.")
    ] = "all",
    slots: Annotated[
        str,
        typer.Option(
            help="In which slots (fusion, refine, or blocks: inside the residual blocks of the encoders); the others "
            "stay as in CONFIG."
        ),
    ] = "fusion,refine",
    seeds: Annotated[str, typer.Option(help="Each mechanism is trained once with every seed.")] = "0,1,2",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    drives: Annotated[
        list[Path] | None,
        typer.Option(
            "--drive", metavar="DRIVE", help="A recorded drive with labels: traffic and attention there, too."
        ),
    ] = None,
    maps: Annotated[list[Path] | None, typer.Option("--map", metavar="MAP", help="Of these drives.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder.", show_default="runs/ablation-NAME")] = None,
) -> None:
    """Train one pipeline with every attention mechanism and compare; finished runs in the folder are not repeated."""
    from bevfusion.config import load_config
    from bevfusion.datasets.open import open_drive
    from bevfusion.extras import needs
    from bevfusion.maps.source import open_map

    loaded = load_config(config, overrides or [])
    numbers = [word.strip() for word in seeds.split(",")]
    if not all(number.isdigit() for number in numbers):
        raise typer.BadParameter(f"--seeds are whole numbers from 0 on, as in 0,1,2; got {seeds!r}")
    with needs("train", "training"):
        from bevfusion.evaluation.trained import ABLATION_SCORING, on_maps
        from bevfusion.training.ablation import ablate as run_ablation

    logs = on_maps([open_drive(path) for path in drives or []], [open_map(path) for path in maps or []])
    folder = output or Path("runs") / f"ablation-{loaded.name}"
    failed = run_ablation(
        loaded,
        attention,
        [slot.strip() for slot in slots.split(",")],
        list(map(int, numbers)),
        folder,
        ABLATION_SCORING,
        logs,
    )
    typer.echo(f"tables in {folder}")
    if failed:
        typer.echo(f"{len(failed)} runs failed, see {folder / 'ablation.md'}", err=True)
        raise typer.Exit(1)
