"""From a map to descriptors: pooling over all cells or over those that the LiDAR has seen, and their normalization.

Most cells of a bird's-eye view are empty, so a plain mean says how full the map is rather than what is in it, and
every border of empty cells dilutes it. With `seen`, mean and maximum are taken over seen cells alone: adding cells
that were never seen changes nothing, and where nothing was seen the result is zero.

Ties: the maximum is `amax`, which splits the gradient evenly over all cells that attain it. LiDAR features are full
of ties at zero; `max(dim)` would give the whole gradient to whichever cell comes first in memory, so that the gradient
of a permutation-invariant gate would depend on the order of the cells.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bevfusion.attention.contract import Need, Needs

Seen = Bool[Tensor, "b 1 h w"] | Float[Tensor, "b 1 h w"]


def seen_mask(x: Float[Tensor, "b c h w"], seen: Tensor | None, needs: Needs) -> Bool[Tensor, "b 1 h w"] | None:
    """The cells to pool over, or None for all of them; a cell is seen where `seen` is positive or True.

    Raises:
        ValueError: if `seen` is missing where the mechanism needs it, given where it does not, or of another size.
    """
    if (Need.SEEN in needs) != (seen is not None):
        raise ValueError(
            "occupancy=True pools over seen cells only: pass seen (B, 1, H, W)"
            if Need.SEEN in needs
            else "seen was passed to a mechanism that was built with occupancy=False"
        )
    if seen is None:
        return None
    if seen.shape != (x.shape[0], 1, *x.shape[2:]):
        raise ValueError(f"expected seen of shape {(x.shape[0], 1, *x.shape[2:])}, got {tuple(seen.shape)}")
    return seen if seen.dtype == torch.bool else seen > 0


def mean_over(
    x: Float[Tensor, "b c h w"],
    dims: tuple[int, ...],
    seen: Bool[Tensor, "b 1 h w"] | None = None,
    keepdim: bool = False,
) -> Float[Tensor, "..."]:
    """Mean over spatial axes, of seen cells where a mask is given; zero where no cell was seen."""
    if seen is None:
        return x.mean(dims, keepdim=keepdim)
    # Half precision would overflow: a sum over 256 x 256 cells passes 65504 at a mean of one.
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    total = x.masked_fill(~seen, 0).sum(dims, keepdim=keepdim, dtype=wide)
    return (total / seen.sum(dims, keepdim=keepdim).clamp(min=1)).to(x.dtype)


def max_over(
    x: Float[Tensor, "b c h w"],
    dims: tuple[int, ...],
    seen: Bool[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, "..."]:
    """Maximum over spatial axes, of seen cells where a mask is given; zero where no cell was seen."""
    if seen is None:
        return x.amax(dims)
    peak = x.masked_fill(~seen, -torch.inf).amax(dims)
    return peak.masked_fill(~seen.any(dims), 0)


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` for (B, C, *) and any further axes, also where one value a channel is left.

    The papers of BAM and SK normalize a descriptor over the batch. Where one value a channel is left (batch 1 on a
    1 x 1 descriptor, the usual case when training on large maps) torch raises, because one value has no spread. Here
    the running statistics serve instead, as in evaluation, and stay as they are. Weights of public implementations
    stay loadable.
    """

    def forward(self, input: Tensor) -> Tensor:  # the name is that of the class it replaces
        """Normalizes each channel; (B, C, *) -> (B, C, *)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"expected (B, {self.num_features}, ...), got {tuple(input.shape)}")
