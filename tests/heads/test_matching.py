import math

import numpy as np
import pytest
import torch

from bevfusion.export.operations import match_by_products
from bevfusion.geometry.grid import Grid
from bevfusion.heads import correlation
from bevfusion.heads.correlation import fast_length
from bevfusion.heads.matching import correlate, disc, match, rotate_templates
from bevfusion.heads.matching_reference import correlate_all, rotate_all
from tests.heads.direct import correlate_direct


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


@pytest.mark.parametrize("headings", [1, 5, 8])
@pytest.mark.parametrize("circle", [False, True])
def test_matching_equals_the_plain_method_in_values_and_gradients(headings: int, circle: bool):
    grid = Grid(14, 14, 1.0)
    generator = torch.Generator().manual_seed(headings)
    template = torch.randn(2, 3, 14, 14, generator=generator, requires_grad=True)
    features = torch.randn(2, 3, 32, 34, generator=generator, requires_grad=True)
    yaws = torch.tensor([[0.4], [-2.0]]) + torch.arange(headings) * (2.0 * math.pi / headings if circle else 0.03)
    fast = match(template, features, yaws, grid, 7, circle=circle)
    slow = correlate_direct(rotate_all(template, yaws, grid), features, 7)
    torch.testing.assert_close(fast, slow, atol=2e-4, rtol=1e-4)
    weights = torch.randn(slow.shape, generator=generator)
    for got, expected in zip(
        torch.autograd.grad((fast * weights).sum(), (template, features)),
        torch.autograd.grad((slow * weights).sum(), (template, features)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("portion_bytes", [1, 20_000])
def test_portions_make_no_difference(monkeypatch: pytest.MonkeyPatch, portion_bytes: int):
    templates, features = problem()
    whole = correlate(templates, features, 5)
    gradients = torch.autograd.grad(whole.square().sum(), (templates, features))
    monkeypatch.setitem(correlation._PORTION_BYTES, "cpu", portion_bytes)
    parts = correlate(templates, features, 5)
    torch.testing.assert_close(parts, whole)
    for got, expected in zip(torch.autograd.grad(parts.square().sum(), (templates, features)), gradients, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-2, rtol=1e-4)


def test_only_what_training_needs_is_kept():
    """Spectra of every template would be several times the templates."""
    grid = Grid(32, 32, 1.0)
    template = torch.randn(1, 8, 32, 32, requires_grad=True)
    kept = 0

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        match(template, torch.randn(1, 8, 64, 64), torch.arange(16)[None] * 0.1, grid, 16)
    templates_bytes, coordinates_bytes = 16 * 8 * 32 * 32 * 4, 16 * 32 * 32 * 2 * 4
    assert kept < 1.5 * (templates_bytes + coordinates_bytes) + 8 * 64 * 64 * 4


@pytest.mark.parametrize("least", [1, 11, 97, 138, 386, 1000])
def test_fast_lengths_have_small_factors(least: int):
    length = fast_length(least)
    assert least <= length <= 1.15 * least + 1
    assert pow(210, 10, length) == 0  # 210 = 2 * 3 * 5 * 7


@pytest.mark.slow
def test_a_thousand_random_problems_have_the_same_best_pose_and_scores():
    wrong = 0
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        side, channels, reach = 2 * (4 + seed % 13), 1 + seed % 8, 3 + seed % 17
        headings, circle = 4 * (2 + seed % 6), bool(seed % 2)
        grid = Grid(side, side, 0.5)
        template = torch.randn(1, channels, side, side, generator=generator)
        features = torch.randn(1, channels, side + 2 * reach, side + 2 * reach, generator=generator)
        step = 2.0 * math.pi / headings if circle else math.radians(1.4)
        yaws = 6.0 * torch.rand(1, 1, generator=generator) + step * torch.arange(headings)
        fast = match(template, features, yaws, grid, reach, circle=circle)
        slow = correlate_all(rotate_all(template, yaws, grid), features, reach)
        assert float((fast - slow).abs().max()) <= 1e-3 * float(slow.abs().max())
        wrong += int(fast.argmax()) != int(slow.argmax())
    assert wrong <= 1


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


@pytest.mark.parametrize("way", [match, match_by_products])
@pytest.mark.parametrize("circle", [False, True])
def test_channels_apart_are_each_matched_with_the_one_channel_of_the_map(way, circle: bool):
    torch.manual_seed(0)
    grid, reach = Grid(12, 12, 1.0), 3
    planes, road = torch.randn(2, 3, 12, 12) * disc(grid), torch.randn(2, 1, 18, 18)
    yaws = torch.arange(8) * (math.pi / 4.0) if circle else torch.tensor([-0.2, 0.0, 0.3])
    yaw_rad = yaws + torch.tensor([[0.1], [2.0]])
    together = way(planes, road, yaw_rad, grid, reach, circle=circle, apart=True)
    assert together.shape == (2, 3, len(yaws), 7, 7)
    for plane in range(3):
        alone = match(planes[:, plane : plane + 1], road, yaw_rad, grid, reach)
        torch.testing.assert_close(together[:, plane], alone, atol=1e-4, rtol=1e-4)
