"""Going on with a run: as if it had never been stopped, or to more steps than it was begun for."""

import logging
from pathlib import Path
from typing import Any

import lightning as L

from bevfusion.config import Config, load_config
from bevfusion.structures import DataError

log = logging.getLogger(__name__)


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
