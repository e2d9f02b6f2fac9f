"""The spatial transformer against its equations, and the geometry of what it does."""

import math

import numpy as np
import pytest
import torch

from bevfusion.attention.stn import SpatialTransformer, input_from_output_m, rigid_theta, warp
from bevfusion.geometry.grid import Grid
from tests.attention import reference_affinity as reference


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def affine(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(1, 2, 3)


IDENTITY = affine(1, 0, 0, 0, 1, 0)


def test_formula() -> None:
    theta, x = torch.cat([IDENTITY + 0.3 * picture(1, 2, 3), 0.5 * picture(1, 2, 3)]), picture(2, 3, 4, 6)
    expected = [reference.warped(sample.numpy(), t.numpy()) for sample, t in zip(x, theta, strict=True)]
    torch.testing.assert_close(warp(x, theta), torch.stack([torch.from_numpy(y) for y in expected]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("motion", ["affine", "rigid"])
def test_identity_at_start_and_every_number_of_theta_learns(motion: str) -> None:
    module, x = SpatialTransformer(5, motion=motion), torch.randn(2, 5, 9, 14)
    torch.testing.assert_close(module.theta(x), IDENTITY.float().expand(2, 2, 3))
    torch.testing.assert_close(module(x), x, rtol=0, atol=5e-6)
    (module(x) * torch.randn_like(x)).sum().backward()
    assert (module.decide.bias.grad.abs() > 1e-6).all()


def test_half_a_turn_is_a_double_flip() -> None:
    x = picture(1, 2, 5, 8)
    torch.testing.assert_close(warp(x, affine(-1, 0, 0, 0, -1, 0)), x.flip(2, 3))


@pytest.mark.parametrize("cells", [1, 3])
def test_a_shift_by_whole_cells_reads_that_far_away_and_zero_beyond(cells: int) -> None:
    x = picture(1, 2, 5, 8)
    y = warp(x, affine(1, 0, 2 * cells / 8, 0, 1, 0))
    torch.testing.assert_close(y[..., :-cells], x[..., cells:])
    assert y[..., -cells:].abs().max() < 1e-12


def test_one_warp_after_another_is_the_product_of_their_thetas() -> None:
    u = torch.linspace(-1.5, 1.5, 64, dtype=torch.float64)
    smooth = torch.exp(-((u[:, None] - 0.2) ** 2 + (u[None, :] + 0.1) ** 2) / 0.1)[None, None]
    first, second = affine(0.9, 0.2, 0.1, -0.1, 1.1, 0.0), affine(1.0, -0.3, 0.0, 0.2, 0.9, -0.2)
    homogeneous = torch.cat([second, affine(0, 0, 1, 0, 0, 0)[:, :1]], dim=1)
    twice = warp(warp(smooth, first), second)
    # The second warp reads points of the first's output: theta1 is applied to what theta2 gives.
    torch.testing.assert_close(warp(smooth, first @ homogeneous), twice, rtol=0, atol=0.02)
    assert (warp(smooth, first) - twice).abs().max() > 0.2


def test_a_quarter_turn_of_a_map_that_is_not_square_is_rigid() -> None:
    x = picture(1, 2, 5, 9)
    theta = rigid_theta(torch.tensor([math.pi / 2], dtype=torch.float64), torch.zeros(1, 2).double(), 5, 9)
    turned = warp(x, theta)
    # What lies at (x, y) = (1, 0) of the output is read at (0, 1) of the input.
    torch.testing.assert_close(turned[..., 2, 5], x[..., 3, 4])
    torch.testing.assert_close(turned[..., :, 2:7], x[..., :, 2:7].transpose(2, 3).flip(2))


@pytest.mark.parametrize("size", [(6, 6), (5, 12)], ids=str)
def test_the_transform_in_metres_says_where_things_came_from(size: tuple[int, int]) -> None:
    grid, turn, shift = Grid(*size, 0.5), 0.7, torch.tensor([[0.3, -0.2]]).double()
    theta = rigid_theta(torch.tensor([turn], dtype=torch.float64), shift, *size)
    transform = input_from_output_m(theta, grid)[0]
    rotation = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    torch.testing.assert_close(transform[:, :2], torch.tensor(rotation).double())
    ramp = torch.from_numpy(np.moveaxis(grid.centres_m(), 2, 0))[None]  # x and y of every cell, in metres
    found = warp(ramp, theta)[0]
    expected = torch.einsum("ij,jhw->ihw", transform[:, :2], ramp[0]) + transform[:, 2, None, None]
    limit = torch.tensor(grid.half_extent_m)[:, None, None] - 0.25
    inside = (expected.abs() <= limit).all(0)
    assert inside.sum() > 10
    torch.testing.assert_close(found[:, inside], expected[:, inside])


def test_gradients_off_the_lattice() -> None:
    theta = (IDENTITY + 0.05 * picture(1, 2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(warp, (picture(1, 2, 4, 5).requires_grad_(), theta))


def test_rigid_theta_stays_rigid_whatever_the_net_says() -> None:
    module = SpatialTransformer(4, motion="rigid").double()
    torch.nn.init.normal_(module.decide.weight)
    x, grid = picture(3, 4, 8, 15), Grid(8, 15, 1.0)
    linear = input_from_output_m(module.theta(x), grid)[:, :, :2]
    torch.testing.assert_close(linear @ linear.transpose(1, 2), torch.eye(2).double().expand(3, 2, 2))
    assert (module.theta(x)[0] - module.theta(x)[1]).abs().max() > 1e-3


def test_it_can_learn_to_undo_a_shift() -> None:
    torch.manual_seed(0)
    module = SpatialTransformer(1, motion="rigid", hidden=8)
    u = torch.arange(16.0)
    # The localisation net sees a blob somewhere and is to bring it to the centre.
    centres = 4 + 8 * torch.rand(16, 2)
    blobs = torch.exp(-((u[:, None] - centres[:, :1, None]) ** 2 + (u - centres[:, 1:, None]) ** 2) / 8)[:, None]
    target = torch.exp(-((u[:, None] - 7.5) ** 2 + (u - 7.5) ** 2) / 8)[None, None]
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    before = (blobs - target).square().mean()
    for _ in range(150):
        optimizer.zero_grad()
        loss = (module(blobs) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * before


def test_it_says_that_it_moves_geometry() -> None:
    assert SpatialTransformer.moves_geometry


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"motion must be one of \['affine', 'rigid'\], got 'similarity'"):
        SpatialTransformer(4, motion="similarity")
