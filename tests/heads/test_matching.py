import math

import numpy as np
import pytest
import torch

from bevfusion.geometry.grid import Grid
from bevfusion.heads.matching import correlate, correlate_direct, disc, rotate_templates


def problem(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    templates = torch.randn(2, 3, 4, 8, 10, generator=generator, dtype=dtype, requires_grad=True)
    features = torch.randn(2, 4, 20, 24, generator=generator, dtype=dtype, requires_grad=True)
    return templates, features


def test_fft_equals_direct_correlation_in_values_and_gradients():
    templates, features = problem()
    fast, slow = correlate(templates, features, 5), correlate_direct(templates, features, 5)
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-5)
    weights = torch.randn_like(slow)
    for got, expected in zip(
        torch.autograd.grad((fast * weights).sum(), (templates, features)),
        torch.autograd.grad((slow * weights).sum(), (templates, features)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-4)


def test_direct_correlation_equals_the_sum_written_out():
    templates, features = (t.detach().numpy() for t in problem())
    scores = correlate_direct(torch.from_numpy(templates), torch.from_numpy(features), 5).numpy()
    for dy, dx in [(-5, -5), (0, 0), (2, -3), (5, 5)]:
        top, left = 6 + dy, 7 + dx  # (20 - 8) / 2 and (24 - 10) / 2
        expected = (templates[1, 2] * features[1, :, top : top + 8, left : left + 10]).sum()
        assert scores[1, 2, 5 + dy, 5 + dx] == pytest.approx(expected, rel=1e-4)


def test_a_map_too_small_is_refused():
    templates, features = problem()
    with pytest.raises(ValueError, match="at least 14"):
        correlate(templates, features, 7)


@pytest.mark.parametrize("shift", [(0, 0), (4, -3), (-5, 5)])
@pytest.mark.parametrize("heading", [0, 7, 18, 31])
def test_a_planted_template_is_found_in_place_and_heading(shift: tuple[int, int], heading: int):
    # A smooth random picture is the map; what the ego frame sees of it, turned by the heading, is the template.
    generator = torch.Generator().manual_seed(heading)
    map_grid, grid = Grid(60, 60, 1.0), Grid(32, 32, 1.0)
    noise = torch.randn(1, 3, 60, 60, generator=generator)
    features = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    yaws = torch.arange(36) * math.radians(10.0)
    yaw_rad = float(yaws[heading])
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    rotation = torch.tensor([[c, s], [-s, c]])
    seen_at_m = torch.from_numpy(grid.centres_m()).float() @ rotation + torch.tensor([shift[1], shift[0]]).float()
    template = torch.nn.functional.grid_sample(features, map_grid.normalized(seen_at_m)[None], align_corners=False)
    scores = correlate(rotate_templates(template * disc(grid), yaws[None], grid), features, 8)[0]
    best = np.unravel_index(int(scores.argmax()), scores.shape)
    assert best == (heading, 8 + shift[0], 8 + shift[1])


def test_turning_by_a_quarter_permutes_the_cells():
    grid = Grid(6, 6, 0.5)
    template = torch.rand(1, 2, 6, 6)
    turned = rotate_templates(template, torch.tensor([[math.pi / 2]]), grid)[0, 0]
    # counter-clockwise with y up is clockwise in memory order (row 0 is the lowest y)
    torch.testing.assert_close(turned, torch.rot90(template[0], -1, (1, 2)), atol=1e-5, rtol=0)


def test_disc_stays_inside_under_every_rotation():
    grid = Grid(20, 20, 1.0)
    inside = disc(grid)
    ring = torch.where(inside > 0, 1.0, 0.0)[None, None]
    turned = rotate_templates(ring, torch.linspace(0, 6, 13)[None], grid)
    torch.testing.assert_close(turned.sum((2, 3, 4)), inside.sum().expand(1, 13), rtol=0.02, atol=0)
