"""Dual attention: Dual Attention Network for Scene Segmentation, https://arxiv.org/abs/1809.02983.

    position: s_ji = softmax_i(q_j . k_i),   E_j = alpha sum_i s_ji v_i + A_j       (q, k: C/8 wide, logits unscaled)
    channel:  x_ji = softmax_i(A_j . A_i),   E_j = beta  sum_i x_ji A_i + A_j       (no weights but beta)

alpha = beta = 0 at start. The position half equals SAGAN's attention in its "full" form and, like it, has no second
derivative (torch's fused attention).

Discrepancies. The authors' code has softmax_i(max_k e_jk - e_ji) in the channel half, which *reverses* the ranking
(a channel looks most at those unlike it); they report it works better. `energy="official"` (default) or `"paper"`.
Energies are sums over N = H W cells: on a bird's-eye view both forms saturate to one-hot rows, so `energy_scale`
"cells" (divide by N) or "cosine" (unit-length channels) and `temperature` keep them soft; "none" is the paper's. Half
precision overflows at N ~ 50 k: energies are computed in float32 whatever the input. The paper's text mentions norms
and ReLU on q and k; the authors withdrew that.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bevfusion.attention.contract import check_choice, hidden_width
from bevfusion.attention.descriptors import BatchNorm
from bevfusion.attention.self_attention import as_map, attend, tokens


class PositionAttention(nn.Module):
    """Every cell gathers from cells like it; identity at start.

    Args:
        channels: Channels of input and output.
        reduction: Channels over the width of queries and keys.

    Raises:
        ValueError: if a size is not positive.
    """

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        inner = hidden_width(channels, reduction)
        self.query_conv = nn.Conv2d(channels, inner, 1)
        self.key_conv = nn.Conv2d(channels, inner, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Returns x + alpha sum_i s_ji v_i; `B C H W -> B C H W`, the N x N matrix is never stored."""
        gathered = attend(tokens(self.query_conv(x)), tokens(self.key_conv(x)), tokens(self.value_conv(x)))
        y: Tensor = x + self.gamma * as_map(gathered, x)
        return y


class ChannelAffinity(nn.Module):
    """Every channel gathers from other channels; identity at start.

    Args:
        channels: Channels of input and output (only checked: there is no weight a channel).
        energy: "official" (attend to what is unlike) or "paper" (to what is like).
        energy_scale: "none", "cells" or "cosine", see above.
        temperature: Divides the energies; larger is softer.

    Raises:
        ValueError: if `energy` or `energy_scale` is unknown or the temperature is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        energy: str = "official",
        energy_scale: str = "none",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        hidden_width(channels, 1)
        check_choice("energy", energy, ("official", "paper"))
        check_choice("energy_scale", energy_scale, ("none", "cells", "cosine"))
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.energy = energy
        self.energy_scale = energy_scale
        self.temperature = temperature
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Returns x + beta sum_i x_ji x_i; `B C H W -> B C H W`."""
        gathered = torch.bmm(self.affinity(x).to(x.dtype), x.flatten(2))
        # x enters through the sum, not through the product: at gamma = 0 the output is x to the bit.
        return x + self.gamma * gathered.reshape(x.shape)

    def affinity(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
        """Weight of channel i (last axis) in the sum of channel j; rows sum to one. At least float32."""
        with torch.autocast(x.device.type, enabled=False):
            cells = x.flatten(2)
            cells = cells if x.dtype == torch.float64 else cells.float()
            if self.energy_scale == "cosine":
                cells = F.normalize(cells, dim=2)
            energy = torch.bmm(cells, cells.transpose(1, 2)) / self.temperature
            if self.energy_scale == "cells":
                energy = energy / max(1, cells.shape[2])
            # Softmax ignores the row's maximum: max_k e_jk - e_ji and -e_ji give the same weights.
            return (-energy if self.energy == "official" else energy).softmax(2)


class DualAttention(nn.Module):
    """Both halves in one slot: x + (position - x) + (channel - x); identity at start.

    The paper sums the two outputs behind a convolution each (`DualHead`); a bare sum would double x. Arguments as the
    halves have them.

    Raises:
        ValueError: as the halves do.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 8,
        energy: str = "official",
        energy_scale: str = "none",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.position = PositionAttention(channels, reduction=reduction)
        self.channel = ChannelAffinity(channels, energy=energy, energy_scale=energy_scale, temperature=temperature)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Adds what cells and channels gather; `B C H W -> B C H W`."""
        y: Tensor = self.position(x) + self.channel(x) - x
        return y


class DualOutputs(NamedTuple):
    """What the head says, and what each half says alone (for the auxiliary losses)."""

    fused: Float[Tensor, "b k h w"]
    position: Float[Tensor, "b k h w"]
    channel: Float[Tensor, "b k h w"]


class DualHead(nn.Module):
    """The paper's head with three outputs: conv-norm-ReLU, attention, conv-norm-ReLU for each half, then their sum.

    Args:
        channels: Channels of the input; the halves work on a quarter.
        classes: Channels of each output.
        dropout: Share of channels dropped before each output.
        energy: As of `ChannelAffinity`.
        energy_scale: As of `ChannelAffinity`.
        temperature: As of `ChannelAffinity`.

    Raises:
        ValueError: as the halves do.
    """

    def __init__(
        self,
        channels: int,
        *,
        classes: int,
        dropout: float = 0.1,
        energy: str = "official",
        energy_scale: str = "none",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        inner = hidden_width(channels, 4)
        self.conv5a, self.conv5c = _conv_norm_relu(channels, inner), _conv_norm_relu(channels, inner)
        self.sa = PositionAttention(inner)
        self.sc = ChannelAffinity(inner, energy=energy, energy_scale=energy_scale, temperature=temperature)
        self.conv51, self.conv52 = _conv_norm_relu(inner, inner), _conv_norm_relu(inner, inner)
        self.conv6, self.conv7, self.conv8 = (
            nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(inner, classes, 1)) for _ in range(3)
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> DualOutputs:
        """Class scores of every cell, three times; each `B K H W`."""
        position = self.conv51(self.sa(self.conv5a(x)))
        channel = self.conv52(self.sc(self.conv5c(x)))
        return DualOutputs(self.conv8(position + channel), self.conv6(position), self.conv7(channel))

    def loss(self, outputs: DualOutputs, target: Int[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """Sum of the cross-entropies of the three outputs, which the authors weigh alike."""
        auxiliary = F.cross_entropy(outputs.position, target) + F.cross_entropy(outputs.channel, target)
        return F.cross_entropy(outputs.fused, target) + auxiliary


def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), BatchNorm(out_channels), nn.ReLU()
    )
