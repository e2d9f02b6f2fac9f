"""Loads weights of the public implementations of the papers, so that pretrained gates can be used and compared.

The names and shapes are those of Jongchan/attention-module (CBAM, BAM), moskomule/senet.pytorch (SE),
Andrew-Qibin/CoordAttention, landskape-ai/triplet-attention, BangguWu/ECANet, junfu1115/DANet,
heykeetae/Self-Attention-GAN, AlexHex7/Non-local_pytorch and the widely copied listing of GAM; keys must start at the
mechanism (strip what precedes them in a checkpoint). What has to change on the way:

* CBAM stacks (max, mean) where the paper and this project stack (mean, max): the kernel's inputs are swapped.
* A bias in front of a normalization is absent here and is subtracted from its running mean, which is the same in
  evaluation; in training such a bias has no effect.
* Public SE has no biases: zeros.
* BAM's weights belong to `mode="product"`. GAM's listing has no sigmoid on the channel gate (`sigmoid=False`), and its
  grouped form shuffles the finished gate, which no weights of this project can express.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bevfusion.attention.bam import BAM
from bevfusion.attention.cbam import CAM, CBAM, SAM
from bevfusion.attention.coordinate import Coordinate
from bevfusion.attention.danet import ChannelAffinity, DualAttention, PositionAttention
from bevfusion.attention.eca import ECA
from bevfusion.attention.gam import GAM
from bevfusion.attention.non_local import NonLocal
from bevfusion.attention.se import SE
from bevfusion.attention.self_attention import SelfAttention
from bevfusion.attention.triplet import Triplet

State = dict[str, Tensor]


def load_reference_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict with the names of the mechanism's public implementation.

    Args:
        module: A mechanism built with the options of the weights.
        state: The public state dict, keys starting at the mechanism.

    Raises:
        ValueError: if no public weights are known for the mechanism, a key is unknown, or the module was built with
            options under which the weights mean something else.
        RuntimeError: if keys are missing or shapes differ (from `load_state_dict`).
    """
    if type(module) not in CONVERTERS:
        known = sorted(kind.__name__ for kind in CONVERTERS)
        raise ValueError(f"no public weights are known for {type(module).__name__}; the choices are {known}")
    module.load_state_dict(CONVERTERS[type(module)](module, state))


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
    bias = state.pop(f"{layer}.bias", None)
    if bias is not None:
        state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - bias


def _se(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    converted = _renamed(state, {"fc.0.": "squeeze.", "fc.2.": "excite."})
    for key, value in module.state_dict().items():
        if key.endswith("bias"):
            converted.setdefault(key, torch.zeros_like(value))
    return converted


CBAM_CHANNEL = {"ChannelGate.mlp.1.": "mlp.0.", "ChannelGate.mlp.3.": "mlp.2."}
CBAM_SPATIAL = {"SpatialGate.spatial.conv.": "conv.", "SpatialGate.spatial.bn.": "norm."}


def _cam(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    return _renamed(state, CBAM_CHANNEL)


def _sam(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    converted = _renamed(state, CBAM_SPATIAL)
    if "conv.weight" in converted:
        converted["conv.weight"] = converted["conv.weight"].flip(1)
    return converted


def _cbam(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    if isinstance(module, CBAM) and not module.sequential:
        raise ValueError('the public weights of CBAM belong to arrangement="sequential"')
    names = {public: f"channel.{own}" for public, own in CBAM_CHANNEL.items()}
    names |= {public: f"spatial.{own}" for public, own in CBAM_SPATIAL.items()}
    converted = _renamed(state, names)
    if "spatial.conv.weight" in converted:
        converted["spatial.conv.weight"] = converted["spatial.conv.weight"].flip(1)
    return converted


def _bam(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    if isinstance(module, BAM) and module.summed:
        raise ValueError('the public weights of BAM belong to mode="product", got a module of mode="sum"')
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


def _triplet(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    names: dict[str, str] = {}
    for plane, older in (("cw", "ChannelGateH"), ("hc", "ChannelGateW"), ("hw", "SpatialGate")):
        for prefix in (f"{plane}.conv", f"{older}.spatial"):
            names |= {f"{prefix}.conv.": f"{plane}.conv.", f"{prefix}.bn.": f"{plane}.norm."}
    return _renamed(state, names)


def _coordinate(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    names = {"conv1.": "squeeze.0.", "bn1.": "squeeze.1.", "conv2.": "rows.", "conv3.": "columns."}
    converted = _renamed(state, names | {"conv_h.": "rows.", "conv_w.": "columns."})
    for key in ("squeeze.0.weight", "rows.weight", "columns.weight"):
        if key in converted:
            converted[key] = converted[key].flatten(2)
    _fold_bias(converted, "squeeze.0", "squeeze.1")
    return converted


def _gam(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    if isinstance(module, GAM) and any(isinstance(part, nn.ChannelShuffle) for part in module.spatial):
        raise ValueError("the public grouped GAM shuffles its finished gate: only groups=1 has weights to load")
    names = {"channel_attention.0.": "mlp.0.", "channel_attention.2.": "mlp.2."}
    for public, own in ((0, 0), (1, 1), (3, 4), (4, 5)):
        names[f"spatial_attention.{public}."] = f"spatial.{own}."
    converted = _renamed(state, names)
    for key in ("mlp.0.weight", "mlp.2.weight"):
        if key in converted:
            converted[key] = converted[key][:, :, None, None]
    _fold_bias(converted, "spatial.0", "spatial.1")
    _fold_bias(converted, "spatial.4", "spatial.5")
    return converted


def _same(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    return dict(state)


def _danet(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    return _renamed(state, {"sa.": "position.", "sc.": "channel."})


def _non_local(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    # Pooling and ReLU share a sequence with their convolution there, and W is one only with a normalization.
    names = {f"{part}.0.": f"{part}." for part in ("g", "phi", "concat_project")}
    names |= {f"{part}.": f"{part}." for part in ("g", "phi", "theta")}
    names |= {"W.0.": "W.0.", "W.1.": "W.1.", "W.": "W.0."}
    return _renamed(state, names)


CONVERTERS: dict[type[nn.Module], Callable[[nn.Module, Mapping[str, Tensor]], State]] = {
    SE: _se,
    CAM: _cam,
    SAM: _sam,
    CBAM: _cbam,
    BAM: _bam,
    ECA: _same,
    Triplet: _triplet,
    Coordinate: _coordinate,
    GAM: _gam,
    PositionAttention: _same,
    ChannelAffinity: _same,
    DualAttention: _danet,
    SelfAttention: _same,
    NonLocal: _non_local,
}
