"""Two numbers make beliefs as sure as they are right, and what is found stays."""

import copy
import math

import numpy as np
import pytest
import torch

from bevfusion.build import build_model, search_window, tile_grid
from bevfusion.config import config_from_dict
from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.blur import BeliefBlur
from bevfusion.lidar.rasterize import bev_channels
from bevfusion.maps.schema import LAYERS
from bevfusion.structures import Batch, PoseBelief
from bevfusion.training.calibration import best_width, calibrate

SMALL = {
    "bev": {"range_m": 12.0},
    "model": {"channels": 8, "lidar": {"width": 4, "levels": 2}, "map": {"width": 4, "levels": 2}},
}
WINDOW = PoseWindow(7.0, math.radians(2.0), 1.0, math.radians(2.0))


def peaked(count: int, rng: np.random.Generator) -> torch.Tensor:
    """Beliefs with one or two hills each, away from the border."""
    r, y, x = np.indices(WINDOW.shape)
    hills = np.zeros((count, *WINDOW.shape))
    for n in range(count):
        for height in (1.0, rng.uniform(0.0, 0.6)):
            middle = rng.uniform(4.0, 10.0, 2)
            spread = rng.uniform(0.6, 1.6)
            away = ((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / spread**2 + 1.5 * (r - rng.integers(3)) ** 2
            hills[n] += height * np.exp(-0.5 * away)
    return torch.from_numpy(hills + 1e-4).log().flatten(1).log_softmax(1).view(hills.shape)


def drawn(prob: torch.Tensor) -> list[tuple[int, int, int]]:
    """A truth of each belief."""
    flat = torch.multinomial(prob.flatten(1), 1, generator=torch.Generator().manual_seed(0))[:, 0].numpy()
    places = np.stack(np.unravel_index(flat, WINDOW.shape), axis=1).tolist()
    return [(r, y, x) for r, y, x in places]


def widened(belief: torch.Tensor, power: float, variance: float) -> torch.Tensor:
    blur = BeliefBlur()
    blur.set_variance(variance)
    return blur(PoseBelief((power * belief).flatten(1).log_softmax(1).view_as(belief), WINDOW)).log_prob.double()


@pytest.mark.parametrize(("power", "variance"), [(0.5, 0.0), (1.0, 0.4), (2.5, 0.15), (1.5, 1.2)])
def test_what_beliefs_lack_is_found(power: float, variance: float) -> None:
    """Truths are drawn from what the beliefs should have been: sharper or flatter, and blurred."""
    told = peaked(2500, np.random.default_rng(0))
    found = best_width(list(told), drawn(widened(told, power, variance).exp()))
    assert found.sharpness == pytest.approx(power, rel=0.1)
    assert found.blur_cells2 == pytest.approx(variance, rel=0.2, abs=0.03)


def test_no_other_width_is_likelier() -> None:
    told = peaked(60, np.random.default_rng(1))
    truths = drawn(widened(told, 1.3, 0.5).exp())
    found = best_width(list(told), truths)

    def likelihood(power: float, variance: float) -> float:
        wide = widened(told, power, variance)
        return float(torch.stack([belief[truth] for belief, truth in zip(wide, truths, strict=True)]).mean())

    best = likelihood(found.sharpness, found.blur_cells2)
    for power in np.geomspace(0.25, 4.0, 15):
        for variance in np.linspace(0.0, 2.0, 12):
            assert likelihood(float(power), float(variance)) <= best + 1e-3  # what leaves the window counts here


@pytest.mark.parametrize(("right", "most"), [(True, 4.0), (False, 0.25)])
def test_it_stays_within_bounds(right: bool, most: float) -> None:
    """Beliefs that are always right could be sharper without end; such that are always wrong could be flatter."""
    logits = torch.zeros(WINDOW.shape)
    logits[1, 7, 7] = 3.0
    belief = logits.flatten().log_softmax(0).view(WINDOW.shape)
    assert best_width([belief], [(1, 7, 7) if right else (0, 0, 14)]).sharpness == pytest.approx(most, rel=1e-3)


def test_nothing_to_calibrate_with_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one belief"):
        best_width([], [])


@pytest.mark.parametrize("ground", [False, True], ids=["matching", "and ground"])
def test_a_network_is_as_sharp_and_as_blurred_as_was_found(ground: bool) -> None:
    config = config_from_dict(SMALL, "test")
    torch.manual_seed(0)
    tile = tile_grid(config, 4.0)
    model, window = build_model(config).eval(), search_window(config, 4.0, math.radians(10.0))
    batch = Batch(
        torch.rand(2, len(bev_channels(config.bev.slices_m)), 48, 48),
        (torch.rand(2, len(LAYERS), tile.height, tile.width) < 0.3).float(),
        torch.zeros(2),
        torch.tensor([[1.0, -2.0, 0.05], [0.2, 0.4, -0.1]]),
        contrast=torch.rand(2, 3, 24, 24) if ground else None,
    )
    with torch.inference_mode():
        before = model(batch, window).volume.log_prob
    blurred = copy.deepcopy(model)
    blurred.blur.set_variance(1.0)
    width = calibrate(model, [batch], window)
    assert calibrate(blurred, [batch], window) == width  # a blur that was there is fitted anew
    with torch.inference_mode():
        after = model(batch, window).volume.log_prob
    sharper = PoseBelief((width.sharpness * before).flatten(1).log_softmax(1).view_as(before), window)
    blur = BeliefBlur()
    blur.set_variance(width.blur_cells2)
    torch.testing.assert_close(after, blur(sharper).log_prob, rtol=1e-3, atol=1e-3)
