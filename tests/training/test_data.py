import math
from types import SimpleNamespace

import pytest
import torch

from bevfusion.config import ConfigError, config_from_dict
from bevfusion.datasets.samples import PoseSamples, Variation
from bevfusion.geometry.grid import Grid
from bevfusion.structures import Batch
from bevfusion.training import data as data_module
from bevfusion.training.data import PoseData, worker_count


def data(town_drive, workers: int, epoch: int) -> PoseData:
    samples = PoseSamples(
        [town_drive],
        bev_grid=Grid(40, 40, 0.5),
        tile_grid=Grid(80, 80, 0.5),
        slices_m=(0.5, 1.5, 4.0),
        offset_m=10.0,
        offset_rad=math.radians(10.0),
        variation=Variation(turn=True, mirror=True, point_dropout=0.3, beam_dropout=0.3, vehicles=3),
        seed=5,
    )
    made = PoseData(samples, samples, batch_size=2, steps_per_epoch=5, workers=workers)
    made.trainer = SimpleNamespace(world_size=1, current_epoch=epoch, accelerator=None)
    return made


def tensors(batch: Batch) -> list[torch.Tensor]:
    assert batch.truth is not None
    return [batch.bev, batch.tile, batch.prior_yaw_rad, batch.truth]


def test_samples_do_not_depend_on_the_number_of_processes(town_drive):
    for epoch in (0, 1):
        alone, three = (list(data(town_drive, workers, epoch).train_dataloader()) for workers in (0, 3))
        assert len(alone) == len(three) == 5
        for one, other in zip(alone, three, strict=True):
            for a, b in zip(tensors(one), tensors(other), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_epochs_go_on_where_the_last_one_ended(town_drive):
    first, second = (data(town_drive, 0, epoch).train_dataloader().dataset.span for epoch in (0, 1))
    assert [*first, *second] == list(range(20))


@pytest.mark.parametrize(
    ("asked", "gpus", "ranks", "count"),
    [
        ("auto", 0, None, 1),
        ("auto", 0, "2", 1),
        ("auto", 1, None, 15),
        ("auto", 4, None, 3),
        ("auto", 4, "2", 7),  # torchrun knows better
        ("auto", 8, "32", 1),
        (0, 1, None, 0),
        (5, 0, None, 5),
    ],
)
def test_workers(monkeypatch, asked: int | str, gpus: int, ranks: str | None, count: int):
    monkeypatch.setattr(data_module, "available_cores", lambda: 16)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if ranks is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert worker_count(asked, gpus) == count


@pytest.mark.parametrize("workers", [-1, "many", 1.5])
def test_workers_are_a_number_or_auto(workers):
    with pytest.raises(ConfigError, match=r"train\.workers"):
        config_from_dict({"train": {"workers": workers}}, "test")
