"""One number makes beliefs as sure as they are right, and nothing else about them changes."""

import math

import numpy as np
import pytest
import torch

from bevfusion.build import build_model, search_window, tile_grid
from bevfusion.config import config_from_dict
from bevfusion.lidar.rasterize import bev_channels
from bevfusion.maps.schema import LAYERS
from bevfusion.structures import Batch
from bevfusion.training.calibration import best_sharpness, calibrate

SMALL = {
    "bev": {"range_m": 12.0},
    "model": {"channels": 8, "lidar": {"width": 4, "levels": 2}, "map": {"width": 4, "levels": 2}},
}


@pytest.mark.parametrize("power", [0.4, 1.0, 2.5])
def test_the_power_that_beliefs_lack_is_found(power: float) -> None:
    """Truths are drawn from known beliefs; what is handed in are these beliefs flattened or sharpened."""
    rng = np.random.default_rng(0)
    honest = torch.from_numpy(rng.normal(0.0, 2.0, (3000, 40))).log_softmax(1)
    truths = torch.multinomial(honest.exp(), 1, generator=torch.Generator().manual_seed(0))
    told = (honest / power).log_softmax(1)
    found = best_sharpness(list(told), told.gather(1, truths)[:, 0].tolist())
    assert found == pytest.approx(power, rel=0.06)


def test_it_agrees_with_trying_every_power() -> None:
    beliefs = torch.from_numpy(np.random.default_rng(1).normal(0.0, 1.5, (30, 25))).log_softmax(1)
    truths = torch.arange(30) % 25
    powers = np.geomspace(0.25, 4.0, 2001)
    likelihoods = [float((float(p) * beliefs).log_softmax(1).gather(1, truths[:, None]).sum()) for p in powers]
    found = best_sharpness(list(beliefs), beliefs.gather(1, truths[:, None])[:, 0].tolist())
    assert found == pytest.approx(powers[int(np.argmax(likelihoods))], rel=0.01)


@pytest.mark.parametrize(("right", "most"), [(True, 4.0), (False, 0.25)])
def test_it_stays_within_bounds(right: bool, most: float) -> None:
    """Beliefs that are always right could be sharper without end; such that are always wrong could be flatter."""
    belief = torch.linspace(0.0, 1.0, 10).log_softmax(0)
    assert best_sharpness([belief], [float(belief[-1] if right else belief[0])]) == pytest.approx(most, rel=1e-3)


def test_nothing_to_calibrate_with_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one belief"):
        best_sharpness([], [])


def test_a_network_is_as_sharp_as_was_found_and_its_best_pose_stays() -> None:
    config = config_from_dict(SMALL, "test")
    torch.manual_seed(0)
    tile = tile_grid(config, 4.0)
    model, window = build_model(config).eval(), search_window(config, 4.0, math.radians(10.0))
    batch = Batch(
        torch.rand(2, len(bev_channels(config.bev.slices_m)), 48, 48),
        torch.rand(2, len(LAYERS), tile.height, tile.width),
        torch.zeros(2),
        torch.tensor([[1.0, -2.0, 0.05], [0.2, 0.4, -0.1]]),
    )
    with torch.inference_mode():
        before = model(batch, window).volume.log_prob
    sharpness = calibrate(model, [batch], window)
    with torch.inference_mode():
        after = model(batch, window).volume.log_prob
    expected = (sharpness * before).flatten(1).log_softmax(1).view_as(before)
    torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-3)
    assert after.flatten(1).argmax(1).tolist() == before.flatten(1).argmax(1).tolist()
