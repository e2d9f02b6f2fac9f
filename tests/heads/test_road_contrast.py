import math

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.matching import rotate_templates
from bevfusion.heads.road_contrast import RoadContrastHead
from bevfusion.maps.schema import LAYERS, layer_index

GRID = Grid.square(12.0, 1.0)
WINDOW = PoseWindow(3.0, math.radians(10.0), 1.0, math.radians(5.0))
TILE_CELLS = 2 * (GRID.height + 2 * WINDOW.reach)


def tile(seed: int = 0) -> torch.Tensor:
    layers = torch.zeros(1, len(LAYERS), TILE_CELLS, TILE_CELLS)
    generator = torch.Generator().manual_seed(seed)
    blocks = (torch.rand(1, 1, TILE_CELLS // 6 + 1, TILE_CELLS // 6 + 1, generator=generator) < 0.4).float()
    layers[:, layer_index("road")] = torch.nn.functional.interpolate(blocks, scale_factor=6)[
        0, :, :TILE_CELLS, :TILE_CELLS
    ]
    return layers


def contrast(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ground = (torch.rand(1, 1, GRID.height, GRID.width, generator=generator) < 0.7).float()
    planes = torch.randn(1, 2, GRID.height, GRID.width, generator=generator) * ground
    return torch.cat([ground, planes], dim=1)


def head(weight: float = 1.0) -> RoadContrastHead:
    return RoadContrastHead(GRID, 2, weight)


def slow_scores(planes: torch.Tensor, layers: torch.Tensor, prior_yaw_rad: float) -> np.ndarray:
    """The formula of the module, pose by pose, in float64."""
    matcher = head()
    planes = planes * matcher.footprint
    road = matcher.road_of(layers)[0, 0].double().numpy()
    yaws = torch.from_numpy(prior_yaw_rad + WINDOW.yaw_offsets_rad()).float()
    turned = rotate_templates(planes, yaws[None], GRID)[0].double().numpy()
    cells = float(planes[0, 0].sum())
    scores = np.zeros(WINDOW.shape)
    for r, y, x in np.ndindex(*WINDOW.shape):
        under = road[y : y + GRID.height, x : x + GRID.width]
        ground, *contrasts = turned[r]
        variance = (ground * under**2).sum() - (ground * under).sum() ** 2 / cells
        for which, plane in enumerate(contrasts):
            spread = float((planes[0, 1 + which].double() ** 2).sum())
            rho2 = max((plane * under).sum(), 0.0) ** 2 / (max(variance, 0.01 * cells) * spread)
            scores[r, y, x] -= 0.5 * cells * (1.0 / 2.0) ** 2 * math.log(1.0 - min(rho2, 0.95))
    return scores


def test_equals_the_formula_pose_by_pose():
    planes, layers = contrast(), tile()
    fast = head()(planes, layers, torch.tensor([0.3]), WINDOW)[0]
    np.testing.assert_allclose(fast.numpy(), slow_scores(planes, layers, 0.3), atol=2e-4)


def laid_on(layers: torch.Tensor, x_m: int, y_m: int) -> torch.Tensor:
    """What a scan shows that stands `x_m`, `y_m` off the tile's centre, heading along its x axis."""
    road = head().road_of(layers)
    margin = WINDOW.reach
    rows = slice(margin + y_m, margin + y_m + GRID.height)
    seen = road[..., rows, margin + x_m : margin + x_m + GRID.width]
    return torch.cat([torch.ones_like(seen), seen - seen.mean(), torch.zeros_like(seen)], dim=1)


@pytest.mark.parametrize("gain", [0.1, 1.0, 7.0])
def test_finds_the_place_whatever_the_gain(gain: float):
    layers = tile(3)
    planes = laid_on(layers, 2, -1) * torch.tensor([1.0, gain, 1.0])[:, None, None]
    scores = head()(planes, layers, torch.zeros(1), WINDOW)[0]
    r, y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    assert (WINDOW.yaw_offsets_rad()[r], WINDOW.shifts_m()[x], WINDOW.shifts_m()[y]) == pytest.approx((0.0, 2.0, -1.0))


def test_bright_and_rough_roads_gain_nothing():
    layers = tile(3)
    planes = laid_on(layers, 0, 0) * torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    scores = head()(planes, layers, torch.zeros(1), WINDOW)[0]
    assert float(scores[len(scores) // 2, WINDOW.reach, WINDOW.reach]) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("what", ["no map", "no ground", "no contrast"])
def test_what_says_nothing_scores_every_pose_alike(what: str):
    planes, layers = contrast(), tile()
    if what == "no map":
        layers = torch.zeros_like(layers)
    else:
        planes[:, 0 if what == "no ground" else 1 :] = 0.0
    scores = head()(planes, layers, torch.zeros(1), WINDOW)
    torch.testing.assert_close(scores, torch.zeros_like(scores), atol=1e-4, rtol=0.0)


def test_the_weight_is_a_factor():
    planes, layers, yaw_rad = contrast(), tile(), torch.tensor([0.3])
    torch.testing.assert_close(
        head(0.25)(planes, layers, yaw_rad, WINDOW), 0.25 * head()(planes, layers, yaw_rad, WINDOW)
    )


def test_on_a_full_circle_scores_are_those_of_their_headings():
    circle = PoseWindow(3.0, math.pi, 1.0, math.radians(10.0))
    planes, layers = contrast(), tile()
    scores = head()(planes, layers, torch.tensor([0.0]), circle)[0]
    for r, yaw_rad in list(enumerate(circle.yaw_offsets_rad()))[::7]:
        alone = PoseWindow(3.0, math.radians(1.0), 1.0, math.radians(5.0))
        one = head()(planes, layers, torch.tensor([float(yaw_rad)]), alone)[0]
        torch.testing.assert_close(scores[r], one[len(one) // 2], atol=2e-3, rtol=1e-3)


def test_a_window_of_other_cells_is_refused():
    with pytest.raises(ValueError, match="cells"):
        head()(contrast(), tile(), torch.zeros(1), PoseWindow(3.0, 0.1, 0.5, 0.05))
