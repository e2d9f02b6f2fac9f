"""Dynamic capacity: Dynamic Capacity Networks, https://arxiv.org/abs/1511.07838. Hard attention without reinforcement.

    c = f_c(x) cheap features of every cell;  p = softmax(g(c));  entropy H = -sum_l p_l log p_l
    saliency M_ij = || dH / dc_ij ||_2;  the k cells of the largest M get features f_f of their neighbourhood in x
    refined map = f_f at those cells, c elsewhere
    loss = task + lambda sum_sel || c_i - f_i ||^2    (the second term, the hint, trains f_c only)

The choice of cells is not differentiated. g is convolution, ReLU, *maximum* over the map and a linear layer, as in the
paper: behind a mean the saliency would be the same in every cell. With such a g the gradient is written out
(`saliency`), so that it also exists under no_grad, inference mode and in an exported graph; a test compares it with
autograd.

Here the slot keeps C channels: c = x + a 1 x 1 convolution, f = x + two 3 x 3 convolutions on a 5 x 5 patch, both zero
at start, so the module starts as the identity. g learns through `logits(refined.features)` under a loss of the user's
(say, cross-entropy of the heading): what the entropy is about is what g is trained for. No other gradient reaches it:
without such a loss the cells are chosen by a random g. In the network g says in which sector about the prior the truth
lies (`with_auxiliary_loss`).

Ties (also where fewer than k cells have any saliency) go to the cell that comes first, row by row.
"""

from functools import partial
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bevfusion.attention.contract import AuxiliaryLoss, Need, Needs, check_at_least

_REACH = 2  # of the fine features: two 3 x 3 convolutions


class Refined(NamedTuple):
    """A refined map and how it came about."""

    features: Float[Tensor, "b c h w"]  # fine where chosen, coarse elsewhere
    coarse: Float[Tensor, "b c h w"]
    fine: Float[Tensor, "b c k"]  # of the chosen cells
    cells: Int[Tensor, "b k"]  # row * W + column of the chosen cells, the most salient first


class DynamicCapacity(nn.Module):
    """Spends a larger network on the most salient cells; identity at start.

    Args:
        channels: Channels of input and output.
        cells: k; all, where the map has fewer.
        classes: Outputs of g.
        hidden: Channels inside g.

    Raises:
        ValueError: if a size is not positive, `cells` is negative, or there are fewer than two classes.
    """

    needs: ClassVar[Needs] = frozenset({Need.LOSS})

    def __init__(self, channels: int, *, cells: int = 64, classes: int = 8, hidden: int = 64) -> None:
        super().__init__()
        for name, value, least in (("channels", channels, 1), ("cells", cells, 0), ("classes", classes, 2)):
            check_at_least(name, value, least)
        check_at_least("hidden", hidden, 1)
        self.cells = cells
        self.coarse = nn.Conv2d(channels, channels, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=0), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=0)
        )
        self.top_conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.top_linear = nn.Linear(hidden, classes)
        for last in (self.coarse, self.fine[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The refined map; `B C H W -> B C H W`."""
        return self.refine(x).features

    def refine(self, x: Float[Tensor, "b c h w"]) -> Refined:
        """The refined map with what the losses need."""
        coarse = x + self.coarse(x)
        cells = self.choose(coarse)
        fine = self._fine_at(x, cells)
        features = coarse.flatten(2).scatter(2, cells[:, None].expand_as(fine), fine.to(coarse.dtype))
        return Refined(features.reshape(x.shape), coarse, fine, cells)

    def with_auxiliary_loss(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], AuxiliaryLoss]:
        """The refined map, and the loss of the hint and of g, whose classes are equal sectors about the prior."""
        refined = self.refine(x)
        return refined.features, partial(self._loss_of_sector, refined)

    def _loss_of_sector(self, refined: Refined, loss: Float[Tensor, " b"], truth: Float[Tensor, "b 3"]) -> Tensor:
        logits = self.logits(refined.features)
        turn = torch.atan2(truth[:, 1], truth[:, 0]) / (2.0 * torch.pi) + 0.5
        sector = (turn * logits.shape[1]).long().clamp(0, logits.shape[1] - 1)
        return self.hint_loss(refined) / refined.cells.shape[1] + F.cross_entropy(logits, sector)

    def logits(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l"]:
        """g: class scores of a coarse or refined map."""
        y: Tensor = self.top_linear(F.relu(self.top_conv(features)).amax((2, 3)))
        return y

    def hint_loss(self, refined: Refined) -> Float[Tensor, ""]:
        """Squared distance of coarse from fine features at the chosen cells, mean over the batch.

        The fine features are the teacher: no gradient reaches them.
        """
        coarse = _at_cells(refined.coarse, refined.cells)
        return (coarse - refined.fine.detach()).square().sum() / max(1, coarse.shape[0])

    @torch.no_grad()
    def choose(self, coarse: Float[Tensor, "b c h w"]) -> Int[Tensor, "b k"]:
        """The k most salient cells, as row * W + column, the most salient first."""
        saliency = self.saliency(coarse).flatten(1)
        order = saliency.sort(dim=1, descending=True, stable=True).indices
        chosen: Tensor = order[:, : min(self.cells, order.shape[1])]
        return chosen

    @torch.no_grad()
    def saliency(self, coarse: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """|| dH / dc_ij ||_2, by the chain rule from the entropy down to the coarse features."""
        wide = self.top_conv(coarse)
        peaks = F.relu(wide).amax((2, 3), keepdim=True)
        log_p = self.top_linear(peaks.flatten(1)).log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1, keepdim=True)
        of_logits = -log_p.exp() * (log_p + entropy)
        of_peaks = of_logits @ self.top_linear.weight
        # As amax has it: cells that share the maximum share its gradient. A maximum of 0 lies under the ReLU.
        winners = ((wide == peaks) & (wide > 0)).to(coarse.dtype)
        winners = winners / winners.sum((2, 3), keepdim=True).clamp(min=1)
        of_coarse = F.conv_transpose2d(of_peaks[:, :, None, None] * winners, self.top_conv.weight, padding=1)
        norm: Tensor = torch.linalg.vector_norm(of_coarse, dim=1)
        return norm

    def _fine_at(self, x: Float[Tensor, "b c h w"], cells: Int[Tensor, "b k"]) -> Float[Tensor, "b c k"]:
        batch, channels, _, width = x.shape
        count = cells.shape[1]
        side = 2 * _REACH + 1
        offsets = torch.arange(side, device=x.device)
        # Padded by the reach, the patch around cell (r, c) starts at (r, c).
        rows = torch.div(cells, width, rounding_mode="floor")[:, :, None, None] + offsets[:, None]
        cols = (cells % width)[:, :, None, None] + offsets
        index = (rows * (width + 2 * _REACH) + cols).reshape(batch, 1, count * side * side)
        padded = F.pad(x, (_REACH,) * 4).flatten(2)
        patches = padded.gather(2, index.expand(-1, channels, -1)).reshape(batch, channels, count, side, side)
        found = self.fine(patches.transpose(1, 2).reshape(batch * count, channels, side, side))
        fine: Tensor = _at_cells(x, cells) + found.reshape(batch, count, channels).transpose(1, 2)
        return fine


def _at_cells(x: Float[Tensor, "b c h w"], cells: Int[Tensor, "b k"]) -> Float[Tensor, "b c k"]:
    return x.flatten(2).gather(2, cells[:, None].expand(-1, x.shape[1], -1))
