"""Whether the log tells a training that waits for data from one that does not; margins are wide."""

import csv
import logging
import time
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset

from bevfusion.datasets.samples import collate
from bevfusion.structures import Batch
from bevfusion.training.throughput import CudaClock, Stopwatch, Throughput, gpu_utilization

STEPS, SIZE, EVERY = 4, 2, 2


class Samples(Dataset):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return STEPS * SIZE

    def __getitem__(self, position: int) -> Batch:
        time.sleep(self.seconds)
        return Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1), torch.zeros(1, 3), None)


class Module(L.LightningModule):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        time.sleep(self.seconds)
        return (self.weight + batch.bev.sum()) ** 2

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        time.sleep(0.3)  # must not count

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trained(folder: Path, *, sample_s: float, step_s: float, workers: int = 0, cores: int = 4) -> list[dict[str, str]]:
    """Train two epochs on a CPU; the rows of the log that say something about speed."""
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        log_every_n_steps=EVERY,
        callbacks=[Throughput(EVERY, workers, cores)],
        logger=CSVLogger(folder, "csv", version=""),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    loader = DataLoader(Samples(sample_s), batch_size=SIZE, collate_fn=collate, num_workers=workers)
    trainer.fit(Module(step_s), loader, DataLoader(Samples(0.0), batch_size=SIZE, collate_fn=collate))
    assert {"samples_per_s", "waited_for_data"} <= trainer.progress_bar_metrics.keys()
    with (folder / "csv" / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["samples_per_s"]]


def test_a_training_that_waits_for_data_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        rows = trained(tmp_path, sample_s=0.4, step_s=0.0)
    assert [row["step"] for row in rows] == ["1", "3", "5", "7"]
    for row in rows[1:]:  # the very first step imports and allocates
        assert float(row["waited_for_data"]) > 60.0
        assert float(row["samples_per_s"]) < 1.0 / 0.4
    assert "more train.workers than 0 may help, there are 4 cores" in caplog.text


def test_a_training_that_is_fed_well_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        rows = trained(tmp_path, sample_s=0.0, step_s=0.8)
    assert len(rows) == 4
    for row in rows[1:]:
        assert float(row["waited_for_data"]) < 40.0
        assert float(row["samples_per_s"]) < SIZE / 0.8
    assert "trained on" in caplog.text


def test_no_advice_where_no_core_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        trained(tmp_path, sample_s=0.05, step_s=0.0, cores=0)
    assert "waited for data" in caplog.text
    assert "train.workers" not in caplog.text


class Queue:
    """A clock as CUDA's: marks have times, and are past once the device has come there."""

    def __init__(self, times: list[float]) -> None:
        self.times = iter(times)
        self.come_to = 0.0

    def mark(self) -> float:
        return next(self.times)

    def is_past(self, mark: float) -> bool:
        return mark <= self.come_to

    def seconds(self, earlier: float, later: float) -> float:
        assert later <= self.come_to
        return later - earlier


def test_what_the_device_has_not_done_yet_counts_later():
    queue = Queue([0.0, 1.0, 3.0, 3.0, 5.0, 9.0, 10.0, 12.0])
    watch = Stopwatch(queue)
    watch.wait()
    for samples in (2, 4):
        watch.begin()
        watch.end(samples)
    queue.come_to = 4.0
    watch.read()
    assert (watch.samples, watch.total_s, watch.waited_s) == (2, 3.0, 1.0)
    queue.come_to = 12.0
    watch.read()
    assert (watch.samples, watch.total_s, watch.waited_s) == (6, 5.0, 1.0)
    watch.wait()  # at 9: what lay between (a validation) does not count
    watch.begin()
    watch.end(1)
    watch.read()
    assert (watch.samples, watch.total_s, watch.waited_s) == (7, 8.0, 2.0)


def test_utilization_is_left_out_without_a_gpu():
    assert gpu_utilization(torch.device("cpu")) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_waits_only_when_its_queue_is_empty():
    """The program sleeps between batches both times; the GPU is still busy the second time."""
    work = torch.randn(4096, 4096, device="cuda")
    shares = []
    for products in (1, 2000):
        watch = Stopwatch(CudaClock())
        watch.wait()
        for _ in range(3):
            time.sleep(0.02)
            watch.begin()
            for _ in range(products):
                torch.mm(work, work)
            watch.end(1)
        torch.cuda.synchronize()
        watch.read()
        assert watch.samples == 3
        shares.append(watch.waited_s / watch.total_s)
    assert shares[0] > 0.5
    assert shares[1] < 0.1
