"""Every mechanism against the loops of `reference_gates`, to 1e-10."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bevfusion.attention import Option, make_attention
from tests.attention import reference_gates as ref


def randomized(name: str, channels: int, options: dict[str, Option], seed: int = 0) -> tuple[nn.Module, ref.Params]:
    """A module in evaluation with random parameters and statistics, and the same as arrays."""
    module = make_attention(name, channels, options).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value.copy_(0.5 + drawn.abs() if key.endswith("running_var") else 0.5 * drawn)
    return module, {key: value.numpy() for key, value in module.state_dict().items()}


# name, channels, options, what the reference is told, whether the reference gives the result instead of the gate
FORMULAS: list[tuple[str, int, dict[str, Option], Callable[..., np.ndarray], dict[str, object], bool]] = [
    ("se", 8, {"reduction": 2}, ref.se, {}, False),
    ("se", 5, {"bias": False}, ref.se, {}, False),
    ("ghost_se", 12, {}, ref.ghost_se, {}, False),
    ("cam", 8, {"reduction": 4}, ref.cam, {}, False),
    ("cam", 8, {"reduction": 4, "bias": False}, ref.cam, {}, False),
    ("sam", 6, {}, ref.sam, {}, False),
    ("sam", 6, {"norm": False, "padding": "replicate", "kernel_size": 5}, ref.sam, {"edge": True}, False),
    ("cbam", 8, {"reduction": 4}, ref.cbam, {}, False),
    ("cbam", 8, {"reduction": 4, "arrangement": "parallel"}, ref.cbam, {"parallel": True}, False),
    ("bam", 8, {"reduction": 2}, ref.bam, {"dilation": 4}, False),
    ("bam", 8, {"reduction": 2, "dilation": 2, "mode": "product"}, ref.bam, {"dilation": 2, "product": True}, False),
    ("sk", 8, {}, ref.sk, {"branches": 2, "groups": 8}, True),
    ("sk", 6, {"branches": 3, "groups": 2, "least": 4}, ref.sk, {"branches": 3, "groups": 2}, True),
    ("sca", 6, {"hidden": 5}, ref.sca, {}, False),
    (
        "sca",
        6,
        {"hidden": 5, "order": "spatial_first", "rescale": False},
        ref.sca,
        {"spatial_first": True, "rescale": False},
        False,
    ),
    ("eca", 8, {}, ref.eca, {}, False),
    ("eca", 4, {"kernel_size": 7}, ref.eca, {}, False),
    ("simam", 4, {}, ref.simam, {}, False),
    ("simam", 4, {"regularizer": 0.3}, ref.simam, {"regularizer": 0.3}, False),
    ("gam", 6, {"reduction": 2}, ref.gam, {}, False),
    ("gam", 8, {"reduction": 2, "groups": 2, "sigmoid": False}, ref.gam, {"groups": 2, "with_sigmoid": False}, False),
    ("triplet", 6, {}, ref.triplet, {}, False),
    ("triplet", 6, {"spatial": False, "kernel_size": 3}, ref.triplet, {"spatial": False}, False),
    ("coordinate", 6, {}, ref.coordinate, {}, False),
    ("strip", 6, {}, ref.strip, {}, False),
    ("strip", 6, {"norm": True, "kernel_size": 5}, ref.strip, {}, False),
    ("gc", 6, {}, ref.gc, {}, True),
]


@pytest.mark.parametrize(("name", "channels", "options", "formula", "told", "replaces"), FORMULAS)
def test_formula(
    name: str,
    channels: int,
    options: dict[str, Option],
    formula: Callable[..., np.ndarray],
    told: dict[str, object],
    replaces: bool,
) -> None:
    module, params = randomized(name, channels, options)
    x = np.random.default_rng(1).normal(size=(2, channels, 5, 7))
    expected = np.stack([formula(sample, params, **told) * (1 if replaces else sample) for sample in x])
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


# Those whose occupancy is a matter of pooling alone; the contract's test of padding covers the others.
@pytest.mark.parametrize("name", ["se", "ghost_se", "cam", "sam", "cbam", "eca", "coordinate", "strip", "gc"])
def test_formula_over_seen_cells(name: str) -> None:
    module, params = randomized(name, 8, {"occupancy": True})
    rng = np.random.default_rng(2)
    x, seen = rng.normal(size=(2, 8, 5, 7)), rng.random((2, 5, 7)) < 0.5
    seen[0, 3], seen[1, :, 2] = False, False  # a row and a column of which nothing was seen
    expected = np.stack([getattr(ref, name)(*pair) for pair in zip(x, [params] * 2, seen, strict=True)])
    expected = expected if name == "gc" else expected * x
    y = module(torch.from_numpy(x), torch.from_numpy(seen[:, None]))
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-10, atol=1e-10)
