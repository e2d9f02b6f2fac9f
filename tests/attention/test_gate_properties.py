"""What the equations promise about each gate's structure, each with a case in which it does not hold."""

import pytest
import torch
from torch import Tensor, nn

from bevfusion.attention import make_attention
from bevfusion.attention.bam import BAM
from bevfusion.attention.cbam import CAM, CBAM, SAM
from bevfusion.attention.coordinate import Coordinate
from bevfusion.attention.eca import ECA, adaptive_kernel_size
from bevfusion.attention.gam import GAM
from bevfusion.attention.ghost_se import GhostSE, make_divisible
from bevfusion.attention.sca import SCA
from bevfusion.attention.se import SE
from bevfusion.attention.simam import SimAM
from bevfusion.attention.sk import SK
from bevfusion.attention.strip import Strip
from bevfusion.attention.triplet import Triplet
from tests.attention.test_gates import randomized
from tests.attention.test_symmetries import CHANNELS, MOVES, SIDE, picture, shuffled


@pytest.mark.parametrize("name", ["se", "ghost_se", "cam"])
def test_renaming_channels_with_their_weights_changes_nothing(name: str) -> None:
    module, _ = randomized(name, CHANNELS, {})
    renamed, _ = randomized(name, CHANNELS, {})
    order = shuffled(CHANNELS)
    first, last = (renamed.mlp[0], renamed.mlp[2]) if isinstance(renamed, CAM) else (renamed.squeeze, renamed.excite)
    with torch.no_grad():
        first.weight.copy_(first.weight[:, order].clone())
        last.weight.copy_(last.weight[order].clone())
        last.bias.copy_(last.bias[order].clone())
    torch.testing.assert_close(renamed(picture()[:, order]), module(picture())[:, order])


def test_bottlenecks_never_vanish() -> None:
    assert SE(5).squeeze.out_features == 1
    assert SE(64).squeeze.out_features == 4
    assert Coordinate(64).rows.in_channels == 8
    assert Coordinate(512).rows.in_channels == 16
    assert SK(64).select.in_features == 32
    assert [make_divisible(0.25 * c, 4) for c in (64, 40, 72, 100, 200, 3)] == [16, 12, 20, 24, 52, 4]
    assert make_divisible(45.0, 40) == 80, "40 would fall below 90 % of 45"


def test_the_hard_sigmoid_stops_learning_where_the_sigmoid_does_not() -> None:
    x = picture()
    for module, learns in ((GhostSE(CHANNELS).double(), False), (SE(CHANNELS).double(), True)):
        nn.init.constant_(module.excite.bias, 9.0)
        module(x).sum().backward()
        assert bool(module.excite.bias.grad.abs().max() > 0) == learns


def test_sam_gives_all_channels_one_gate_that_shifts_with_the_input_away_from_borders() -> None:
    module, _ = randomized("sam", CHANNELS, {})
    x = picture()
    assert module.gate(x).shape == (2, 1, SIDE, SIDE)
    here, there = module.gate(x), module.gate(x.roll(2, 3)).roll(-2, 3)
    torch.testing.assert_close(here[..., 3:-5], there[..., 3:-5], rtol=1e-12, atol=1e-12)
    assert (here - there)[..., :3].abs().max() > 1e-3


@pytest.mark.parametrize(("padding", "flat"), [("replicate", True), ("zeros", False)])
def test_sam_frames_a_constant_map_only_with_zero_padding(padding: str, flat: bool) -> None:
    module, _ = randomized("sam", CHANNELS, {"padding": padding})
    gate = module.gate(torch.ones(1, CHANNELS, SIDE, SIDE, dtype=torch.float64))
    assert bool((gate - gate.mean()).abs().max() < 1e-12) == flat


def test_sam_of_one_channel_sees_the_same_plane_twice() -> None:
    module, _ = randomized("sam", 1, {})
    swapped, _ = randomized("sam", 1, {})
    with torch.no_grad():
        swapped.conv.weight.copy_(swapped.conv.weight.flip(1).clone())
    x = picture()
    torch.testing.assert_close(module(x[:, :1]), swapped(x[:, :1]))
    assert (module(x) - swapped(x)).abs().max() > 1e-3


def test_cbam_is_cam_then_sam() -> None:
    module, _ = randomized("cbam", CHANNELS, {})
    x = picture()
    assert isinstance(module, CBAM)
    assert isinstance(module.spatial, SAM)
    torch.testing.assert_close(module(x), module.spatial(module.channel(x)))
    parallel, _ = randomized("cbam", CHANNELS, {"arrangement": "parallel"})
    assert (parallel(x) - module(x)).abs().max() > 1e-3


def test_bam_adds_a_logit_of_channels_and_one_of_cells() -> None:
    gates = {
        mode: randomized("bam", CHANNELS, {"mode": mode})[0].gate(picture(width=30)) for mode in ("sum", "product")
    }
    for mode, gate in gates.items():
        logit = torch.logit(gate - 1)
        centred = logit - logit.mean((2, 3), keepdim=True)
        assert bool((centred - centred[:, :1]).abs().max() < 1e-9) == (mode == "sum")


def test_bam_product_cannot_tell_two_logits_from_their_negatives() -> None:
    def negated(mode: str) -> tuple[Tensor, Tensor]:
        module, _ = randomized("bam", CHANNELS, {"mode": mode})
        assert isinstance(module, BAM)
        before = module.gate(picture())
        with torch.no_grad():
            for last in (module.channel[3], module.spatial_out[0], module.channel[4], module.spatial_out[1]):
                for parameter in last.parameters() if mode == "product" or last.weight.dim() == 1 else ():
                    parameter.neg_()
        return before, module.gate(picture())

    before, after = negated("product")
    torch.testing.assert_close(before, after)
    before, after = negated("sum")
    assert (before - after).abs().max() > 1e-3


def test_sk_weights_sum_to_one() -> None:
    module, _ = randomized("sk", CHANNELS, {"branches": 3})
    assert isinstance(module, SK)
    weights = module.weights(picture())
    assert weights.shape == (2, 3, CHANNELS)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, CHANNELS, dtype=torch.float64), rtol=1e-14, atol=1e-14)
    assert weights.std(1).max() > 1e-3


def test_sk_with_equal_selectors_is_the_mean_and_with_one_branch_the_convolution() -> None:
    module, _ = randomized("sk", CHANNELS, {})
    x = picture()
    nn.init.constant_(module.select.weight, 0.3)
    torch.testing.assert_close(module(x), (module.kernels[0](x) + module.kernels[1](x)) / 2)
    single, _ = randomized("sk", CHANNELS, {"branches": 1})
    torch.testing.assert_close(single(x), single.kernels[0](x))


def test_sk_does_not_care_which_branch_comes_first() -> None:
    module, _ = randomized("sk", CHANNELS, {})
    x = picture()
    before = module(x)
    module.kernels = nn.ModuleList([module.kernels[1], module.kernels[0]])
    assert (module(x) - before).abs().max() > 1e-3, "the selectors still belong to the old order"
    with torch.no_grad():
        module.select.weight.copy_(module.select.weight.roll(CHANNELS, 0).clone())
    torch.testing.assert_close(module(x), before)


def test_sk_weights_do_not_depend_on_where_things_are() -> None:
    module, _ = randomized("sk", CHANNELS, {})
    x = picture()
    before = module.weights(MOVES["cells"](x))
    assert (before - module.weights(x)).abs().max() > 1e-4, "the kernels see neighbours"
    with torch.no_grad():
        for kernel in module.kernels:
            kernel[0].weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    torch.testing.assert_close(module.weights(MOVES["cells"](x)), module.weights(x))


@pytest.mark.parametrize("order", ["channel_first", "spatial_first"])
def test_sca_shares_out_one_whole(order: str) -> None:
    x, one = picture(), torch.ones(2, dtype=torch.float64)
    paper, _ = randomized("sca", CHANNELS, {"order": order, "rescale": False})
    assert isinstance(paper, SCA)
    torch.testing.assert_close(paper.gate(x).sum((1, 2, 3)), one)
    rescaled, _ = randomized("sca", CHANNELS, {"order": order})
    torch.testing.assert_close(rescaled.gate(x).mean((1, 2, 3)), one)


def test_sca_rescales_by_the_number_of_seen_cells() -> None:
    module, _ = randomized("sca", CHANNELS, {"occupancy": True})
    seen = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    seen[:, :, 2:5, 4:8] = True
    gate = module.gate(picture(), seen)
    assert (gate * ~seen).abs().max() == 0
    torch.testing.assert_close(gate.sum((1, 2, 3)) / (12 * CHANNELS), torch.ones(2, dtype=torch.float64))


def test_eca_kernel_follows_the_channels_and_reaches_only_neighbours() -> None:
    assert [adaptive_kernel_size(c) for c in (1, 64, 128, 256, 512, 2048)] == [1, 3, 5, 5, 5, 7]
    module, _ = randomized("eca", CHANNELS, {"kernel_size": 3})
    assert isinstance(module, ECA)
    x = picture()
    moved = x.clone()
    moved[:, 4] += 1
    changed = ((module.gate(moved) - module.gate(x)).abs() > 1e-6).any(0).flatten()
    assert changed.tolist() == [c in (3, 4, 5) for c in range(CHANNELS)]


def test_simam_ignores_scale_and_offset_of_a_channel() -> None:
    module, x = SimAM(CHANNELS, regularizer=1e-9), picture()
    torch.testing.assert_close(module.gate(7 * x - 3), module.gate(x), rtol=1e-6, atol=1e-6)
    flat = SimAM(CHANNELS).gate(torch.full_like(x, 4.0))
    torch.testing.assert_close(flat, torch.full_like(x, 0.5).sigmoid())


def test_gam_groups_mix_because_of_the_shuffle() -> None:
    module, _ = randomized("gam", CHANNELS, {"reduction": 2, "groups": 2})
    assert isinstance(module, GAM)

    def reached(x: Tensor) -> Tensor:
        """Which channels of the second gate depend on the first half of the channels."""
        changed = x.clone()
        changed[:, : CHANNELS // 2] += 1
        return ((module.spatial(changed) - module.spatial(x)).abs() > 1e-9).any(0).any(1).any(1)

    assert reached(picture()).all()
    module.spatial[3] = nn.Identity()
    assert reached(picture()).tolist() == [True] * 4 + [False] * 4


def test_gam_channel_half_follows_every_cell() -> None:
    module, _ = randomized("gam", CHANNELS, {})
    torch.testing.assert_close(module.mlp(MOVES["cells"](picture())), MOVES["cells"](module.mlp(picture())))
    assert module.mlp(picture()).std((2, 3)).max() > 1e-3, "it is not one gate for the whole channel"


def test_triplet_transposes_when_its_planes_swap_and_their_kernels_transpose() -> None:
    module, _ = randomized("triplet", CHANNELS, {})
    other, _ = randomized("triplet", CHANNELS, {})
    assert isinstance(other, Triplet)
    x = picture(width=9)
    other.cw, other.hc = other.hc, other.cw
    assert (other(x.transpose(2, 3)) - module(x).transpose(2, 3)).abs().max() > 1e-3, "swapping alone is not enough"
    with torch.no_grad():
        for plane in (other.cw, other.hc, other.hw):
            plane.conv.weight.copy_(plane.conv.weight.transpose(2, 3).clone())
    torch.testing.assert_close(other(x.transpose(2, 3)), module(x).transpose(2, 3))


def test_triplet_planes_are_constant_along_the_pooled_axis() -> None:
    module, _ = randomized("triplet", CHANNELS, {})
    gate = module.gate(picture())
    # A sum of functions of two of three indices each: the mixed difference over all three vanishes.
    mixed = gate.diff(dim=1).diff(dim=2).diff(dim=3)
    assert mixed.abs().max() < 1e-12
    assert gate.diff(dim=1).diff(dim=2).abs().max() > 1e-3


def test_coordinate_gate_is_an_outer_product() -> None:
    values = torch.linalg.svdvals(randomized("coordinate", CHANNELS, {})[0].gate(picture(width=9)))
    assert (values[..., 1] / values[..., 0]).max() < 1e-12
    values = torch.linalg.svdvals(randomized("strip", CHANNELS, {})[0].gate(picture(width=9)))
    assert (values[..., 1] / values[..., 0]).max() > 1e-3


def test_strip_logit_is_a_sum_of_row_and_column() -> None:
    gates = {name: randomized(name, CHANNELS, {})[0].gate(picture()) for name in ("strip", "coordinate")}
    mixed = {name: torch.logit(gate).diff(dim=2).diff(dim=3).abs().max() for name, gate in gates.items()}
    assert mixed["strip"] < 1e-10
    assert mixed["coordinate"] > 1e-3


@pytest.mark.parametrize("name", ["coordinate", "strip"])
def test_transposing_swaps_rows_and_columns(name: str) -> None:
    module, _ = randomized(name, CHANNELS, {})
    other, _ = randomized(name, CHANNELS, {})
    assert isinstance(other, Coordinate | Strip)
    x = picture(width=9)
    assert (other(x.transpose(2, 3)) - module(x).transpose(2, 3)).abs().max() > 1e-3
    other.rows, other.columns = other.columns, other.rows
    torch.testing.assert_close(other(x.transpose(2, 3)), module(x).transpose(2, 3))


def test_gc_starts_as_the_identity_and_adds_one_vector_to_all_cells() -> None:
    x = picture()
    assert torch.equal(make_attention("gc", CHANNELS).double()(x), x)
    added = randomized("gc", CHANNELS, {})[0](x) - x
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), rtol=1e-9, atol=1e-9)
    assert added.abs().max() > 1e-3


def test_where_nothing_was_seen_there_is_no_context_and_no_share() -> None:
    x, nothing = picture(), torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    assert randomized("gc", CHANNELS, {"occupancy": True})[0].context(x, nothing).abs().max() == 0
    assert randomized("sca", CHANNELS, {"occupancy": True})[0].gate(x, nothing).abs().max() == 0
