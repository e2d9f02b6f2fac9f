"""Public state dicts, by their own names and shapes, against the public formulas written with those names."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bevfusion.attention import Option, load_reference_state, make_attention
from bevfusion.attention.danet import DualHead
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


def public_gam(x: np.ndarray, p: ref.Params, groups: int = 1, shuffle: int = 1) -> np.ndarray:
    gate = np.empty_like(x)
    for i, j in ref.cells(x, None):
        hidden = ref.relu(ref.layer(x[:, i, j], p, "channel_attention.0"))
        gate[:, i, j] = ref.layer(hidden, p, "channel_attention.2")
    y = gate * x
    f = ref.relu(ref.norm(ref.conv(y, p, "spatial_attention.0", groups=groups), p, "spatial_attention.1"))
    of_cells = ref.sigmoid(ref.norm(ref.conv(f, p, "spatial_attention.3", groups=groups), p, "spatial_attention.4"))
    turned = of_cells.reshape(shuffle, -1, *x.shape[1:]).swapaxes(0, 1)  # as the channel shuffle of ShuffleNet has it
    return y * turned.reshape(x.shape)


PUBLIC: list[tuple[str, dict[str, Option], Shapes, Callable[..., np.ndarray]]] = [
    ("se", {"reduction": 4}, SE_SHAPES, public_se),
    ("se", {"reduction": 4, "bias": False}, SE_SHAPES, public_se),
    ("cam", {"reduction": 4}, CBAM_CHANNEL, public_cam),
    ("sam", {}, CBAM_SPATIAL, public_sam),
    ("cbam", {"reduction": 4}, CBAM_CHANNEL | CBAM_SPATIAL, public_cbam),
    ("bam", {"reduction": 4, "mode": "product"}, BAM_SHAPES, public_bam),
    ("coordinate", {}, COORDINATE_SHAPES, public_coordinate),
    ("triplet", {}, TRIPLET_SHAPES, public_triplet),
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


# Formulas in torch from here on; x (B, C, H, W), p the public state.
Params = dict[str, Tensor]


def conv(x: Tensor, p: Params, name: str, **options: int) -> Tensor:
    weight = p[f"{name}.weight"]
    padding = [options.get("dilation", 1) * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x, weight, p.get(f"{name}.bias"), padding=padding, **options)


def norm(x: Tensor, p: Params, name: str) -> Tensor:
    return F.batch_norm(x, *(p[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def position(x: Tensor, p: Params, at: str = "") -> Tensor:
    query, key, value = (conv(x, p, f"{at}{part}_conv").flatten(2) for part in ("query", "key", "value"))
    attention = (query.transpose(1, 2) @ key).softmax(2)
    return p[f"{at}gamma"] * (value @ attention.transpose(1, 2)).view_as(x) + x


def channel(x: Tensor, p: Params, at: str = "") -> Tensor:
    cells = x.flatten(2)
    energy = cells @ cells.transpose(1, 2)
    attention = (energy.max(2, keepdim=True).values - energy).softmax(2)
    return p[f"{at}gamma"] * (attention @ cells).view_as(x) + x


def dual(x: Tensor, p: Params) -> Tensor:
    return position(x, p, "sa.") + channel(x, p, "sc.") - x


def dual_head(x: Tensor, p: Params) -> Tensor:
    def block(x: Tensor, name: str) -> Tensor:
        return norm(conv(x, p, f"{name}.0"), p, f"{name}.1").relu()

    of_position = block(position(block(x, "conv5a"), p, "sa."), "conv51")
    of_channel = block(channel(block(x, "conv5c"), p, "sc."), "conv52")
    outputs = (("conv8", of_position + of_channel), ("conv6", of_position), ("conv7", of_channel))
    return torch.cat([conv(value, p, f"{name}.1") for name, value in outputs])


def criss_cross(x: Tensor, p: Params) -> Tensor:
    query, key, value = (conv(x, p, f"{part}_conv") for part in ("query", "key", "value"))
    y = x.clone()
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            cross = [(i, v) for v in range(x.shape[3])] + [(u, j) for u in range(x.shape[2]) if u != i]
            logits = torch.stack([(query[:, :, i, j] * key[:, :, u, v]).sum(1) for u, v in cross])
            for weight, (u, v) in zip(logits.softmax(0), cross, strict=True):
                y[:, :, i, j] += p["gamma"] * weight[:, None] * value[:, :, u, v]
    return y


def non_local(x: Tensor, p: Params, pairwise: str, subsampled: bool, normed: bool) -> Tensor:
    def reduced(name: str) -> Tensor:
        y = conv(x, p, f"{name}.0" if subsampled else name) if name else x
        return F.max_pool2d(y, 2) if subsampled else y

    value = reduced("g").flatten(2).transpose(1, 2)
    if pairwise == "gaussian":
        query, key = x.flatten(2).transpose(1, 2), reduced("").flatten(2)
    else:
        query, key = conv(x, p, "theta").flatten(2).transpose(1, 2), reduced("phi").flatten(2)
    if pairwise == "concatenation":
        of_query, of_key = p["concat_project.0.weight"][0, :, 0, 0].chunk(2)
        weights = ((query @ of_query)[:, :, None] + (of_key @ key)[:, None]).relu() / key.shape[2]
    elif pairwise == "dot_product":
        weights = query @ key / key.shape[2]
    else:
        weights = (query @ key).softmax(2)
    y = (weights @ value).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
    return (norm(conv(y, p, "W.0"), p, "W.1") if normed else conv(y, p, "W")) + x


def ghost_se(x: Tensor, p: Params) -> Tensor:
    gate = conv(conv(x.mean((2, 3), keepdim=True), p, "conv_reduce").relu(), p, "conv_expand")
    return x * (gate + 3).clamp(0, 6) / 6


def sk(x: Tensor, p: Params) -> Tensor:
    branches = [norm(conv(x, p, f"conv.{m}.0", dilation=m + 1, groups=C), p, f"conv.{m}.1").relu() for m in range(2)]
    z = norm(conv((branches[0] + branches[1]).mean((2, 3), keepdim=True), p, "fc1.0"), p, "fc1.1").relu()
    weights = conv(z, p, "fc2").reshape(len(x), 2, C, 1, 1).softmax(1)
    return weights[:, 0] * branches[0] + weights[:, 1] * branches[1]


def gc(x: Tensor, p: Params) -> Tensor:
    weights = conv(x, p, "conv_mask").flatten(1).softmax(1)
    context = torch.einsum("bn,bcn->bc", weights, x.flatten(2))[:, :, None, None]
    hidden = conv(context, p, "channel_add_conv.0")
    shape = hidden.shape[1:]
    hidden = F.layer_norm(hidden, shape, p["channel_add_conv.1.weight"], p["channel_add_conv.1.bias"]).relu()
    return x + conv(hidden, p, "channel_add_conv.3")


def strip(x: Tensor, p: Params) -> Tensor:
    of_rows = norm(conv(x.mean(3, keepdim=True), p, "conv1"), p, "bn1").expand_as(x)
    of_columns = norm(conv(x.mean(2, keepdim=True), p, "conv2"), p, "bn2").expand_as(x)
    return x * conv((of_rows + of_columns).relu(), p, "conv3").sigmoid()


def eca(x: Tensor, p: Params) -> Tensor:
    z = x.mean((2, 3))[:, None]
    return x * F.conv1d(z, p["conv.weight"], padding=p["conv.weight"].shape[2] // 2)[:, 0, :, None, None].sigmoid()


def pam_shapes(channels: int, at: str = "") -> Shapes:
    inner = max(1, channels // 8)
    return (
        with_bias(f"{at}query_conv", inner, channels, 1, 1)
        | with_bias(f"{at}key_conv", inner, channels, 1, 1)
        | with_bias(f"{at}value_conv", channels, channels, 1, 1)
        | {f"{at}gamma": (1,)}
    )


def non_local_shapes(pairwise: str, subsampled: bool, normed: bool) -> Shapes:
    at, inner = ".0" if subsampled else "", C // 2
    shapes = with_bias(f"g{at}", inner, C, 1, 1)
    if pairwise != "gaussian":
        shapes |= with_bias("theta", inner, C, 1, 1) | with_bias(f"phi{at}", inner, C, 1, 1)
    if pairwise == "concatenation":
        shapes |= {"concat_project.0.weight": (1, C, 1, 1)}
    if normed:
        return shapes | with_bias("W.0", C, inner, 1, 1) | batch_norm("W.1", C)
    return shapes | with_bias("W", C, inner, 1, 1)


HEAD_SHAPES: Shapes = {}
for name in ("conv5a", "conv5c"):
    HEAD_SHAPES |= {f"{name}.0.weight": (C // 4, C, 3, 3)} | batch_norm(f"{name}.1", C // 4)
for name in ("conv51", "conv52"):
    HEAD_SHAPES |= {f"{name}.0.weight": (C // 4, C // 4, 3, 3)} | batch_norm(f"{name}.1", C // 4)
for name in ("conv6", "conv7", "conv8"):
    HEAD_SHAPES |= with_bias(f"{name}.1", 5, C // 4, 1, 1)
HEAD_SHAPES |= pam_shapes(C // 4, "sa.") | {"sc.gamma": (1,)}

SK_SHAPES: Shapes = {"fc1.0.weight": (32, C, 1, 1), "fc2.weight": (2 * C, 32, 1, 1)} | batch_norm("fc1.1", 32)
for m in range(2):
    SK_SHAPES |= {f"conv.{m}.0.weight": (C, 1, 3, 3)} | batch_norm(f"conv.{m}.1", C)

GC_SHAPES = (
    with_bias("conv_mask", 1, C, 1, 1)
    | with_bias("channel_add_conv.0", 4, C, 1, 1)
    | {"channel_add_conv.1.weight": (4, 1, 1), "channel_add_conv.1.bias": (4, 1, 1)}
    | with_bias("channel_add_conv.3", C, 4, 1, 1)
)
STRIP_SHAPES = (
    {"conv1.weight": (C, C, 3, 1), "conv2.weight": (C, C, 1, 3)}
    | batch_norm("bn1", C)
    | batch_norm("bn2", C)
    | with_bias("conv3", C, C, 1, 1)
)
NON_LOCAL: list[tuple[str, dict[str, Option], Shapes, Callable[..., Tensor]]] = [
    (
        "non_local",
        {"pairwise": pairwise, "subsample": subsampled, "norm": normed},
        non_local_shapes(pairwise, subsampled, normed),
        lambda x, p, about=(pairwise, subsampled, normed): non_local(x, p, *about),
    )
    for pairwise in ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
    for subsampled, normed in ((False, True), (True, False))
]
IN_TORCH: list[tuple[str, dict[str, Option], Shapes, Callable[..., Tensor]]] = [
    ("eca", {}, {"conv.weight": (1, 1, 3)}, eca),
    ("ghost_se", {}, with_bias("conv_reduce", 4, C, 1, 1) | with_bias("conv_expand", C, 4, 1, 1), ghost_se),
    ("sk", {}, SK_SHAPES, sk),
    ("gc", {"reduction": 2}, GC_SHAPES, gc),
    ("strip", {"norm": True}, STRIP_SHAPES, strip),
    ("danet_pam", {}, pam_shapes(C), position),
    ("self_attention", {}, pam_shapes(C), position),
    ("danet_cam", {}, {"gamma": (1,)}, channel),
    ("danet", {}, pam_shapes(C, "sa.") | {"sc.gamma": (1,)}, dual),
    ("criss_cross", {}, pam_shapes(C), criss_cross),
    ("criss_cross", {"recurrence": 2}, pam_shapes(C), lambda x, p: criss_cross(criss_cross(x, p), p)),
    *NON_LOCAL,
]


@pytest.mark.parametrize(("name", "options", "shapes", "formula"), IN_TORCH)
def test_public_weights_give_the_public_result_in_torch(
    name: str, options: dict[str, Option], shapes: Shapes, formula: Callable[..., Tensor]
) -> None:
    state = drawn(shapes)
    module = make_attention(name, C, options).double().eval()
    load_reference_state(module, state)
    x = 0.5 * torch.randn(2, C, 6, 8, generator=torch.Generator().manual_seed(3)).double()
    expected = formula(x, state)
    assert (expected - x).abs().max() > 0.1
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)


def test_public_weights_of_the_dual_head_give_the_public_outputs() -> None:
    head, state = DualHead(C, classes=5).double().eval(), drawn(HEAD_SHAPES)
    load_reference_state(head, state)
    x = torch.randn(2, C, 6, 8, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(torch.cat(head(x)), dual_head(x, state), rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match=r"ChannelAffinity belong to energy='official'.*energy='paper'"):
        load_reference_state(DualHead(C, classes=5, energy="paper"), state)


@pytest.mark.parametrize(("groups", "shuffle"), [(1, 1), (1, 4), (2, 1), (2, 4), (2, 2)])
def test_gam_of_every_listing_gives_its_result(groups: int, shuffle: int) -> None:
    """Its convolutions grouped or not, its finished gate shuffled or not."""
    shapes = dict(GAM_SHAPES)
    shapes["spatial_attention.0.weight"] = (HIDDEN, C // groups, 7, 7)
    shapes["spatial_attention.3.weight"] = (C, HIDDEN // groups, 7, 7)
    state = drawn(shapes) | {"spatial_attention.4.num_batches_tracked": torch.tensor(7)}
    module = make_attention("gam", C, {"sigmoid": False}).double().eval()
    load_reference_state(module, state, gate_shuffle=shuffle)
    x = np.random.default_rng(3).normal(size=(1, C, 6, 9))
    expected = public_gam(x[0], {key: value.numpy() for key, value in state.items()}, groups, shuffle)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy()[0], expected, rtol=1e-10, atol=1e-10)


def test_what_no_weight_of_gam_shows_must_be_said() -> None:
    module = make_attention("gam", C, {"sigmoid": False})
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError, match="gate_shuffle=4 for"):
        load_reference_state(module, drawn(GAM_SHAPES))
    with pytest.raises(ValueError, match="must divide the 8 channels, got 3"):
        load_reference_state(module, drawn(GAM_SHAPES), gate_shuffle=3)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    with pytest.raises(ValueError, match="GAM alone"):
        load_reference_state(make_attention("se", C), {}, gate_shuffle=4)


@pytest.mark.parametrize(
    ("name", "options", "shapes", "message"),
    [
        ("bam", {"reduction": 4}, BAM_SHAPES, "mode='product', got a module of mode='sum'"),
        ("bam", {"reduction": 4, "mode": "product", "dilation": 2}, BAM_SHAPES, "dilation=4, got.*dilation=2"),
        ("cbam", {"reduction": 4, "arrangement": "parallel"}, CBAM_CHANNEL | CBAM_SPATIAL, "arrangement='sequential'"),
        ("cbam", {"reduction": 4, "padding": "replicate"}, CBAM_CHANNEL | CBAM_SPATIAL, "padding='zeros'"),
        ("sam", {"padding": "replicate"}, CBAM_SPATIAL, "padding='zeros'"),
        ("gam", {"groups": 2}, GAM_SHAPES, "groups=1, got a module of groups=2"),
        ("danet_cam", {"energy": "paper"}, {"gamma": (1,)}, "energy='official'"),
        ("danet_cam", {"energy_scale": "cells"}, {"gamma": (1,)}, "energy_scale='none'"),
        ("danet_cam", {"temperature": 2.0}, {"gamma": (1,)}, "temperature=1.0"),
        ("danet", {"energy": "paper"}, pam_shapes(C, "sa.") | {"sc.gamma": (1,)}, "energy='official'"),
        ("self_attention", {"form": "official"}, pam_shapes(C), "form='full'"),
        ("strip", {}, STRIP_SHAPES, "norm=True, got a module of norm=False"),
        (
            "strip",
            {"norm": True},
            STRIP_SHAPES | {"conv1.weight": (C, C, 1, 3), "conv2.weight": (C, C, 3, 1)},
            "does not run along the rows",
        ),
        ("non_local", {}, non_local_shapes("embedded_gaussian", True, False), "subsample=True, got.*subsample=False"),
        ("non_local", {"subsample": True}, non_local_shapes("embedded_gaussian", False, False), "subsample=False"),
        ("non_local", {"scaled": True}, non_local_shapes("embedded_gaussian", False, False), "scaled=False"),
        ("gc", {"reduction": 2}, GC_SHAPES | with_bias("channel_mul_conv.0", 4, C, 1, 1), "channel_mul_conv"),
        ("se", {}, {"layer1.fc.0.weight": (1,)}, r"'layer1\.fc\.0\.weight'.*'fc\.0\.'"),
        ("simam", {}, {}, "SimAM.*'BAM'"),
    ],
)
def test_weights_that_mean_something_else_are_refused(
    name: str, options: dict[str, Option], shapes: Shapes, message: str
) -> None:
    module = make_attention(name, C, options)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_reference_state(module, drawn(shapes))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_missing_keys_and_other_shapes_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"excite\.weight"):
        load_reference_state(make_attention("se", C), {"fc.0.weight": torch.zeros(1, C)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_reference_state(make_attention("eca", C), {"conv.weight": torch.zeros(1, 1, 5)})
    # a dilation of one and a norm that is not there
    with pytest.raises(RuntimeError, match=r"Unexpected key.*norm"):
        load_reference_state(make_attention("sam", C, {"norm": False}), drawn(CBAM_SPATIAL))
