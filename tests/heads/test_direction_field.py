"""The direction head: what it says before it has learned, paths against integrals, and its loss."""

import math

import numpy as np
import pytest
import torch

from bevfusion.direction.learned import FieldReader
from bevfusion.geometry.grid import Grid
from bevfusion.heads.direction_field import (
    WAY_PLANES,
    DirectionFieldHead,
    LearnedField,
    field_loss,
    follow,
    von_mises_loss,
    way_planes,
)
from bevfusion.structures import AskedWay, FieldTruth

GRID = Grid.square(48.0, 1.0)


def head(grid: Grid = GRID) -> DirectionFieldHead:
    torch.manual_seed(0)
    return DirectionFieldHead(8, grid).eval()


def circle_field(radius_m: float, grid: Grid = GRID) -> torch.Tensor:
    """Everywhere the direction of circles about a centre so far to the left of the vehicle."""
    x_m, y_m = grid.centres_m().transpose(2, 0, 1)
    return torch.from_numpy(np.arctan2(y_m - radius_m, x_m) + 0.5 * np.pi).float()[None]


def asked(grid: Grid, count: int = 1, seed: int = 0) -> AskedWay:
    generator = torch.Generator().manual_seed(seed)
    planes = [torch.randn(count, grid.height, grid.width, generator=generator) for _ in range(4)]
    return AskedWay(*planes, torch.ones(count), torch.full((count,), 0.5), torch.full((count,), 0.02))


def test_a_head_that_has_not_learned_says_what_the_way_says():
    way = asked(GRID)
    field = head()(torch.randn(1, 8, 96, 96), torch.ones(1, 1, 96, 96), way)
    assert torch.equal(field.direction_rad, way.direction_rad)
    assert torch.equal(field.drivable, torch.zeros(1, 96, 96))
    assert field.std_rad.detach().rad2deg().numpy() == pytest.approx(torch.full((1, 96, 96), 7.75).numpy(), abs=0.01)


def test_planes_are_told_as_numbers_of_order_one():
    planes = way_planes(asked(GRID, count=2))
    assert planes.shape == (2, WAY_PLANES, 96, 96)
    assert float(planes.abs().max()) <= 1.5


@pytest.mark.parametrize("size", [(20, 28), (96, 96), (7, 9)])
def test_rasters_of_any_size_are_read(size: tuple[int, int]):
    grid = Grid(*size, 1.0)
    field = head(grid)(torch.randn(2, 8, *size), torch.ones(2, 1, *size), asked(grid, count=2))
    assert field.direction_rad.shape == (2, *size)


@pytest.mark.parametrize("radius_m", [12.0, 40.0])
def test_a_circle_is_followed(radius_m: float):
    """Bilinear cells of a metre and steps of half a metre leave a decimetre in 40 m."""
    places = follow(circle_field(radius_m), GRID, 40.0)[0].numpy()
    angle = 0.5 * np.arange(1, 81) / radius_m
    expected = radius_m * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1)
    assert places == pytest.approx(expected, abs=0.1)
    assert np.hypot(*np.diff(places, axis=0).T) == pytest.approx(np.full(79, 0.5), abs=1e-5)


def test_a_smooth_field_is_followed_as_an_exact_integral_does():
    def direction(x_m, y_m):
        return 0.5 * np.sin(x_m / 9.0) - 0.05 * y_m

    x_m, y_m = GRID.centres_m().transpose(2, 0, 1)
    field = torch.from_numpy(direction(x_m, y_m)).float()[None]
    places = follow(field, GRID, 40.0)[0].numpy()
    place, passed = np.zeros(2), []
    for step in range(40000):  # Euler, a millimetre at a time
        angle = direction(*place)
        place = place + 1e-3 * np.array([math.cos(angle), math.sin(angle)])
        if step % 500 == 499:
            passed.append(place)
    assert places == pytest.approx(np.array(passed), abs=0.05)


def test_where_directions_meet_head_on_the_mean_is_of_vectors_not_of_angles():
    """Angles of 179 and -179 degrees are two degrees apart: between them one goes back, not ahead."""
    field = torch.full((1, 96, 96), math.radians(179.0))
    field[:, 48:] = math.radians(-179.0)
    end = follow(field, GRID, 10.0)[0, -1]
    assert float(end[0]) == pytest.approx(-10.0, abs=0.05)


def test_a_path_leads_the_gradient_to_the_cells_that_it_passes():
    field = torch.zeros(1, 96, 96, requires_grad=True)
    end = follow(field, GRID, 20.0)[0, -1, 1]
    (gradient,) = torch.autograd.grad(end, field)
    rows = gradient[0].abs().sum(1).nonzero()[:, 0].tolist()
    assert rows == [47, 48]  # the two rows along the x axis
    assert float(gradient.sum()) == pytest.approx(20.0, abs=0.6)  # a turn by a radian moves the end by its distance


def test_the_likelihood_of_directions_is_that_of_von_mises():
    generator = torch.Generator().manual_seed(1)
    direction = 6.0 * torch.rand(1, 5, 5, generator=generator)
    truth = 6.0 * torch.rand(1, 5, 5, generator=generator)
    log_concentration = torch.linspace(-1.0, 6.0, 25).view(1, 5, 5)
    loss = von_mises_loss(LearnedField(torch.zeros(1, 5, 5), direction, log_concentration), truth)
    k, away = log_concentration.double().exp().numpy(), (truth - direction).double().numpy()
    expected = np.log(2.0 * np.pi * np.i0(k)) - k * np.cos(away)
    assert loss.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def truth_of_circle(radius_m: float) -> FieldTruth:
    angle = 2.0 * np.arange(1, 21) / radius_m
    path = radius_m * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1)
    x_m, y_m = GRID.centres_m().transpose(2, 0, 1)
    left = torch.from_numpy(radius_m - np.hypot(x_m, y_m - radius_m)).float()[None]
    along = torch.from_numpy(radius_m * np.arctan2(x_m, radius_m - y_m)).float()[None]
    return FieldTruth(
        torch.ones(1, 96, 96),
        circle_field(radius_m),
        left,
        along,
        torch.from_numpy(path)[None].float(),
        torch.tensor([20.0]),
    )


def test_the_loss_falls_towards_the_truth_and_counts_no_point_that_is_not_known():
    truth = truth_of_circle(30.0)

    def loss(radius_m: float, truth: FieldTruth) -> float:
        plane = torch.full((1, 96, 96), 4.0)
        return float(field_loss(LearnedField(plane, circle_field(radius_m), plane), truth, GRID))

    assert loss(30.0, truth) < loss(33.0, truth) < loss(45.0, truth)
    short = FieldTruth(
        truth.drivable, truth.direction_rad, truth.left_m, truth.along_m, truth.path_m.clone(), torch.tensor([8.0])
    )
    before = loss(33.0, short)
    short.path_m[:, 8:] = 1e3
    assert loss(33.0, short) == before


def test_cells_of_which_nothing_is_known_do_not_count():
    truth = truth_of_circle(30.0)
    drivable = torch.zeros(1, 96, 96)
    drivable[:, :48] = -1.0
    truth = FieldTruth(drivable, truth.direction_rad, truth.left_m, truth.along_m, truth.path_m, truth.points)
    sure, said = torch.full((1, 96, 96), -9.0), torch.full((1, 96, 96), -9.0)
    said[:, :48] = 9.0  # where it is not known
    plane = torch.zeros(1, 96, 96)
    losses = [float(field_loss(LearnedField(d, circle_field(30.0), plane), truth, GRID)) for d in (sure, said)]
    assert losses[0] == losses[1]


def test_a_reader_without_learning_gives_the_way_back():
    """Point by point: the raster of a metre costs a few centimetres."""
    angle = 2.0 * np.arange(1, 21) / 25.0
    path = 25.0 * np.stack([np.sin(angle), 1.0 - np.cos(angle)], axis=1)
    reader = FieldReader(head(), torch.randn(1, 8, 96, 96), torch.ones(1, 1, 96, 96))
    way = reader.follow(path, angle, 0.5, 0.02)
    assert way.xy_m == pytest.approx(path, abs=0.15)
    assert np.degrees(way.yaw_rad - angle) == pytest.approx(np.zeros(20), abs=1.5)
    assert way.std_rad == pytest.approx(np.full(20, math.exp(-2.0)), abs=1e-3)
    assert way.drivable == pytest.approx(0.5)
    assert reader.follow(path[:5], angle[:5], 0.5, 0.02).xy_m.shape == (5, 2)
    assert reader.follow(path[:0], angle[:0], 0.5, 0.02).xy_m.shape == (0, 2)
