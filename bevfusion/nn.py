"""Blocks shared by encoders, fusion and heads."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

MakeAttention = Callable[[int], nn.Module]
"""A mechanism, B C H W to the same, for so many channels."""

MakeNorm = Callable[[int], nn.Module]
"""A normalization of so many channels, B C H W to the same."""


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu and He, arXiv:1803.08494) that rounds as well channels-last as it does channel by channel.

    What torch has for channels-last float32 adds up a whole map in one go and takes the square of the mean from the
    mean of the squares: on a raster of 192 x 192 cells it is forty times as far from float64. Here sums are taken along
    rows, then over rows, and squares are those of what is left without the mean.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalize each group of channels of each sample."""
        if x.dtype != torch.float32 or not lies_channels_last(x):
            return super().forward(x)  # of half precision, sums are taken in float32, and the result is rounded anyway
        cells = x.permute(0, 2, 3, 1)
        left = cells - self._group_means(cells)
        scale = self.weight * torch.rsqrt(self._group_means(left.square()) + self.eps)
        return torch.addcmul(self.bias, left, scale).permute(0, 3, 1, 2)

    def _group_means(self, cells: Float[Tensor, "b h w c"]) -> Float[Tensor, "b 1 1 c"]:
        """The mean of its group for each channel."""
        batch, height, width, channels = cells.shape
        members = channels // self.num_groups
        sums = cells.sum(2).sum(1).view(batch, self.num_groups, members).sum(2)
        means = sums / (height * width * members)
        return means.repeat_interleave(members, 1).view(batch, 1, 1, channels)


def lies_channels_last(x: Tensor) -> bool:
    """Whether all channels of a cell lie side by side in memory, and not all cells of a channel."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def group_norm(channels: int) -> GroupNorm:
    """Group norm with groups of at least four channels where they divide.

    Rather than batch norm: a batch of one is normal here, and evaluation must equal training. What comes out of a cell
    depends on all of the map, so it is for what always comes whole, as a scan does.
    """
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0 and (channels // g >= 4 or g == 1))
    return GroupNorm(groups, channels)


class ConvNormAct(nn.Sequential):
    """Convolution, norm, ReLU; `B C H W -> B C' H/stride W/stride`."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, norm: MakeNorm = group_norm
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """x + two convolutions of x (He et al., arXiv:1603.05027, with the norm behind the convolution).

    Attention stands where its authors put it: behind the convolutions, before the sum (Hu et al., arXiv:1709.01507,
    section 3.3; Woo et al., arXiv:1807.06521, figure 3).
    """

    def __init__(self, channels: int, attention: MakeAttention = nn.Identity, norm: MakeNorm = group_norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(channels, channels, norm=norm),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm(channels),
        )
        self.attention = attention(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add what the body finds."""
        y: Tensor = self.act(x + self.attention(self.body(x)))
        return y


class UNet(nn.Module):
    """Fine and wide context in one map: down by strided blocks, up by addition (Lin et al., arXiv:1612.03144).

    `B C_in H W -> B C_out H/stride W/stride`; H and W must be multiples of 2^(levels - 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        levels: int,
        blocks: int = 1,
        stride: int = 1,
        attention: MakeAttention = nn.Identity,
        norm: MakeNorm = group_norm,
    ) -> None:
        """`width` channels at the finest level, doubled at the next two; `attention` goes into every residual block."""
        super().__init__()
        widths = [min(width * 2**level, 4 * width) for level in range(levels)]
        self.down = nn.ModuleList()
        previous = in_channels
        for level, channels in enumerate(widths):
            residual = [ResidualBlock(channels, attention, norm) for _ in range(blocks if 2**level >= stride else 0)]
            down = ConvNormAct(previous, channels, stride=1 if level == 0 else 2, norm=norm)
            self.down.append(nn.Sequential(down, *residual))
            previous = channels
        used = [level for level in range(levels) if 2**level >= stride]
        self.across = nn.ModuleDict({str(level): nn.Conv2d(widths[level], out_channels, 1) for level in used})
        self.out = ResidualBlock(out_channels, attention, norm)
        self.levels, self.stride, self.blocks = levels, stride, blocks

    @property
    def context_cells(self) -> int:
        """Cells of the input about a cell of the output that can make a difference to it, on each side, at most.

        As long as attention and norms look at no other cell than their own.
        """
        reach = 0
        for level in range(self.levels):
            cell = 1 << level
            reach += max(1, cell // 2) + 2 * cell * (self.blocks if cell >= self.stride else 0)
        # on the way up each cell looks at its neighbours in the level below, and the last block at its own
        up = sum(1 << level for level in range(self.levels) if 1 << level > self.stride)
        return reach + up + 2 * self.stride + (1 << (self.levels - 1))  # the last: where it lies in its coarsest cell

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Features at `stride` times the cell size of x.

        Raises:
            ValueError: if the size does not halve often enough.
        """
        blocks = 2 ** (self.levels - 1)
        if x.shape[-2] % blocks or x.shape[-1] % blocks:
            raise ValueError(f"expected height and width in multiples of {blocks}, got {tuple(x.shape[-2:])}")
        merged: dict[int, Tensor] = {}
        for level, down in enumerate(self.down):
            x = down(x)
            if str(level) in self.across:
                merged[level] = self.across[str(level)](x)
        top = max(merged)
        y = merged[top]
        for level in sorted(merged, reverse=True)[1:]:
            y = merged[level] + F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        out: Tensor = self.out(y)
        return out
