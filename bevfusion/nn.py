"""Blocks shared by encoders, fusion and heads."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

MakeAttention = Callable[[int], nn.Module]
"""A mechanism, B C H W to the same, for so many channels."""

MakeNorm = Callable[[int], nn.Module]
"""A normalization of so many channels, B C H W to the same."""


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of at least four channels where they divide.

    Rather than batch norm: a batch of one is normal here, and evaluation must equal training. What comes out of a cell
    depends on all of the map, so it is for what always comes whole, as a scan does.
    """
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0 and (channels // g >= 4 or g == 1))
    return nn.GroupNorm(groups, channels)


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
