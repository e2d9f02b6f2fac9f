"""Samples for training and validation, in the order that the seed says."""

import os
from typing import Literal

import lightning as L
from torch.utils.data import DataLoader

from bevfusion.datasets.samples import PoseSamples, collate
from bevfusion.machine import available_cores
from bevfusion.structures import Batch


def worker_count(asked: int | Literal["auto"], gpus: int) -> int:
    """Processes that prepare samples for one training process; how many there are does not change the samples.

    Args:
        asked: a number, or auto: with GPUs all cores but one, shared by the training processes of this machine, as
            torchrun counts them (one a GPU without it); without GPUs one, for the network needs the cores itself.
        gpus: that will be trained on.
    """
    if asked != "auto":
        return asked
    if gpus == 0:
        return 1
    return max(1, (available_cores() - 1) // int(os.environ.get("LOCAL_WORLD_SIZE", gpus)))


class PoseData(L.LightningDataModule):
    """Training samples by number: epoch e takes up where e - 1 ended, so a resumed run goes on as if never stopped."""

    def __init__(
        self, training: PoseSamples, validation: PoseSamples, *, batch_size: int, steps_per_epoch: int, workers: int
    ) -> None:
        """`training` holds the numbers of the whole run, `validation` the same samples for every epoch."""
        super().__init__()
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Batch]:
        """The samples of the current epoch (the trainer asks anew for each)."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("the data belong to no trainer yet")
        count = self.steps_per_epoch * self.batch_size * trainer.world_size
        first = trainer.current_epoch * count
        return self._loader(self.training.spanning(range(first, first + count)))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The same samples each time."""
        return self._loader(self.validation)

    def _loader(self, samples: PoseSamples) -> DataLoader[Batch]:
        return DataLoader(
            samples,
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=self.trainer is not None and self.trainer.accelerator.__class__.__name__ == "CUDAAccelerator",
        )
