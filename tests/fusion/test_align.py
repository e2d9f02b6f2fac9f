import math

import torch

from bevfusion.fusion.align import map_in_ego
from bevfusion.geometry.grid import Grid

MAP, EGO = Grid(24, 24, 1.0), Grid(8, 12, 1.0)


def test_without_a_turn_the_middle_of_the_map_is_cut_out():
    features = torch.rand(1, 3, 24, 24)
    seen = map_in_ego(features, torch.zeros(1, 3), MAP, EGO)
    torch.testing.assert_close(seen, features[:, :, 8:16, 6:18], atol=1e-5, rtol=0)


def test_what_lies_north_is_ahead_of_a_vehicle_that_faces_north():
    features = torch.zeros(1, 1, 24, 24)
    features[0, 0, 15, 11:13] = 1.0  # 3.5 m north
    seen = map_in_ego(features, torch.tensor([[0.0, 0.0, math.pi / 2]]), MAP, EGO)
    assert seen[0, 0, 3:5, 9].min() > 0.99  # 3.5 m ahead: the column of x = 3.5
    assert seen.sum() < 2.01


def test_beyond_the_tile_is_nothing():
    seen = map_in_ego(torch.ones(1, 1, 4, 4), torch.zeros(1, 3), Grid(4, 4, 1.0), EGO)
    assert seen[0, 0, 4, 0] == 0.0
    assert seen[0, 0, 4, 6] == 1.0


def test_a_vehicle_elsewhere_sees_what_lies_there():
    features = torch.rand(1, 3, 24, 24)
    seen = map_in_ego(features, torch.tensor([[3.0, -2.0, 0.0]]), MAP, EGO)
    torch.testing.assert_close(seen, features[:, :, 6:14, 9:21], atol=1e-5, rtol=0)


def test_the_turn_is_about_the_vehicle_and_not_about_the_tile():
    features = torch.zeros(1, 1, 24, 24)
    features[0, 0, 11:13, 18] = 1.0  # x = 6.5 m
    seen = map_in_ego(features, torch.tensor([[10.0, 0.0, math.pi]]), MAP, EGO)
    assert seen[0, 0, 3:5, 9].min() > 0.99  # 3.5 m ahead of a vehicle at x = 10 m that faces west
