import csv
import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from bevfusion.build import build_model, search_window
from bevfusion.checkpoint import read_checkpoint
from bevfusion.config import Config, ConfigError, config_from_dict
from bevfusion.datasets.samples import PoseSamples
from bevfusion.evaluation.trained import evaluate_run
from bevfusion.heads.blur import REACH
from bevfusion.structures import DataError
from bevfusion.training.module import NonFiniteLossError, TrainingModule
from bevfusion.training.run import make_loggers, train

TINY = {
    "name": "tiny",
    "bev": {"range_m": 12.0},
    "search": {"offset_m": 4.0},
    "model": {"channels": 8, "lidar": {"width": 4, "levels": 2}, "map": {"width": 4, "levels": 2}},
    "simulation": {
        "train": ["town:7"],
        "val": ["town:7"],
        "test": ["town:7"],
        "frames": 4,
        "eval_frames": 2,
        "spacing_m": 12.0,
        "sensors": ["vlp16"],
        "columns": 128,
    },
    "train": {"steps": 4, "validate_every": 2, "batch_size": 2, "warmup_steps": 1, "workers": 0},
}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict:
    cache = tmp_path_factory.mktemp("cache")
    return {**TINY, "simulation": {**TINY["simulation"], "cache": str(cache)}}


@pytest.fixture(scope="module")
def config(values) -> Config:
    return config_from_dict(values, "test")


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(config, folder, evaluate=evaluate_run)
    return folder


def test_a_run_leaves_weights_configuration_logs_and_an_evaluation(finished, config):
    checkpoint = read_checkpoint(finished / "model.safetensors")
    assert checkpoint.config == config
    assert {"commit", "seed", "hardware", "hours", "command", "date"} <= checkpoint.provenance.keys()
    assert yaml.safe_load((finished / "config.yaml").read_text())["name"] == "tiny"
    assert json.loads((finished / "evaluation" / "metrics.json").read_text())["frames"] == 2
    assert list((finished / "tensorboard").glob("events.*"))
    with (finished / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any(row["val_loss"] for row in rows)
    assert [row["step"] for row in rows if row["samples_per_s"]] == ["1", "3"]
    assert all(0.0 < float(row["waited_for_data"]) < 100.0 for row in rows if row["samples_per_s"])


def test_a_resumed_run_ends_with_the_same_weights(finished, config, tmp_path, monkeypatch):
    """Stopped in the middle by a fault, and taken up again."""
    seen = []

    def fail_at_the_end(self, position):
        seen.append(self.span[position])
        if self.span[position] >= 4 and "val" not in seen:
            raise KeyboardInterrupt
        return original(self, position)

    original = PoseSamples.__getitem__
    monkeypatch.setattr(PoseSamples, "__getitem__", fail_at_the_end)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(config, tmp_path / "half")
    monkeypatch.undo()
    train(config, None, tmp_path / "half" / "checkpoints" / "last.ckpt")
    whole = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    resumed = torch.load(tmp_path / "half" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)


def test_resuming_with_another_configuration_is_refused(finished, config):
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(DataError, match="another configuration"):
        train(other, None, finished / "checkpoints" / "last.ckpt")


def with_steps(config: Config, **train_values: object) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=train_values)})


def test_a_finished_run_may_be_given_more_steps(finished, config, tmp_path, monkeypatch, caplog):
    """It goes on where it ended, at the rate that the plan of the longer run has there, from the first step on."""
    folder = tmp_path / "longer"
    shutil.copytree(finished, folder)
    rates: dict[int, float] = {}
    original = TrainingModule.training_step

    def noted(self, batch, batch_idx):
        rates[self.global_step] = self.trainer.optimizers[0].param_groups[0]["lr"]
        return original(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    longer = with_steps(config, steps=8)
    with caplog.at_level(logging.INFO, "bevfusion"):
        train(longer, None, folder / "checkpoints" / "last.ckpt")
    planned = {k: 2e-3 * 0.5 * (1.0 + math.cos(math.pi * (k - 1) / 7.0)) for k in range(4, 8)}
    assert rates == pytest.approx(planned)
    told = next(record.message for record in caplog.records if "goes on at step 4" in record.message)
    assert "was 0.00e+00" in told
    assert f"is {planned[4]:.2e} now" in told
    assert yaml.safe_load((folder / "config.yaml").read_text())["train"]["steps"] == 8
    assert read_checkpoint(folder / "model.safetensors").config == longer
    assert (folder / "csv-2" / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"steps": 2}, "a run of 4 steps may be given more of them, not 2"),
        ({"steps": 8, "learning_rate": 1e-4}, "nothing but train.steps may be changed"),
    ],
)
def test_nothing_but_more_steps_may_be_changed(finished, config, changed, told):
    with pytest.raises(DataError, match=told):
        train(with_steps(config, **changed), None, finished / "checkpoints" / "last.ckpt")


def test_loggers_go_by_the_names_that_lightning_gives_them(finished, config, tmp_path):
    assert [type(logger).__name__ for logger in make_loggers(config, tmp_path)] == ["CSVLogger", "TensorBoardLogger"]
    train(with_steps(config, steps=2, loggers=("csv",)), tmp_path / "run")
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_an_unknown_logger_is_answered_by_the_nearest(values):
    with pytest.raises(ConfigError, match=r"train.loggers.0: .*did you mean 'tensorboard'\?"):
        config_from_dict({**values, "train": {**values["train"], "loggers": ["tensor-board"]}}, "here")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_says_so(config, tmp_path, name):
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed here")
    with pytest.raises(
        ConfigError, match=rf"train.loggers: {name} needs .* missing: pip install 'bevfusion\[{name}\]'"
    ):
        train(with_steps(config, loggers=(name,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten(finished, config):
    with pytest.raises(DataError, match="finished run"):
        train(config, finished)


def test_beliefs_are_calibrated_once_the_weights_are_chosen(finished, config):
    """Scale and blur that ship are those that the origin names; all other weights are those of training."""
    trained = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    shipped = read_checkpoint(finished / "model.safetensors")
    for name, weights in shipped.weights.items():
        if name == "pose_volume.log_scale":
            factor = float((weights - trained[f"model.{name}"]).exp())
            assert factor == pytest.approx(float(shipped.provenance["sharpened"]), abs=0.006)
            assert factor != pytest.approx(1.0, abs=1e-3)
        elif name == "road_contrast.weight":  # as much sharper as what it is added to
            factor = float(weights) / config.model.heads.road_contrast
            assert factor == pytest.approx(float(shipped.provenance["sharpened"]), abs=0.006)
        elif name == "blur.taps":
            cell_m = search_window(config, 4.0, 0.1).cell_m
            std_m = cell_m * math.sqrt(float(weights @ torch.arange(-REACH, REACH + 1.0) ** 2))
            assert std_m == pytest.approx(float(shipped.provenance["blurred_m"]), abs=0.006)
        else:
            torch.testing.assert_close(weights, trained[f"model.{name}"], rtol=0, atol=0)


def test_training_begins_with_the_weights_that_are_named(finished, config, tmp_path):
    """One step at a rate of nearly nothing leaves what is learned, but for the scale: that is calibrated anew."""
    hardly = {"weights": str(finished), "learning_rate": 1e-9, "weight_decay": 0.0, "steps": 1, "validate_every": 1}
    begun = config.model_copy(update={"train": config.train.model_copy(update=hardly)})
    path = train(begun, tmp_path / "second")
    first, second = read_checkpoint(finished / "model.safetensors"), read_checkpoint(path)
    assert second.config.train.weights == str(finished)
    for name, _ in build_model(config).named_parameters():
        if name != "pose_volume.log_scale":
            torch.testing.assert_close(second.weights[name], first.weights[name], rtol=0, atol=1e-7)


def test_trained_weights_can_go_part_of_the_way_back(finished, config, tmp_path):
    asked = {"weights": str(finished), "blend": 0.25}
    path = train(config.model_copy(update={"train": config.train.model_copy(update=asked)}), tmp_path / "blended")
    begun, blended = read_checkpoint(finished / "model.safetensors").weights, read_checkpoint(path).weights
    trained = torch.load(tmp_path / "blended" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    name = "pose_volume.template.weight"
    assert (trained[f"model.{name}"] - begun[name]).abs().max() > 1e-4
    torch.testing.assert_close(blended[name], 0.25 * trained[f"model.{name}"] + 0.75 * begun[name])


def test_weights_of_another_network_are_refused_at_once(finished, config, tmp_path):
    wider = config.model_copy(update={"model": config.model.model_copy(update={"channels": 16})})
    other = wider.model_copy(update={"train": config.train.model_copy(update={"weights": str(finished)})})
    with pytest.raises(DataError, match=r"train\.weights = .*another architecture"):
        train(other, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_loss_that_is_no_number_stops_and_names_the_batch(config, tmp_path, monkeypatch):
    original = PoseSamples.__getitem__

    def broken(self, position):
        sample = original(self, position)
        sample.bev[:] = float("nan")
        return sample

    monkeypatch.setattr(PoseSamples, "__getitem__", broken)
    with pytest.raises(NonFiniteLossError, match=r"at step 0, in the batch town_7.*\[\d\], town_7.*\[\d\]"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
def test_torchrun_trains_on_two_processes(values, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    tool = Path(__file__).parents[2] / "tools" / "train.py"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611"]
    command = [*launcher, str(tool), str(tmp_path / "tiny.yaml"), "--output", str(tmp_path / "run")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "model.safetensors").is_file()


def with_direction(values: dict, **train_values: object) -> Config:
    model = {**values["model"], "heads": {"direction": True}}
    return config_from_dict({**values, "model": model, "train": {**values["train"], **train_values}}, "test")


def test_the_direction_head_learns_upon_parts_that_stay_as_they_are(values, finished, tmp_path):
    """It begins with a checkpoint that has no such head; norms and calibration stay, too."""
    frozen = ("scan", "map", "match", "fusion", "check")
    config = with_direction(values, weights=str(finished), freeze=list(frozen), learning_rate=0.01)
    trained = read_checkpoint(train(config, tmp_path / "head"))
    before = read_checkpoint(finished / "model.safetensors").weights
    assert before.keys() < trained.weights.keys()
    for name, weights in before.items():
        torch.testing.assert_close(trained.weights[name], weights, rtol=0, atol=0)
    own = {name: weights for name, weights in trained.weights.items() if name.startswith("direction.")}
    assert trained.weights.keys() == before.keys() | own.keys()
    torch.manual_seed(config.seed)
    fresh = build_model(config).state_dict()
    assert float((own["direction.tell.weight"] - fresh["direction.tell.weight"]).abs().max()) > 1e-3
    assert "sharpened" not in trained.provenance


def test_the_direction_head_learns_with_all_the_rest(values, tmp_path):
    trained = read_checkpoint(train(with_direction(values), tmp_path / "both"))
    assert float(trained.weights["direction.tell.weight"].abs().max()) > 0.0
    assert "sharpened" in trained.provenance


def test_a_part_that_there_is_not_cannot_be_frozen(values):
    with pytest.raises(ConfigError, match=r"train\.freeze"):
        with_direction(values, freeze=["towers"])
