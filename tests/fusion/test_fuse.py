import pytest
import torch
from torch import nn

from bevfusion.attention import ATTENTION, attention_options, make, make_attention
from bevfusion.attention.contract import Need
from bevfusion.fusion.attend import Scene, attend, needs_of
from bevfusion.fusion.concat import ConcatFusion
from bevfusion.fusion.fuse import JOINS, Fusion, channel_gate

SCENE = Scene(torch.ones(2, 1, 10, 12), torch.zeros(2, 2, 10, 12))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 8, 10, 12), torch.randn(2, 8, 10, 12)


@pytest.mark.parametrize("name", ["se", "cam"])
def test_a_channel_gate_reaches_both_branches(name: str):
    fusion = Fusion(make_attention(name, 16), ConcatFusion(8), nn.Identity()).eval()
    lidar, map_in_ego = inputs()
    fused = fusion(lidar, map_in_ego, SCENE)
    gate = fusion.attention.gate(torch.cat([lidar, map_in_ego], dim=1))  # type: ignore[operator]
    torch.testing.assert_close(fused.attended, torch.cat([lidar, map_in_ego], dim=1) * gate)
    torch.testing.assert_close(fused.joint, fusion.join(lidar * gate[:, :8], map_in_ego * gate[:, 8:]))


@pytest.mark.parametrize("name", JOINS)
def test_other_ways_to_join_take_the_branches_as_they_are(name: str):
    fusion = Fusion(nn.Identity(), make(JOINS, name, 8), nn.Identity())
    lidar, map_in_ego = inputs()
    fused = fusion(lidar, map_in_ego, SCENE)
    torch.testing.assert_close(fused.attended, torch.cat([lidar, map_in_ego], dim=1))
    torch.testing.assert_close(fused.joint, fusion.join(lidar, map_in_ego))


def test_the_gate_listens_to_both_branches():
    fusion = Fusion(make_attention("se", 16), ConcatFusion(8), nn.Identity())
    lidar, map_in_ego = inputs()
    louder = fusion(lidar, 5.0 * map_in_ego.abs(), SCENE)
    assert (louder.attended - fusion(lidar, map_in_ego, SCENE).attended)[:, :8].abs().max() > 1e-4


def test_refinement_attends_to_what_was_joined():
    fusion = Fusion(nn.Identity(), ConcatFusion(8), make_attention("sam", 8)).eval()
    fused = fusion(*inputs(), SCENE)
    torch.testing.assert_close(fused.joint, fusion.refinement(fused.joined))
    assert (fused.joint - fused.joined).abs().max() > 0.01


def test_losses_of_both_mechanisms_are_handed_on():
    fusion = Fusion(make_attention("hard", 16), ConcatFusion(8), make_attention("hard", 8))
    assert len(fusion.train()(*inputs(), SCENE).auxiliary_losses) == 2
    assert fusion.eval()(*inputs(), SCENE).auxiliary_losses == ()


def test_a_mechanism_that_needs_the_road_is_not_for_a_scan_alone():
    with pytest.raises(ValueError, match="direction of the mapped road"):
        attend(make_attention("roadside", 8), inputs()[0], Scene(SCENE.seen))


def test_an_empty_channel_lets_everything_through():
    before = torch.zeros(1, 2, 3, 3)
    torch.testing.assert_close(channel_gate(before, before), torch.ones(1, 2, 1, 1))


@pytest.mark.parametrize("name", ["se", "cam", "cbam"])
def test_occupancy_pools_over_what_the_scan_has_seen(name: str):
    torch.manual_seed(1)  # with a single hidden channel chance may choose one that is always off
    mechanism, (x, _) = make_attention(name, 8, {"occupancy": True, "reduction": 1}).eval(), inputs()
    half = Scene(torch.cat([torch.ones(2, 1, 10, 6), torch.zeros(2, 1, 10, 6)], dim=3), SCENE.road_cos2_sin2)
    louder = torch.cat([x[..., :6], 9.0 * x[..., 6:]], dim=3)
    torch.testing.assert_close(attend(mechanism, x, half)[0][..., :6], attend(mechanism, louder, half)[0][..., :6])
    assert (attend(mechanism, x, SCENE)[0] - attend(mechanism, louder, SCENE)[0])[..., :6].abs().max() > 1e-4


@pytest.mark.parametrize("name", [name for name in ATTENTION if "occupancy" in attention_options(name)])
def test_every_mechanism_with_occupancy_is_told_what_was_seen(name: str):
    mechanism, (x, _) = make_attention(name, 8, {"occupancy": True}), inputs()
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
    mechanism, (x, _) = make_attention("roadside", 8), inputs()
    nn.init.ones_(mechanism.gamma)  # type: ignore[arg-type]
    along = Scene(SCENE.seen, torch.tensor([1.0, 0.0])[None, :, None, None].expand(2, 2, 10, 12))
    across = Scene(SCENE.seen, torch.tensor([-1.0, 0.0])[None, :, None, None].expand(2, 2, 10, 12))
    assert (attend(mechanism, x, along)[0] - attend(mechanism, x, across)[0]).abs().max() > 1e-4


def test_hard_attention_learns_from_the_loss_of_each_sample():
    mechanism, (x, _) = make_attention("hard", 8), inputs()
    _, losses = attend(mechanism.train(), x, SCENE)
    losses[0](torch.tensor([1.0, 5.0]), torch.zeros(2, 3)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mechanism.parameters())
    assert attend(mechanism.eval(), x, SCENE)[1] == ()


def test_dynamic_capacity_learns_where_the_truth_lies():
    mechanism, (x, _) = make_attention("dynamic_capacity", 8, {"cells": 4}), inputs()
    _, losses = attend(mechanism.train(), x, SCENE)
    east, west = torch.tensor([[3.0, 0.1, 0.0]] * 2), torch.tensor([[-3.0, 0.1, 0.0]] * 2)
    loss = losses[0](torch.zeros(2), east)
    loss.backward()
    assert mechanism.top_linear.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert loss != losses[0](torch.zeros(2), west)
