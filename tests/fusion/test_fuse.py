import pytest
import torch
from torch import nn

from bevfusion.attention import ATTENTION, attention_options, make, make_attention
from bevfusion.attention.contract import Need
from bevfusion.fusion.attend import Refinement, Scene, attend, needs_of
from bevfusion.fusion.concat import ConcatFusion
from bevfusion.fusion.fuse import JOINS, Fusion, channel_gate
from bevfusion.structures import Fused

SCENE = Scene(torch.ones(2, 1, 10, 12), torch.zeros(2, 2, 10, 12))


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 8, 10, 12), torch.randn(2, 8, 20, 20), torch.randn(2, 8, 10, 12)


@pytest.mark.parametrize("name", ["se", "cam"])
def test_a_channel_gate_reaches_lidar_map_and_joint_alike(name: str):
    fusion = Fusion(make_attention(name, 16), ConcatFusion(8)).eval()
    lidar, map_features, map_in_ego = inputs()
    fused = fusion(lidar, map_features, map_in_ego, SCENE)
    gate = fusion.attention.gate(torch.cat([lidar, map_in_ego], dim=1))  # type: ignore[operator]
    torch.testing.assert_close(fused.lidar, lidar * gate[:, :8])
    torch.testing.assert_close(fused.map, map_features * gate[:, 8:])
    torch.testing.assert_close(fused.joint, fusion.join(lidar * gate[:, :8], map_in_ego * gate[:, 8:]))


@pytest.mark.parametrize("name", JOINS)
def test_other_ways_to_join_leave_the_branches_as_they_are(name: str):
    fusion = Fusion(nn.Identity(), make(JOINS, name, 8))
    lidar, map_features, map_in_ego = inputs()
    fused = fusion(lidar, map_features, map_in_ego, SCENE)
    torch.testing.assert_close(fused.lidar, lidar)
    torch.testing.assert_close(fused.map, map_features)
    torch.testing.assert_close(fused.joint, fusion.join(lidar, map_in_ego))


def test_the_gate_listens_to_both_branches():
    fusion = Fusion(make_attention("se", 16), ConcatFusion(8))
    lidar, map_features, map_in_ego = inputs()
    louder = fusion(lidar, map_features, 5.0 * map_in_ego.abs(), SCENE)
    assert (louder.lidar - fusion(lidar, map_features, map_in_ego, SCENE).lidar).abs().max() > 1e-4


def test_an_empty_channel_lets_everything_through():
    before = torch.zeros(1, 2, 3, 3)
    torch.testing.assert_close(channel_gate(before, before), torch.ones(1, 2, 1, 1))


def test_refinement_leaves_the_map_alone():
    lidar, map_features, joint = inputs()
    refinement = Refinement(make_attention("sam", 8), make_attention("sam", 8))
    refined = refinement(Fused(lidar, map_features, joint), SCENE)
    assert refined.map is map_features
    torch.testing.assert_close(refined.lidar, refinement.lidar(lidar))
    assert (refined.joint - joint).abs().max() > 0.01


@pytest.mark.parametrize("name", ["se", "cam", "cbam"])
def test_occupancy_pools_over_what_the_scan_has_seen(name: str):
    torch.manual_seed(1)  # with a single hidden channel chance may choose one that is always off
    mechanism, (x, _, _) = make_attention(name, 8, {"occupancy": True, "reduction": 1}).eval(), inputs()
    half = Scene(torch.cat([torch.ones(2, 1, 10, 6), torch.zeros(2, 1, 10, 6)], dim=3), SCENE.road_cos2_sin2)
    louder = torch.cat([x[..., :6], 9.0 * x[..., 6:]], dim=3)
    torch.testing.assert_close(attend(mechanism, x, half)[0][..., :6], attend(mechanism, louder, half)[0][..., :6])
    assert (attend(mechanism, x, SCENE)[0] - attend(mechanism, louder, SCENE)[0])[..., :6].abs().max() > 1e-4


@pytest.mark.parametrize("name", [name for name in ATTENTION if "occupancy" in attention_options(name)])
def test_every_mechanism_with_occupancy_is_told_what_was_seen(name: str):
    mechanism, (x, _, _) = make_attention(name, 8, {"occupancy": True}), inputs()
    assert needs_of(mechanism) == {Need.SEEN}
    y, losses = attend(mechanism, x, SCENE)
    assert y.shape == x.shape
    assert losses == ()


def test_a_mechanism_says_what_it_needs():
    beside_features = {name: needs_of(make_attention(name, 8)) for name in ATTENTION}
    assert {name: needs for name, needs in beside_features.items() if needs} == {
        "roadside": {Need.ROAD},
        "hard": {Need.LOSS},
        "dynamic_capacity": {Need.LOSS},
    }


def test_roadside_attention_is_told_where_the_road_runs():
    mechanism, (x, _, _) = make_attention("roadside", 8), inputs()
    nn.init.ones_(mechanism.gamma)  # type: ignore[arg-type]
    along = Scene(SCENE.seen, torch.tensor([1.0, 0.0])[None, :, None, None].expand(2, 2, 10, 12))
    across = Scene(SCENE.seen, torch.tensor([-1.0, 0.0])[None, :, None, None].expand(2, 2, 10, 12))
    assert (attend(mechanism, x, along)[0] - attend(mechanism, x, across)[0]).abs().max() > 1e-4


def test_hard_attention_learns_from_the_loss_of_each_sample():
    mechanism, (x, _, _) = make_attention("hard", 8), inputs()
    _, losses = attend(mechanism.train(), x, SCENE)
    losses[0](torch.tensor([1.0, 5.0]), torch.zeros(2, 3)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mechanism.parameters())
    assert attend(mechanism.eval(), x, SCENE)[1] == ()


def test_dynamic_capacity_learns_where_the_truth_lies():
    mechanism, (x, _, _) = make_attention("dynamic_capacity", 8, {"cells": 4}), inputs()
    _, losses = attend(mechanism.train(), x, SCENE)
    east, west = torch.tensor([[3.0, 0.1, 0.0]] * 2), torch.tensor([[-3.0, 0.1, 0.0]] * 2)
    loss = losses[0](torch.zeros(2), east)
    loss.backward()
    assert mechanism.top_linear.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert loss != losses[0](torch.zeros(2), west)
