import math

import numpy as np
import pytest
import torch

from bevfusion.classical.evidence import Evidence
from bevfusion.classical.expectation import Expectation
from bevfusion.classical.score import belief_of, log_likelihood
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.matching import rotate_templates

WINDOW = PoseWindow(2.0, math.radians(10.0), 0.5, math.radians(5.0))
GRID = Grid.square(6.0, 0.5)


def slow_log_likelihood(evidence, expectation, prior_yaw_rad, grid, window):
    """The formula of the module, pose by pose, in float64."""
    names = ("standing", "free", "ground", "darkness", "lowness", "smoothness")
    planes = torch.stack([getattr(evidence, name) for name in names])
    yaws = torch.from_numpy(prior_yaw_rad + window.yaw_offsets_rad()).float()
    turned = rotate_templates(planes[None], yaws[None], grid)[0].double().numpy()
    cells = float(evidence.ground.sum())
    spreads = [
        float((plane.double() ** 2).sum()) for plane in (evidence.darkness, evidence.lowness, evidence.smoothness)
    ]
    scores = np.zeros(window.shape)
    for r, y, x in np.ndindex(*window.shape):
        part = (slice(y, y + grid.height), slice(x, x + grid.width))
        wall, solid, road = (
            plane[part].double().numpy() for plane in (expectation.wall, expectation.solid, expectation.road)
        )
        standing, free, ground, *contrasts = turned[r]
        scores[r, y, x] = (standing * wall).sum() / (8.0 / 0.5) + (free * solid).sum() / (2.0 / 0.5) ** 2
        variance = (ground * road**2).sum() - (ground * road).sum() ** 2 / cells
        for contrast, spread in zip(contrasts, spreads, strict=True):
            product = max((contrast * road).sum(), 0.0)
            rho2 = min(product**2 / (max(variance, 0.01 * cells) * spread), 0.95)
            scores[r, y, x] -= 0.5 * cells / (2.0 / 0.5) ** 2 * math.log(1.0 - rho2)
    return scores


@pytest.fixture
def scene() -> tuple[Evidence, Expectation]:
    generator = torch.Generator().manual_seed(0)
    ground = (torch.rand(GRID.height, GRID.width, generator=generator) < 0.6).float()

    def contrast():
        plane = torch.randn(GRID.height, GRID.width, generator=generator) * ground
        return (plane - plane.sum() / ground.sum()) * ground

    wide = GRID.height + 2 * WINDOW.reach
    evidence = Evidence(
        standing=torch.rand(GRID.height, GRID.width, generator=generator),
        free=(torch.rand(GRID.height, GRID.width, generator=generator) < 0.5).float(),
        ground=ground,
        darkness=contrast(),
        lowness=contrast(),
        smoothness=contrast(),
    )
    expectation = Expectation(
        wall=torch.randn(wide, wide, generator=generator),
        solid=-torch.rand(wide, wide, generator=generator),
        road=torch.rand(wide, wide, generator=generator),
    )
    return evidence, expectation


def test_equals_the_formula_pose_by_pose(scene):
    fast = log_likelihood(*scene, 0.3, GRID, WINDOW)
    assert tuple(fast.shape) == WINDOW.shape
    np.testing.assert_allclose(fast.numpy(), slow_log_likelihood(*scene, 0.3, GRID, WINDOW), atol=2e-4)


def test_more_headings_than_fit_at_once(scene):
    many = PoseWindow(2.0, math.pi, 0.5, math.radians(5.0))
    few = PoseWindow(2.0, math.radians(5.0), 0.5, math.radians(5.0))
    scores = log_likelihood(*scene, 0.3, GRID, many)
    assert tuple(scores.shape) == many.shape
    torch.testing.assert_close(scores[35:38], log_likelihood(*scene, 0.3, GRID, few), atol=1e-3, rtol=1e-4)


def test_bright_and_high_roads_gain_nothing(scene):
    evidence, expectation = scene
    wide = expectation.road.shape
    blank = Expectation(torch.zeros(wide), torch.zeros(wide), torch.zeros(wide))
    reach = WINDOW.reach
    blank.road[reach:-reach, reach:-reach] = (evidence.darkness < 0).float()
    nothing = torch.zeros_like(evidence.darkness)
    bright = Evidence(nothing, nothing, evidence.ground, evidence.darkness, nothing, nothing)
    scores = log_likelihood(bright, blank, 0.0, GRID, WINDOW)
    assert float(scores[2, reach, reach]) == pytest.approx(0.0, abs=1e-5)
    dark = Evidence(nothing, nothing, evidence.ground, -evidence.darkness, nothing, nothing)
    scores = log_likelihood(dark, blank, 0.0, GRID, WINDOW)
    assert int(scores.argmax()) == np.ravel_multi_index((2, reach, reach), WINDOW.shape)


@pytest.mark.parametrize("offset_deg", [10.0, 180.0])
def test_no_evidence_believes_in_every_pose_alike(offset_deg):
    window = PoseWindow(5.0, math.radians(offset_deg), 0.5, math.radians(1.0))
    log_prob = belief_of(torch.zeros(window.shape), window)
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(log_prob.max() - log_prob.min()) < 3e-3
    _, y, x = np.unravel_index(int(log_prob.argmax()), window.shape)
    assert (y, x) == (window.reach, window.reach)


def test_certainty_is_limited_by_the_map():
    window = PoseWindow(10.0, math.radians(10.0), 0.5, math.radians(1.0))
    scores = torch.full(window.shape, -1e3)
    scores[10, 20, 26] = 0.0
    prob = belief_of(scores, window).exp().double()
    shifts_m = torch.from_numpy(window.shifts_m())
    along_x = prob.sum((0, 1))
    mean = float(along_x @ shifts_m)
    assert mean == pytest.approx(0.98 * 3.0, abs=0.02)
    core = along_x[20:33] / along_x[20:33].sum()
    assert float(core @ (shifts_m[20:33] - 3.0) ** 2) == pytest.approx(1.0, abs=0.1)
    assert float(prob.min()) > 0.01 / prob.numel()


def test_headings_close_to_a_circle():
    window = PoseWindow(2.0, math.pi, 0.5, math.radians(1.0))
    scores = torch.full(window.shape, -1e3)
    scores[0, 4, 4] = 0.0
    heading = belief_of(scores, window).exp().sum((1, 2))
    assert float(heading[-1]) == pytest.approx(float(heading[1]), rel=1e-3)
    assert float(heading[0]) > float(heading[1]) > float(heading[5])


def test_a_border_takes_nothing_away():
    window = PoseWindow(5.0, math.radians(10.0), 0.5, math.radians(1.0))
    ramp = torch.zeros(window.shape)
    ramp[:, :, -1] = 3.0  # the best poses lie on the border
    assert int(belief_of(ramp, window).exp().sum((0, 1)).argmax()) == window.shape[2] - 1
