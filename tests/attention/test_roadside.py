"""Roadside repetition: what repeats beside the road gains, what does not loses."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bevfusion.attention.roadside import Roadside, _autocorrelation, _convolved_both_ways, _rise, road_direction
from tests.attention import reference_affinity as reference

SIZE = 96
ANGLES = [0.0, math.pi / 2, 0.5, -1.0]


def aligned(angle_rad: float, height: int = SIZE, width: int = SIZE) -> tuple[Tensor, Tensor]:
    """How far along and across the road each cell lies from the centre, in cells."""
    y, x = (torch.arange(size) - (size - 1) / 2 for size in (height, width))
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return cos * x + sin * y[:, None], cos * y[:, None] - sin * x


def posts(angle_rad: float, spacing: float, sides: tuple[float, ...] = (-10.0, 10.0)) -> Tensor:
    along, across = aligned(angle_rad)
    nearest = (along + spacing / 2) % spacing - spacing / 2
    return sum(torch.exp(-(nearest**2 + (across - side) ** 2)) for side in sides)


def clutter(seed: int = 0, count: int = 100) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.zeros(SIZE * SIZE)
    blobs[torch.randperm(SIZE * SIZE, generator=generator)[:count]] = 1.0
    return blobs.reshape(SIZE, SIZE)


def road(angle_rad: float) -> Tensor:
    """The map's direction field: a strip along the middle, nothing elsewhere."""
    across = aligned(angle_rad)[1]
    doubled = torch.tensor([math.cos(2 * angle_rad), math.sin(2 * angle_rad)])
    return (doubled[:, None, None] * (across.abs() < 4))[None]


def plain(gamma: float = 1.0, **options: float) -> Roadside:
    """One group that is the one channel itself."""
    module = Roadside(1, groups=1, **options)
    torch.nn.init.ones_(module.project.weight)
    torch.nn.init.constant_(module.gamma, gamma)
    return module


@pytest.mark.parametrize("spacing", [7, 12, 20])
@pytest.mark.parametrize("angle_rad", ANGLES)
def test_posts_at_a_stable_spacing_gain_and_clutter_loses(angle_rad: float, spacing: int) -> None:
    row, blobs = posts(angle_rad, spacing), clutter()
    x, module = (row + blobs)[None, None], plain()
    found = module.repetition(x, road(angle_rad))
    weight, gate = found.weight[0, 0], module.gate(x, road(angle_rad))[0, 0]
    at_posts, at_clutter = row > 0.6, (blobs > 0) & (row < 0.05)
    assert weight[at_posts].mean() > 0.35
    assert weight[at_clutter].mean() < 0.06
    assert weight[at_posts].mean() > 10 * weight[at_clutter].mean()
    assert gate[at_posts].mean() > 1.1
    assert gate[at_clutter].mean() < 0.95


@pytest.mark.parametrize("angle_rad", ANGLES)
@pytest.mark.parametrize("spacing", [7, 12, 20])
def test_the_lag_is_the_spacing_and_not_a_multiple_of_it(angle_rad: float, spacing: int) -> None:
    found = plain().repetition(posts(angle_rad, spacing)[None, None], road(angle_rad))
    middle = found.lag.shape[1] // 2
    rows = torch.tensor([middle - 10, middle + 10])
    assert (found.confidence[0, rows] > 0.7).all()
    torch.testing.assert_close(found.lag[0, rows], torch.full((2,), float(spacing)), rtol=0, atol=1.0)


def test_the_weights_turn_with_the_road() -> None:
    x, module = (posts(0.0, 12) + clutter())[None, None], plain()
    weight = module.repetition(x, road(0.0)).weight
    turned = module.repetition(x.rot90(-1, (2, 3)), road(math.pi / 2)).weight
    assert weight.max() > 0.5
    torch.testing.assert_close(turned, weight.rot90(-1, (2, 3)), rtol=0, atol=1e-3)


def test_posts_repeat_along_the_road_only() -> None:
    x, module = posts(0.0, 12, sides=(-10.0,))[None, None], plain()
    along, across = (module.repetition(x, road(angle)).weight.max() for angle in (0.0, math.pi / 2))
    assert along > 0.8
    assert across < 0.05


@pytest.mark.parametrize("shape", [(96, 96), (64, 128)], ids=str)
def test_white_noise_is_left_as_it_is(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    for module in (plain(), Roadside(16)):
        torch.nn.init.constant_(module.gamma, 5.0)
        gate = module.gate(torch.randn(2, module.project.in_channels, *shape))
        assert (gate - 1).abs().max() < 0.06


@pytest.mark.parametrize("kind", ["wall", "hedge", "two posts"])
def test_what_is_merely_long_or_a_pair_does_not_count(kind: str) -> None:
    x = torch.zeros(1, 1, SIZE, SIZE)
    if kind == "wall":
        x[..., 30:33, :] = 1.0
    elif kind == "hedge":
        x[..., 30:33, 20:70] = 1.0
    else:
        x[..., 30, 20] = x[..., 30, 75] = 1.0
    assert plain().repetition(x, road(0.0)).weight.max() < 0.05


def test_both_sides_of_the_road_help_each_other() -> None:
    torch.manual_seed(0)
    noise = 0.12 * torch.randn(SIZE, SIZE)
    x = (posts(0.0, 12, sides=(-10.5, 10.5)) + noise)[None, None]
    alone, together = (plain(mirror=mirror, rows=1).repetition(x, road(0.0)).confidence for mirror in (0.0, 1.0))
    middle = alone.shape[1] // 2
    rows = torch.tensor([middle - 11, middle - 10, middle + 10, middle + 11])
    assert together[0, rows].mean() > alone[0, rows].mean() + 0.02


def test_a_road_off_the_centre_is_the_mirror() -> None:
    field = road(0.0).roll(12, dims=2)
    direction, offset = road_direction(torch.zeros(1, 1, SIZE, SIZE), field)
    torch.testing.assert_close(offset, torch.tensor([12.0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(direction, torch.tensor([[1.0, 0.0]]))
    x = posts(0.0, 12, sides=(2.0, 22.0))[None, None]
    weight = plain(mirror=1.0).repetition(x, field).weight[0, 0]
    assert weight[posts(0.0, 12, sides=(2.0, 22.0)) > 0.6].mean() > 0.7


@pytest.mark.parametrize("angle_rad", ANGLES)
def test_without_a_map_the_kerb_shows_the_direction(angle_rad: float) -> None:
    kerb = torch.exp(-((aligned(angle_rad)[1].abs() - 6) ** 2) / 2)[None, None]
    for field in (None, torch.zeros(1, 2, SIZE, SIZE)):
        direction, offset = road_direction(kerb, field)
        across = direction[0, 0] * math.sin(angle_rad) - direction[0, 1] * math.cos(angle_rad)
        assert across.abs() < 0.04
        assert offset == 0
    empty, _ = road_direction(torch.zeros(1, 1, 8, 8), None)
    torch.testing.assert_close(empty, torch.tensor([[1.0, 0.0]]))


def test_a_direction_and_its_opposite_are_one_road() -> None:
    x = posts(0.5, 12)[None, None]
    both = [plain().repetition(x, road(angle)).weight for angle in (0.5, 0.5 + math.pi)]
    torch.testing.assert_close(*both, rtol=0, atol=1e-4)


def test_identity_at_start_and_gate_within_its_bounds() -> None:
    x = (posts(0.0, 12) + clutter())[None, None]
    assert torch.equal(Roadside(1)(x), x)
    gate = plain(gamma=50.0).gate(x, road(0.0))
    assert 0 <= gate.min() < 0.9
    assert 1.3 < gate.max() <= 2


def test_gradients_reach_features_and_projection_even_where_all_is_equal() -> None:
    for x in (torch.zeros(1, 3, 24, 30), torch.ones(1, 3, 24, 30), torch.randn(1, 3, 24, 30)):
        module = Roadside(3, groups=2, max_lag=10)
        torch.nn.init.ones_(module.gamma)
        y = module(x.requires_grad_())
        y.square().sum().backward()
        for value in (y, x.grad, module.project.weight.grad, module.gamma.grad):
            assert value.isfinite().all()
    assert module.project.weight.grad.abs().max() > 0


def test_the_projection_learns_which_channel_repeats() -> None:
    torch.manual_seed(0)
    row = posts(0.0, 12)
    x = torch.stack([row, 0.5 * torch.randn(SIZE, SIZE)])[None]
    module = Roadside(2, groups=1)
    torch.nn.init.constant_(module.project.weight, 0.5)
    torch.nn.init.constant_(module.gamma, 1.0)
    optimizer = torch.optim.Adam(module.project.parameters(), 0.1)
    for _ in range(30):
        loss = -(module.gate(x, road(0.0))[0, 0] * row).sum() / row.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    posts_weight, noise_weight = module.project.weight.abs().flatten().tolist()
    assert posts_weight > 2 * noise_weight


def test_the_fft_route_is_the_direct_one() -> None:
    rows = torch.randn(2, 3, 4, 9, dtype=torch.float64)
    found = _autocorrelation(rows, 5)
    expected = [
        [
            [sum(reference.autocorrelation(rows[b, g, v].numpy(), t) for g in range(3)) for t in range(6)]
            for v in range(4)
        ]
        for b in range(2)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    weights = torch.rand(2, 4, 6, dtype=torch.float64)
    both_ways = np.zeros((2, 3, 4, 9))
    for b, g, v, u in np.ndindex(2, 3, 4, 9):
        for t in range(6):
            for other in (u - t, u + t):
                if 0 <= other < 9:
                    both_ways[b, g, v, u] += float(weights[b, v, t]) * float(rows[b, g, v, other])
    torch.testing.assert_close(_convolved_both_ways(rows, weights), torch.from_numpy(both_ways), rtol=0, atol=1e-12)


def test_the_rise_is_one_at_the_spacing_and_nothing_at_its_double() -> None:
    rho = torch.zeros(1, 1, 30)
    rho[..., ::6] = 1.0
    rise = _rise(rho)[0, 0]
    assert rise[6] == 1
    assert rise[12] == rise[24] == 0
    rho[..., 3] = -0.8  # deep between the posts: no more than flat
    assert _rise(rho)[0, 0, 6] == 1
    steady = torch.linspace(1, -0.5, 30)[None, None]
    assert (_rise(steady) <= 0).all()


def test_no_matrix_of_all_pairs_is_stored(largest_tensor) -> None:
    with torch.no_grad(), largest_tensor() as largest:
        Roadside(8)(torch.randn(1, 8, 256, 256))
    assert 0 < largest.numel <= 64 * 256 * 256


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="min_lag must be at least 2, got 1"):
        Roadside(8, min_lag=1)
    with pytest.raises(ValueError, match="max_lag must be at least 20, got 10"):
        Roadside(8, min_lag=20, max_lag=10)
    with pytest.raises(ValueError, match="rows must be odd and positive, got 2"):
        Roadside(8, rows=2)
    with pytest.raises(ValueError, match=r"mirror must lie between 0 and 1, got 1.5"):
        Roadside(8, mirror=1.5)
