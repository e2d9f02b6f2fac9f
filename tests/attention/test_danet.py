"""Both halves of dual attention against their equations, and the head with its three outputs."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from bevfusion.attention.danet import ChannelAffinity, DualAttention, DualHead, PositionAttention
from bevfusion.attention.self_attention import SelfAttention
from tests.attention import reference_affinity as reference
from tests.attention.reference_affinity import params, randomized


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def test_position_formula() -> None:
    module, x = randomized(PositionAttention(10, reduction=3)), picture(2, 10, 4, 7)
    expected = torch.stack([torch.from_numpy(reference.position(sample.numpy(), params(module))) for sample in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("energy", "scale", "temperature"),
    [*itertools.product(["official", "paper"], ["none", "cells", "cosine"], [1.0]), ("official", "none", 7.0)],
)
def test_channel_formula(energy: str, scale: str, temperature: float) -> None:
    module = randomized(ChannelAffinity(6, energy=energy, energy_scale=scale, temperature=temperature))
    x = picture(2, 6, 3, 5)
    expected = [
        reference.channel(sample.numpy(), params(module), energy == "official", scale, temperature) for sample in x
    ]
    torch.testing.assert_close(module(x), torch.stack([torch.from_numpy(y) for y in expected]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "module", [PositionAttention(9), ChannelAffinity(9), DualAttention(9)], ids=lambda m: type(m).__name__
)
def test_identity_at_start_to_the_bit(module: torch.nn.Module) -> None:
    x = 1e3 * torch.randn(2, 9, 5, 6)
    y = module(x)
    assert torch.equal(y, x) if not isinstance(module, DualAttention) else torch.allclose(y, x, rtol=1e-6)


def test_position_is_the_full_form_of_sagan() -> None:
    ours, sagan, x = randomized(PositionAttention(16)), SelfAttention(16).double(), picture(1, 16, 5, 5)
    sagan.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), sagan(x))


@pytest.mark.parametrize("energy", ["official", "paper"])
def test_affinity_rows_sum_to_one_and_rank_as_they_should(energy: str) -> None:
    x = F.normalize(picture(2, 6, 4, 4).flatten(2), dim=2).unflatten(2, (4, 4))
    affinity = ChannelAffinity(6, energy=energy).affinity(x)
    torch.testing.assert_close(affinity.sum(2), torch.ones(2, 6).double())
    itself = affinity.diagonal(dim1=1, dim2=2)
    # Of channels of one norm each is most like itself: the code's form looks there least, the paper's most.
    extreme = affinity.amin(2) if energy == "official" else affinity.amax(2)
    torch.testing.assert_close(itself, extreme)


def test_channel_affinity_ignores_where_cells_are_and_follows_channels() -> None:
    module, x = randomized(ChannelAffinity(6, energy_scale="cells")), picture(1, 6, 4, 5)
    cells, channels = torch.randperm(20), torch.randperm(6)
    torch.testing.assert_close(module.affinity(x.flatten(2)[..., cells].reshape(x.shape)), module.affinity(x))
    torch.testing.assert_close(module(x[:, channels]), module(x)[:, channels], rtol=1e-11, atol=1e-11)


def test_half_precision_does_not_overflow() -> None:
    x = 2.0 * torch.ones(1, 4, 256, 256, dtype=torch.float16)  # energy 262144, half precision ends at 65504
    affinity = ChannelAffinity(4).half().affinity(x)
    torch.testing.assert_close(affinity, torch.full((1, 4, 4), 0.25))


def test_scaling_keeps_the_affinity_soft_on_a_large_map() -> None:
    x = torch.randn(1, 16, 128, 128)

    def entropy(scale: str) -> torch.Tensor:
        affinity = ChannelAffinity(16, energy_scale=scale).affinity(x)
        return -(affinity * (affinity + 1e-12).log()).sum(2).mean()

    assert entropy("none") < 0.2 < 2.5 < min(entropy("cells"), entropy("cosine"))


def test_the_slot_adds_both_halves_once() -> None:
    module, x = randomized(DualAttention(8, reduction=2, energy_scale="cells")), picture(1, 8, 4, 5)
    torch.testing.assert_close(module(x) - x, (module.position(x) - x) + (module.channel(x) - x))


def test_head_has_three_outputs_and_every_loss_reaches_its_half() -> None:
    torch.manual_seed(0)
    head = DualHead(16, classes=3, dropout=0.0, energy_scale="cells")
    torch.nn.init.ones_(head.sa.gamma)
    x, target = torch.randn(2, 16, 5, 6), torch.randint(3, (2, 5, 6))
    outputs = head(x)
    assert [tuple(output.shape) for output in outputs] == [(2, 3, 5, 6)] * 3
    fused, position, channel = (F.cross_entropy(output, target) for output in outputs)
    torch.testing.assert_close(head.loss(outputs, target), fused + position + channel)
    position.backward()
    assert head.conv6[1].weight.grad is not None
    assert head.sa.gamma.grad is not None
    assert all(part.grad is None for part in (head.conv7[1].weight, head.conv8[1].weight, head.sc.gamma))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"energy must be one of \['official', 'paper'\], got 'officail'"):
        ChannelAffinity(8, energy="officail")
    with pytest.raises(ValueError, match=r"energy_scale must be one of"):
        DualAttention(8, energy_scale="n")
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        ChannelAffinity(8, temperature=0.0)
