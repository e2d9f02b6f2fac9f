import pytest
import torch
from torch import nn

from bevfusion.attention import make_attention
from bevfusion.fusion.fuse import Fusion, channel_gate
from bevfusion.fusion.refine import Refinement
from bevfusion.structures import Fused


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 8, 10, 12), torch.randn(2, 8, 20, 20), torch.randn(2, 8, 10, 12)


@pytest.mark.parametrize("name", ["se", "cam"])
def test_a_channel_gate_reaches_lidar_map_and_joint_alike(name: str):
    fusion = Fusion(8, make_attention(name, 16)).eval()
    lidar, map_features, map_in_ego = inputs()
    fused = fusion(lidar, map_features, map_in_ego)
    both = torch.cat([lidar, map_in_ego], dim=1)
    gate = fusion.attention.gate(both)  # type: ignore[operator]
    torch.testing.assert_close(fused.lidar, lidar * gate[:, :8])
    torch.testing.assert_close(fused.map, map_features * gate[:, 8:])
    torch.testing.assert_close(fused.joint, fusion.join(both * gate))


def test_without_attention_the_branches_pass_unchanged():
    fused = Fusion(8, nn.Identity())(*inputs())
    torch.testing.assert_close(fused.lidar, inputs()[0])
    torch.testing.assert_close(fused.map, inputs()[1])


def test_the_gate_listens_to_both_branches():
    fusion = Fusion(8, make_attention("se", 16))
    lidar, map_features, map_in_ego = inputs()
    louder = fusion(lidar, map_features, 5.0 * map_in_ego.abs())
    assert (louder.lidar - fusion(lidar, map_features, map_in_ego).lidar).abs().max() > 1e-4


def test_an_empty_channel_lets_everything_through():
    before = torch.zeros(1, 2, 3, 3)
    torch.testing.assert_close(channel_gate(before, before), torch.ones(1, 2, 1, 1))


def test_refinement_leaves_the_map_alone():
    lidar, map_features, joint = inputs()
    refinement = Refinement(make_attention("sam", 8), make_attention("sam", 8))
    refined = refinement(Fused(lidar, map_features, joint))
    assert refined.map is map_features
    torch.testing.assert_close(refined.lidar, refinement.lidar(lidar))
    assert (refined.joint - joint).abs().max() > 0.01
