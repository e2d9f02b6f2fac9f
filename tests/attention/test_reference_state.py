"""Public state dicts, by their own names and shapes, against the public formulas written with those names."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bevfusion.attention import Option, make_attention
from bevfusion.attention.reference_state import load_reference_state
from tests.attention import reference_gates as ref

C, HIDDEN = 8, 2
Shapes = dict[str, tuple[int, ...]]


def batch_norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def with_bias(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return {name: 0.5 + value.abs() if name.endswith("var") else value for name, value in values.items()}


SE_SHAPES: Shapes = {"fc.0.weight": (HIDDEN, C), "fc.2.weight": (C, HIDDEN)}

CBAM_CHANNEL = with_bias("ChannelGate.mlp.1", HIDDEN, C) | with_bias("ChannelGate.mlp.3", C, HIDDEN)
CBAM_SPATIAL = {"SpatialGate.spatial.conv.weight": (1, 2, 7, 7)} | batch_norm("SpatialGate.spatial.bn", 1)

IN_C, IN_S = "channel_att.gate_c.gate_c_", "spatial_att.gate_s.gate_s_"
BAM_SHAPES = (
    with_bias(f"{IN_C}fc_0", HIDDEN, C)
    | batch_norm(f"{IN_C}bn_1", HIDDEN)
    | with_bias(f"{IN_C}fc_final", C, HIDDEN)
    | with_bias(f"{IN_S}conv_reduce0", HIDDEN, C, 1, 1)
    | batch_norm(f"{IN_S}bn_reduce0", HIDDEN)
    | with_bias(f"{IN_S}conv_di_0", HIDDEN, HIDDEN, 3, 3)
    | batch_norm(f"{IN_S}bn_di_0", HIDDEN)
    | with_bias(f"{IN_S}conv_di_1", HIDDEN, HIDDEN, 3, 3)
    | batch_norm(f"{IN_S}bn_di_1", HIDDEN)
    | with_bias(f"{IN_S}conv_final", 1, HIDDEN, 1, 1)
)
COORDINATE_SHAPES = (
    with_bias("conv1", 8, C, 1, 1)
    | batch_norm("bn1", 8)
    | with_bias("conv2", C, 8, 1, 1)
    | with_bias("conv3", C, 8, 1, 1)
)
TRIPLET_SHAPES: Shapes = {}
for plane in ("cw", "hc", "hw"):
    TRIPLET_SHAPES |= {f"{plane}.conv.conv.weight": (1, 2, 7, 7)} | batch_norm(f"{plane}.conv.bn", 1)
GAM_SHAPES = (
    with_bias("channel_attention.0", HIDDEN, C)
    | with_bias("channel_attention.2", C, HIDDEN)
    | with_bias("spatial_attention.0", HIDDEN, C, 7, 7)
    | batch_norm("spatial_attention.1", HIDDEN)
    | with_bias("spatial_attention.3", C, HIDDEN, 7, 7)
    | batch_norm("spatial_attention.4", C)
)


def public_se(x: np.ndarray, p: ref.Params) -> np.ndarray:
    return ref.sigmoid(ref.layer(ref.relu(ref.layer(ref.mean_cells(x), p, "fc.0")), p, "fc.2"))[:, None, None] * x


def public_cam(x: np.ndarray, p: ref.Params) -> np.ndarray:
    def mlp(z: np.ndarray) -> np.ndarray:
        return ref.layer(ref.relu(ref.layer(z, p, "ChannelGate.mlp.1")), p, "ChannelGate.mlp.3")

    return ref.sigmoid(mlp(ref.mean_cells(x)) + mlp(ref.max_cells(x)))[:, None, None] * x


def public_sam(x: np.ndarray, p: ref.Params) -> np.ndarray:
    planes = np.stack([x.max(axis=0), x.mean(axis=0)])
    return ref.sigmoid(ref.norm(ref.conv(planes, p, "SpatialGate.spatial.conv"), p, "SpatialGate.spatial.bn")) * x


def public_cbam(x: np.ndarray, p: ref.Params) -> np.ndarray:
    return public_sam(public_cam(x, p), p)


def public_bam(x: np.ndarray, p: ref.Params) -> np.ndarray:
    z = ref.relu(ref.norm(ref.layer(ref.mean_cells(x), p, f"{IN_C}fc_0"), p, f"{IN_C}bn_1"))
    f = x
    for layer, dilation in (("reduce0", 1), ("di_0", 4), ("di_1", 4)):
        f = ref.relu(ref.norm(ref.conv(f, p, f"{IN_S}conv_{layer}", dilation), p, f"{IN_S}bn_{layer}"))
    logit = ref.layer(z, p, f"{IN_C}fc_final")[:, None, None] * ref.conv(f, p, f"{IN_S}conv_final")
    return (1 + ref.sigmoid(logit)) * x


def public_coordinate(x: np.ndarray, p: ref.Params) -> np.ndarray:
    def gate(z: np.ndarray, name: str) -> np.ndarray:
        f = ref.norm(ref.conv(z[:, :, None], p, "conv1"), p, "bn1")
        return ref.sigmoid(ref.conv(f * np.clip(f + 3, 0, 6) / 6, p, name))[:, :, 0]

    return x * gate(x.mean(axis=2), "conv2")[:, :, None] * gate(x.mean(axis=1), "conv3")[:, None, :]


def public_triplet(x: np.ndarray, p: ref.Params) -> np.ndarray:
    total = np.zeros_like(x)
    for name, axes in (("cw", (1, 0, 2)), ("hc", (2, 1, 0)), ("hw", (0, 1, 2))):
        turned = x.transpose(axes)
        planes = np.stack([turned.max(axis=0), turned.mean(axis=0)])
        gate = ref.sigmoid(ref.norm(ref.conv(planes, p, f"{name}.conv.conv"), p, f"{name}.conv.bn"))
        total += (gate * turned).transpose(axes) / 3  # these permutations are their own inverses
    return total


def public_gam(x: np.ndarray, p: ref.Params) -> np.ndarray:
    gate = np.empty_like(x)
    for i, j in ref.cells(x, None):
        hidden = ref.relu(ref.layer(x[:, i, j], p, "channel_attention.0"))
        gate[:, i, j] = ref.layer(hidden, p, "channel_attention.2")
    y = gate * x
    f = ref.relu(ref.norm(ref.conv(y, p, "spatial_attention.0"), p, "spatial_attention.1"))
    return y * ref.sigmoid(ref.norm(ref.conv(f, p, "spatial_attention.3"), p, "spatial_attention.4"))


PUBLIC: list[tuple[str, dict[str, Option], Shapes, Callable[..., np.ndarray]]] = [
    ("se", {"reduction": 4}, SE_SHAPES, public_se),
    ("se", {"reduction": 4, "bias": False}, SE_SHAPES, public_se),
    ("cam", {"reduction": 4}, CBAM_CHANNEL, public_cam),
    ("sam", {}, CBAM_SPATIAL, public_sam),
    ("cbam", {"reduction": 4}, CBAM_CHANNEL | CBAM_SPATIAL, public_cbam),
    ("bam", {"reduction": 4, "mode": "product"}, BAM_SHAPES, public_bam),
    ("coordinate", {}, COORDINATE_SHAPES, public_coordinate),
    ("triplet", {}, TRIPLET_SHAPES, public_triplet),
    ("gam", {"sigmoid": False}, GAM_SHAPES, public_gam),
]


@pytest.mark.parametrize(("name", "options", "shapes", "formula"), PUBLIC)
def test_public_weights_give_the_public_result(
    name: str, options: dict[str, Option], shapes: Shapes, formula: Callable[..., np.ndarray]
) -> None:
    state = drawn(shapes)
    module = make_attention(name, C, options).double().eval()
    load_reference_state(module, state)
    x = np.random.default_rng(3).normal(size=(2, C, 6, 9))
    expected = np.stack([formula(sample, {key: value.numpy() for key, value in state.items()}) for sample in x])
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_both_names_of_triplet_and_of_coordinate_attention() -> None:
    x = torch.randn(1, C, 6, 9, dtype=torch.float64)
    older_triplet = {"cw.conv.": "ChannelGateH.spatial.", "hc.conv.": "ChannelGateW.spatial."}
    older_triplet |= {"hw.conv.": "SpatialGate.spatial."}
    cases = [
        ("triplet", TRIPLET_SHAPES, older_triplet),
        ("coordinate", COORDINATE_SHAPES, {"conv2": "conv_h", "conv3": "conv_w"}),
    ]
    for name, shapes, changes in cases:
        state = drawn(shapes)
        other = {}
        for key, value in state.items():
            for old, new in changes.items():
                key = key.replace(old, new)
            other[key] = value
        assert state.keys() != other.keys()
        first, second = make_attention(name, C).double().eval(), make_attention(name, C).double().eval()
        load_reference_state(first, state)
        load_reference_state(second, other)
        assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(
    ("name", "options", "changes"),
    [
        ("eca", {}, {}),
        ("danet_pam", {}, {}),
        ("danet_cam", {}, {}),
        ("self_attention", {}, {}),
        ("danet", {}, {"position.": "sa.", "channel.": "sc."}),
        ("non_local", {"norm": True}, {}),
        ("non_local", {}, {"W.0.": "W."}),
        (
            "non_local",
            {"pairwise": "concatenation", "subsample": True, "norm": True},
            {"g.": "g.0.", "phi.": "phi.0.", "concat_project.": "concat_project.0."},
        ),
    ],
)
def test_public_names_of_modules_with_the_same_shapes(
    name: str, options: dict[str, Option], changes: dict[str, str]
) -> None:
    module, other = make_attention(name, 16, options), make_attention(name, 16, options)
    state = {}
    for key, value in module.state_dict().items():
        value.copy_(torch.randn(value.shape)) if value.is_floating_point() else value
        old = next((old for old in changes if key.startswith(old)), "")
        state[changes.get(old, "") + key[len(old) :]] = value
    load_reference_state(other, state)
    for key, value in other.state_dict().items():
        assert torch.equal(value, module.state_dict()[key]), key


def test_weights_that_mean_something_else_are_refused() -> None:
    state = drawn(BAM_SHAPES)
    with pytest.raises(ValueError, match='mode="product"'):
        load_reference_state(make_attention("bam", C, {"reduction": 4}), state)
    with pytest.raises(ValueError, match="groups=1"):
        load_reference_state(make_attention("gam", C, {"groups": 2}), drawn(GAM_SHAPES))
    with pytest.raises(ValueError, match="sequential"):
        load_reference_state(make_attention("cbam", C, {"arrangement": "parallel"}), {})
    with pytest.raises(ValueError, match=r"'layer1\.fc\.0\.weight'.*'fc\.0\.'"):
        load_reference_state(make_attention("se", C), {"layer1.fc.0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"SimAM.*'BAM'"):
        load_reference_state(make_attention("simam", C), {})
    with pytest.raises(RuntimeError, match=r"excite\.weight"):
        load_reference_state(make_attention("se", C), {"fc.0.weight": torch.zeros(1, C)})
