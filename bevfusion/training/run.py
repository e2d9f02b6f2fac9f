"""From a configuration to calibrated weights: drives, network, fit, best checkpoint, and what comes after.

A run goes on as if it had never been stopped, or to more steps than it was begun for.

What is learned last fits what it was learned from most closely, simulation here. Part of the way back, networks that
began with good weights keep most of what they learned, and are more at ease with what is unlike it: Wortsman et al.,
Robust Fine-Tuning of Zero-Shot Models, CVPR 2022, equation 1.
"""

import copy
import logging
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor, nn

from bevfusion.build import bev_grid, build_model, search_window, tile_grid, voxel_grid
from bevfusion.checkpoint import load_weights, save_checkpoint
from bevfusion.config import Config, ConfigError, Role, load_config
from bevfusion.datasets.directions import Directions
from bevfusion.datasets.samples import PoseSamples, Variation
from bevfusion.direction.targets import Asking
from bevfusion.files import check_writable
from bevfusion.localizer import CHECKPOINT_NAME, read_weights
from bevfusion.machine import available_cores, hardware
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.progress import frame_progress
from bevfusion.structures import Batch, DataError
from bevfusion.training.calibration import calibrate
from bevfusion.training.data import PoseData, worker_count
from bevfusion.training.drives import drives_for, prepare_drives, ways_for
from bevfusion.training.module import TrainingModule
from bevfusion.training.throughput import Throughput

log = logging.getLogger(__name__)
CONFIG_NAME = "config.yaml"  # of a run's folder
CHECKPOINTS = "checkpoints"  # the folder in it, of what a run can go on from
Evaluate = Callable[[Config, Path], None]
"""Scores the run in a folder on its test drives (`evaluation.trained.evaluate_run`)."""


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


def check_resumed(config: Config, before: Path, resume: Path) -> None:
    """Whether a run may go on: with the same configuration, or with more steps and otherwise the same.

    Args:
        config: to go on with.
        before: the configuration that the run was begun with.
        resume: the checkpoint, for messages.

    Raises:
        DataError: if it may not.
    """
    begun = load_config(before)
    if begun == config:
        return
    steps = begun.train.steps
    same_steps = config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
    if same_steps != begun:
        raise DataError(
            f"{resume}: was made with another configuration, see {before}; nothing but train.steps may be changed"
        )
    if config.train.steps < steps:
        raise DataError(f"{resume}: a run of {steps} steps may be given more of them, not {config.train.steps}")


class PlannedRate(L.Callback):
    """The learning rate at the first step of a resumed run is the one that the plan of its steps has there.

    A checkpoint brings the rate of the plan that it was made with, which is zero at the end of a finished run; from
    the second step on the scheduler would say otherwise. Where both plans are the same nothing happens.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the rate right, and say from which to which."""
        for planned in trainer.lr_scheduler_configs:
            scheduler: Any = planned.scheduler
            step, groups = scheduler.last_epoch, scheduler.optimizer.param_groups
            rates = [base * rate(step) for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
            before = groups[0]["lr"]
            if rates[0] == before:
                continue
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            log.info(
                "goes on at step %d: the learning rate was %.2e there by the plan of fewer steps; it is %.2e now and "
                "falls to zero along the cosine of the longer run, at step %s",
                step,
                before,
                rates[0],
                getattr(pl_module, "steps", "last"),
            )


@torch.no_grad()
def blend(model: nn.Module, begun: Mapping[str, Tensor], share: float) -> None:
    """Take a trained network part of the way back.

    Args:
        model: trained; changed in place.
        begun: its weights before training, of the same names and shapes.
        share: of what training changed that stays: 1 leaves the network as it is, 0 undoes training. Counters stay.
    """
    for name, trained in model.state_dict().items():
        if trained.is_floating_point():
            trained.lerp_(begun[name].to(trained), 1.0 - share)


def train(
    config: Config, output: Path | None = None, resume: Path | None = None, *, evaluate: Evaluate | None = None
) -> Path:
    """Train a network and leave everything about it in one folder.

    Args:
        config: what to train on what.
        output: the run's folder, `runs/NAME` by default; with `resume`, the folder of that run.
        resume: a `last.ckpt` of an earlier run with the same configuration, but for more steps perhaps.
        evaluate: called once the weights are written, by the first of several processes alone; None: no evaluation.

    Returns:
        The weights of the best validation, blended and calibrated: `model.safetensors` in the folder.

    Raises:
        DataError: if a map or checkpoint cannot be used.
        NonFiniteLossError: if training diverges.
    """
    began, provenance = time.monotonic(), _provenance(config)
    _quiet_lightning()
    folder = _run_folder(config, output, resume)
    check_writable(folder)
    L.seed_everything(config.seed, workers=True, verbose=False)
    module = _module(config)  # first, since it knows of a wrong configuration at once
    loggers = make_loggers(config, folder)  # and these of a missing package
    initial = copy.deepcopy(module.model.state_dict())
    prepare_drives(config)
    data = _data(config)
    trainer, best = _trainer(config, folder, data.workers, loggers)
    _write_config(config, folder)
    device, workers = trainer.strategy.root_device, data.workers
    log.info(
        "training on %s, %s, samples from %d processes; everything goes to %s",
        device,
        trainer.precision,
        workers,
        folder,
    )
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as error:  # what Lightning makes of an interruption
        last = folder / CHECKPOINTS / "last.ckpt"
        kept = f"goes on from {last} with --resume" if last.is_file() else "nothing is kept before the first validation"
        log.warning("interrupted: %s", kept)
        raise KeyboardInterrupt from error
    chosen = best.best_model_path or folder / CHECKPOINTS / "last.ckpt"
    state = torch.load(chosen, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    blend(module.model, initial, config.train.blend)
    path = folder / CHECKPOINT_NAME
    if trainer.is_global_zero:
        if "match" not in config.train.freeze:
            provenance |= _calibrate(module, data, device)
        provenance["hours"] = f"{(time.monotonic() - began) / 3600.0:.2f}"
        save_checkpoint(path, module.model, config, provenance, module.model.map_encoder.layers)
        if evaluate is not None:
            evaluate(config, folder)
    return path


def _calibrate(module: TrainingModule, data: PoseData, device: torch.device) -> dict[str, str]:
    """Make beliefs as sure as they are right on the validation drives; what that took, in words of the origin."""
    batches = data.val_dataloader()
    with frame_progress("calibrating", len(batches)) as show:

        def shown() -> Iterator[Batch]:
            for number, batch in enumerate(batches):
                yield batch.to(device)
                show(number + 1, len(batches))

        width = calibrate(module.model.to(device), shown(), module.window)
    blur_m = math.sqrt(width.blur_cells2) * module.window.cell_m
    taken = {"sharpened": f"{width.sharpness:.2f}", "blurred_m": f"{blur_m:.2f}"}
    log.info(
        "beliefs are %(sharpened)s times as sharp and blurred by %(blurred_m)s m now: so sure they are right on the "
        "validation drives",
        taken,
    )
    return taken


def _quiet_lightning() -> None:
    """Keep its progress bar, drop its advertisements and the remarks on its own internals."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def _data(config: Config) -> PoseData:
    train = config.train

    def samples(role: Role, variation: Variation, *, contrast: bool) -> PoseSamples:
        return PoseSamples(
            drives_for(config, role),
            bev_grid=bev_grid(config),
            tile_grid=tile_grid(config, config.search.offset_m),
            slices_m=config.bev.slices_m,
            offset_m=config.search.offset_m,
            offset_rad=math.radians(config.search.offset_deg),
            variation=variation,
            seed=config.seed,
            voxel_grid=voxel_grid(config),
            contrast_stride=config.model.stride if contrast and config.model.heads.road_contrast else None,
            directions=_directions(config, role),
        )

    return PoseData(
        # the network learns to do without what the ground says by itself; validation and calibration count it
        samples("train", Variation(**dict(config.augment)), contrast=False),
        samples("val", Variation(), contrast=True),
        batch_size=train.batch_size,
        steps_per_epoch=train.validate_every,
        workers=worker_count(train.workers, _gpus(config)),
    )


def _directions(config: Config, role: Role) -> Directions | None:
    """What the direction head is asked; None without one."""
    if not config.model.heads.direction:
        return None
    return Directions(ways_for(config, role), bev_grid(config).coarser(config.model.stride), Asking())


def _gpus(config: Config) -> int:
    """How many this machine trains on."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return there if config.train.devices == "auto" else min(there, config.train.devices)


def _module(config: Config) -> TrainingModule:
    train = config.train
    if train.compile:
        _check_compiler()
    begun = read_weights(train.weights) if train.weights else None
    layers = LAYER_NAMES if begun is None else begun.layers
    model = build_model(config, layers)
    if begun is not None:
        load_weights(model, begun.weights, f"train.weights = {train.weights}", may_lack="direction")
        unused = [name for name in LAYER_NAMES if name not in layers]
        if unused:
            log.warning("train.weights = %s knows nothing of the map's %s: left out", train.weights, ", ".join(unused))
    return TrainingModule(
        model,
        search_window(config, config.search.offset_m, math.radians(config.search.offset_deg)),
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        warmup_steps=train.warmup_steps,
        steps=train.steps,
        check_weight=train.check_weight,
        auxiliary_weight=train.auxiliary_weight,
        direction_weight=train.direction_weight,
        freeze=train.freeze,
        compiled=train.compile,
    )


def _check_compiler() -> None:
    """Compile next to nothing, to know at once whether it can be done.

    Raises:
        ConfigError: if it cannot: there is no C++ compiler, no Python header, no Triton for the GPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.compile(torch.square)(torch.ones(2, device=device))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"train.compile: torch.compile does not work here: {reason}") from error


def _trainer(config: Config, folder: Path, workers: int, loggers: list[Logger]) -> tuple[L.Trainer, ModelCheckpoint]:
    train = config.train
    # Checkpoints are taken between epochs, after validation: from there a resumed run goes on bit for bit.
    checkpoints = folder / CHECKPOINTS
    best = ModelCheckpoint(checkpoints, "best", monitor="val_loss", save_on_train_epoch_end=True)
    # a callback of its own: the `save_last` of `best` writes nothing after an epoch that is no better
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    precision = train.precision
    if precision == "auto":
        precision = "bf16-mixed" if torch.cuda.is_available() else "32-true"
    log_every = min(10, train.validate_every)
    rates = [LearningRateMonitor()] if loggers else []
    trainer = L.Trainer(
        max_epochs=train.steps // train.validate_every,
        devices=train.devices,
        precision=precision,
        gradient_clip_val=train.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        callbacks=[best, last, PlannedRate(), *rates, Throughput(log_every, workers, available_cores())],
        logger=loggers,
        enable_model_summary=False,
    )
    return trainer, best


def _run_folder(config: Config, output: Path | None, resume: Path | None) -> Path:
    """The folder to write into: never one that holds another run."""
    if resume is not None:
        if not resume.is_file():
            raise DataError(f"{resume}: no such checkpoint to resume from (a run keeps checkpoints/last.ckpt)")
        before = resume.resolve().parent.parent
        if (before / CONFIG_NAME).is_file():
            check_resumed(config, before / CONFIG_NAME, resume)
        return output or before
    folder = output or Path("runs") / config.name
    number = 2
    while output is None and folder.exists():
        folder = Path("runs") / f"{config.name}-{number}"
        number += 1
    if (folder / CHECKPOINT_NAME).exists():
        raise DataError(f"{folder}: holds a finished run; name another --output or remove it")
    return folder


def _write_config(config: Config, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _provenance(config: Config) -> dict[str, str]:
    """Where weights come from: enough to make them again. Asked for at the start: the code may change meanwhile."""
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    machine = hardware()
    return {
        "commit": git.stdout.strip() or "unknown",
        "seed": str(config.seed),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores",
        "command": " ".join(sys.argv),
        "torch": str(machine["torch"]),
    }
