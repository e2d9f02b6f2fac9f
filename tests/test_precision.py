import math
from pathlib import Path

import pytest
import torch

from bevfusion import precision
from bevfusion.build import build_model
from bevfusion.config import Config
from bevfusion.localizer import NetworkLocator
from bevfusion.machine import has_bfloat16
from bevfusion.precision import chosen_precision, computing_in, precision_named
from bevfusion.structures import DataError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 fsrm", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx512f avx512bw", False),
        ("model name\t: avx512_bf16", False),
        ("", False),
    ],
)
def test_what_the_processor_says(tmp_path: Path, line: str, expected: bool):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbugs\t\t: bf16\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is expected
    assert has_bfloat16(tmp_path / "none") is False


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_is_what_the_processor_has(monkeypatch: pytest.MonkeyPatch, has_it: bool):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has_it)
    assert chosen_precision("auto") == ("bfloat16" if has_it else "float32")
    assert chosen_precision("auto", "cuda") == "float32"
    assert chosen_precision("bfloat16") == "bfloat16"
    assert chosen_precision("float32") == "float32"


def test_a_word_that_is_none_is_answered_by_the_nearest():
    assert precision_named("bfloat16") == "bfloat16"
    with pytest.raises(
        DataError, match="precision is one of auto, float32, bfloat16, got 'bfloat61'; did you mean 'bf"
    ):
        precision_named("bfloat61")


def test_in_bfloat16_features_are_and_scores_are_not(town_drive):
    drive, source = town_drive
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    config = base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 16.0}), "model": model})
    torch.manual_seed(0)
    network = build_model(config)
    truth = source.frame.map_from_ego(drive[0].truth)
    found = {}
    for wanted in ("float32", "bfloat16"):
        locator = NetworkLocator(network, config, source, precision=wanted)
        found[wanted], _ = locator.predict(drive[0].scan, truth, 5.0, math.radians(10.0))
    exact, rough = found["float32"], found["bfloat16"]
    assert exact.scan.lidar.dtype == exact.map_features.dtype == torch.float32
    assert rough.scan.lidar.dtype == rough.map_features.dtype == torch.bfloat16
    assert exact.scores.dtype == rough.scores.dtype == rough.volume.log_prob.dtype == torch.float32
    away = (rough.scores - exact.scores).abs().max() / exact.scores.abs().max()
    assert 0.0 < away < 0.02


def test_what_is_computed_in_bfloat16_ends_with_it():
    a = torch.randn(4, 4)
    with computing_in("bfloat16", "cpu"):
        assert (a @ a).dtype == torch.bfloat16
    with computing_in("float32", "cpu"):
        assert (a @ a).dtype == torch.float32
