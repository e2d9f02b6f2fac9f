"""Where the numbers of a run go while it trains: loggers by the names that Lightning gives them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from bevfusion.config import Config, ConfigError


def make_loggers(config: Config, folder: Path) -> list[Logger]:
    """The loggers of a configuration.

    Args:
        config: of the run.
        folder: of the run; a resumed run writes its CSV beside the earlier one.

    Raises:
        ConfigError: if a package is missing.
    """
    loggers = []
    for name in dict.fromkeys(config.train.loggers):
        try:
            loggers.append(LOGGERS[name](config, folder))
        except ImportError as error:
            raise ConfigError(
                f"train.loggers: {name} needs a package that is missing: pip install 'bevfusion[{name}]'"
            ) from error
    return loggers


def _csv(config: Config, folder: Path) -> Logger:
    sittings = len(list(folder.glob("csv*")))
    return CSVLogger(folder, f"csv-{sittings + 1}" if sittings else "csv", version="")


def _tensorboard(config: Config, folder: Path) -> Logger:
    return TensorBoardLogger(folder, "tensorboard", version="")


def _wandb(config: Config, folder: Path) -> Logger:
    """Project, entity and whether it is online are said by WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE."""
    return WandbLogger(name=config.name, save_dir=folder)


def _mlflow(config: Config, folder: Path) -> Logger:
    """The server is said by MLFLOW_TRACKING_URI; without, runs go into the folder."""
    return MLFlowLogger(experiment_name=config.name, save_dir=str(folder / "mlflow"))


LOGGERS: Mapping[str, Callable[[Config, Path], Logger]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
