"""Loads weights of the public implementations of the papers, so that pretrained mechanisms can be used and compared.

    import torch
    from bevfusion.attention import CBAM, load_reference_state
    state = torch.load("resnet50_cbam.pth", map_location="cpu", weights_only=True)  # of Jongchan/attention-module
    at = "layer1.0.cbam."
    load_reference_state(CBAM(256), {key[len(at):]: value for key, value in state.items() if key.startswith(at)})

The names and shapes are those of Jongchan/attention-module (CBAM, BAM), moskomule/senet.pytorch (SE), Huawei's
GhostNetV2, Andrew-Qibin/CoordAttention and SPNet (Strip), landskape-ai/triplet-attention, BangguWu/ECANet,
junfu1115/DANet, speedinghzl/CCNet, xvjiarui/GCNet, ResearchingDexter/SKNet_pytorch, heykeetae/Self-Attention-GAN,
AlexHex7/Non-local_pytorch and the widely copied listing of GAM. What has to change on the way:

* CBAM stacks (max, mean) where the paper and this project stack (mean, max): the kernel's inputs are swapped.
* A bias in front of a normalization is absent here and is subtracted from its running mean, which is the same in
  evaluation; in training such a bias has no effect. So is the bias of GC's key, which a softmax ignores.
* Public SE has no biases: zeros.
* Listings of GAM differ in whether they shuffle the channels of the finished gate, which is the same as another order
  of the last rows. The weights do not show it: `gate_shuffle` must say it. Grouped kernels are written out with zeros.

Options that change what weights mean, and that no shape shows, must be the public ones; else the load is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bevfusion.attention.bam import BAM
from bevfusion.attention.cbam import CAM, CBAM, SAM
from bevfusion.attention.coordinate import Coordinate
from bevfusion.attention.criss_cross import CrissCross
from bevfusion.attention.danet import ChannelAffinity, DualAttention, DualHead, PositionAttention
from bevfusion.attention.eca import ECA
from bevfusion.attention.gam import GAM
from bevfusion.attention.gc import GC
from bevfusion.attention.ghost_se import GhostSE
from bevfusion.attention.non_local import NonLocal
from bevfusion.attention.se import SE
from bevfusion.attention.self_attention import SelfAttention
from bevfusion.attention.sk import SK
from bevfusion.attention.strip import Strip
from bevfusion.attention.triplet import Triplet

State = dict[str, Tensor]


def load_reference_state(module: nn.Module, state: Mapping[str, Tensor], *, gate_shuffle: int | None = None) -> None:
    """Loads a state dict with the names of the mechanism's public implementation.

    Args:
        module: A mechanism built with the options of the weights.
        state: The public state dict, keys starting at the mechanism (strip what precedes them in a checkpoint).
        gate_shuffle: For GAM only, and needed there: groups of the channel shuffle of its finished gate, 1 for none.
            The widely copied listing has `channel_shuffle(x_spatial_att, 4)`.

    Raises:
        ValueError: if no public weights are known for the mechanism, a key is unknown, or the module was built with
            options under which the weights mean something else.
        RuntimeError: if keys are missing or shapes differ (from `load_state_dict`).
    """
    if type(module) not in CONVERTERS:
        known = sorted(kind.__name__ for kind in CONVERTERS)
        raise ValueError(f"no public weights are known for {type(module).__name__}; the choices are {known}")
    if type(module) is not GAM and gate_shuffle is not None:
        raise ValueError(f"gate_shuffle is of GAM alone, got {gate_shuffle} for {type(module).__name__}")
    converted = CONVERTERS[type(module)](module, state)
    if type(module) is GAM:
        _shuffle_gate(converted, gate_shuffle)
    module.load_state_dict(converted)


def _demand(module: nn.Module, option: str, value: object, public: object) -> None:
    """Refuses an option under which the public weights mean something else."""
    if value != public:
        raise ValueError(
            f"the public weights of {type(module).__name__} belong to {option}={public!r}, got a module of "
            f"{option}={value!r}"
        )


def _renamed(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> State:
    """The state with prefixes replaced; a key with no known prefix is an error rather than left out."""
    renamed = {}
    for key, value in state.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if prefix is None:
            raise ValueError(f"unexpected key {key!r}; the public names start with {sorted(prefixes)}")
        renamed[prefixes[prefix] + key[len(prefix) :]] = value
    return renamed


def _fold_bias(state: State, layer: str, norm: str) -> None:
    if f"{norm}.running_mean" in state and f"{layer}.bias" in state:
        bias = state.pop(f"{layer}.bias")
        state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - bias


def _se(module: SE, state: Mapping[str, Tensor]) -> State:
    converted = _renamed(state, {"fc.0.": "squeeze.", "fc.2.": "excite."})
    for key, value in module.state_dict().items():
        if key.endswith("bias"):
            converted.setdefault(key, torch.zeros_like(value))
    return converted


def _ghost_se(module: GhostSE, state: Mapping[str, Tensor]) -> State:
    return _as_matrices(_renamed(state, {"conv_reduce.": "squeeze.", "conv_expand.": "excite."}), module)


CBAM_CHANNEL = {"ChannelGate.mlp.1.": "mlp.0.", "ChannelGate.mlp.3.": "mlp.2."}
CBAM_SPATIAL = {"SpatialGate.spatial.conv.": "conv.", "SpatialGate.spatial.bn.": "norm."}


def _cam(module: CAM, state: Mapping[str, Tensor]) -> State:
    return _renamed(state, CBAM_CHANNEL)


def _sam(module: SAM, state: Mapping[str, Tensor]) -> State:
    _demand(module, "padding", module.conv.padding_mode, "zeros")
    converted = _renamed(state, CBAM_SPATIAL)
    if "conv.weight" in converted:
        converted["conv.weight"] = converted["conv.weight"].flip(1)
    return converted


def _cbam(module: CBAM, state: Mapping[str, Tensor]) -> State:
    _demand(module, "arrangement", "sequential" if module.sequential else "parallel", "sequential")
    _demand(module, "padding", module.spatial.conv.padding_mode, "zeros")
    names = {public: f"channel.{own}" for public, own in CBAM_CHANNEL.items()}
    names |= {public: f"spatial.{own}" for public, own in CBAM_SPATIAL.items()}
    converted = _renamed(state, names)
    if "spatial.conv.weight" in converted:
        converted["spatial.conv.weight"] = converted["spatial.conv.weight"].flip(1)
    return converted


def _bam(module: BAM, state: Mapping[str, Tensor]) -> State:
    _demand(module, "mode", "sum" if module.summed else "product", "product")
    _demand(module, "dilation", module.dilation, 4)
    of_channels = {"fc_0.": "channel.0.", "bn_1.": "channel.1.", "fc_final.": "channel.3."}
    of_cells = {"conv_reduce0.": "spatial.0.0.", "bn_reduce0.": "spatial.0.1.", "conv_final.": "spatial_out.0."}
    for i in range(2):
        of_cells |= {f"conv_di_{i}.": f"spatial.{i + 1}.0.", f"bn_di_{i}.": f"spatial.{i + 1}.1."}
    names = {f"channel_att.gate_c.gate_c_{public}": own for public, own in of_channels.items()}
    names |= {f"spatial_att.gate_s.gate_s_{public}": own for public, own in of_cells.items()}
    converted = _renamed(state, names)
    for block in ("channel", "spatial.0", "spatial.1", "spatial.2"):
        _fold_bias(converted, f"{block}.0", f"{block}.1")
    return converted


def _triplet(module: Triplet, state: Mapping[str, Tensor]) -> State:
    names: dict[str, str] = {}
    for plane, older in (("cw", "ChannelGateH"), ("hc", "ChannelGateW"), ("hw", "SpatialGate")):
        for prefix in (f"{plane}.conv", f"{older}.spatial"):
            names |= {f"{prefix}.conv.": f"{plane}.conv.", f"{prefix}.bn.": f"{plane}.norm."}
    return _renamed(state, names)


def _coordinate(module: Coordinate, state: Mapping[str, Tensor]) -> State:
    names = {"conv1.": "squeeze.0.", "bn1.": "squeeze.1.", "conv2.": "rows.", "conv3.": "columns."}
    converted = _as_matrices(_renamed(state, names | {"conv_h.": "rows.", "conv_w.": "columns."}), module)
    _fold_bias(converted, "squeeze.0", "squeeze.1")
    return converted


def _strip(module: Strip, state: Mapping[str, Tensor]) -> State:
    _demand(module, "norm", module.norm, True)
    for key, along in (("conv1.weight", "rows"), ("conv2.weight", "columns")):
        if key in state and (state[key].shape[-1] == 1) == (along == "columns"):
            raise ValueError(
                f"{key} of shape {tuple(state[key].shape)} does not run along the {along}, as the authors' does"
            )
    names = {"conv1.": "rows.", "bn1.": "rows_norm.", "conv2.": "columns.", "bn2.": "columns_norm.", "conv3.": "mix."}
    return _as_matrices(_renamed(state, names), module)


def _sk(module: SK, state: Mapping[str, Tensor]) -> State:
    return _as_matrices(_renamed(state, {"conv.": "kernels.", "fc1.": "fuse.", "fc2.": "select."}), module)


def _gc(module: GC, state: Mapping[str, Tensor]) -> State:
    converted = _renamed(state, {"conv_mask.": "key.", "channel_add_conv.": "transform."})
    converted.pop("key.bias", None)
    return _as_matrices(converted, module)


def _as_matrices(state: State, module: nn.Module) -> State:
    """Axes of size one that kernels or norms have there and not here are left out."""
    own = {key: value.shape for key, value in module.state_dict().items()}
    return {
        key: value.reshape(own[key]) if key in own and _without_ones(value.shape) == _without_ones(own[key]) else value
        for key, value in state.items()
    }


def _without_ones(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def _gam(module: GAM, state: Mapping[str, Tensor]) -> State:
    _demand(module, "groups", module.groups, 1)
    names = {"channel_attention.0.": "mlp.0.", "channel_attention.2.": "mlp.2."}
    for public, own in ((0, 0), (1, 1), (3, 4), (4, 5)):
        names[f"spatial_attention.{public}."] = f"spatial.{own}."
    converted = _as_matrices(_renamed(state, names), module)
    for key in ("spatial.0.weight", "spatial.4.weight"):
        if key in converted:
            converted[key] = _ungrouped(converted[key], module.state_dict()[key].shape[1])
    _fold_bias(converted, "spatial.0", "spatial.1")
    _fold_bias(converted, "spatial.4", "spatial.5")
    return converted


def _ungrouped(weight: Tensor, inputs: int) -> Tensor:
    """The kernels of a grouped convolution as those of a plain one, zero across the groups."""
    rows, inside = weight.shape[:2]
    groups = inputs // inside
    if groups * inside != inputs or rows % groups:
        return weight  # of another size: `load_state_dict` says so
    whole = weight.new_zeros(rows, inputs, *weight.shape[2:])
    for group in range(groups):
        of_group = slice(group * rows // groups, (group + 1) * rows // groups)
        whole[of_group, group * inside : (group + 1) * inside] = weight[of_group]
    return whole


def _shuffle_gate(state: State, groups: int | None) -> None:
    """Put the rows that make GAM's spatial gate into the order that a channel shuffle of it would give."""
    if groups is None:
        raise ValueError(
            "listings of GAM differ in whether they shuffle the finished gate, and weights do not show it: pass "
            "gate_shuffle=4 for channel_shuffle(x_spatial_att, 4), gate_shuffle=1 where there is none"
        )
    for key in [key for key in state if key.startswith(("spatial.4.", "spatial.5."))]:
        if not state[key].dim():
            continue  # the number of batches
        channels = len(state[key])
        if groups < 1 or channels % groups:
            raise ValueError(f"gate_shuffle must divide the {channels} channels, got {groups}")
        order = torch.arange(channels).view(groups, channels // groups).t().flatten()
        state[key] = state[key][order]


def _same(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    return dict(state)


def _demand_official(module: ChannelAffinity) -> None:
    _demand(module, "energy", module.energy, "official")
    _demand(module, "energy_scale", module.energy_scale, "none")
    _demand(module, "temperature", module.temperature, 1.0)


def _channel_affinity(module: ChannelAffinity, state: Mapping[str, Tensor]) -> State:
    _demand_official(module)
    return dict(state)


def _danet(module: DualAttention, state: Mapping[str, Tensor]) -> State:
    _demand_official(module.channel)
    return _renamed(state, {"sa.": "position.", "sc.": "channel."})


def _danet_head(module: DualHead, state: Mapping[str, Tensor]) -> State:
    _demand_official(module.sc)
    return dict(state)


def _self_attention(module: SelfAttention, state: Mapping[str, Tensor]) -> State:
    _demand(module, "form", "official" if module.pooled else "full", "full")
    return dict(state)


def _non_local(module: NonLocal, state: Mapping[str, Tensor]) -> State:
    # Pooling shares a sequence with its convolution there, so the names of g tell whether the weights were trained
    # with it. So does ReLU with that of the concatenation, and W is a sequence only with a normalization.
    subsampled = any(key.startswith("g.0.") for key in state)
    _demand(module, "subsample", module.subsample, subsampled)
    _demand(module, "scaled", module.scale != 1.0, False)
    names = {"concat_project.0.": "concat_project.", "theta.": "theta."}
    names |= {f"{part}.0." if subsampled else f"{part}.": f"{part}." for part in ("g", "phi")}
    names |= {"W.0.": "W.0.", "W.1.": "W.1.", "W.": "W.0."}
    return _renamed(state, names)


CONVERTERS: dict[type[nn.Module], Callable[[Any, Mapping[str, Tensor]], State]] = {
    SE: _se,
    GhostSE: _ghost_se,
    CAM: _cam,
    SAM: _sam,
    CBAM: _cbam,
    BAM: _bam,
    SK: _sk,
    ECA: _same,
    GC: _gc,
    Triplet: _triplet,
    Coordinate: _coordinate,
    Strip: _strip,
    GAM: _gam,
    PositionAttention: _same,
    ChannelAffinity: _channel_affinity,
    DualAttention: _danet,
    DualHead: _danet_head,
    CrissCross: _same,
    SelfAttention: _self_attention,
    NonLocal: _non_local,
}
