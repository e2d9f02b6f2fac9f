"""The direction head: which way do I face, as a distribution on the circle."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.nn import ConvNormAct
from bevfusion.structures import DirectionBelief, PoseBelief


class DirectionHead(nn.Module):
    """Two witnesses of the heading, multiplied: the pose volume's marginal, and what the joint tensor itself shows.

    log p(d) = log sum_{y, x} p(d, y, x) + sum_{n = 1..N} (a_n cos n d + b_n sin n d) - log Z

    with d the offset from the prior heading and (a, b) read from the joint tensor: a generalised von Mises density
    (Gatto and Jammalamadaka 2007), smooth and circular, evaluated at whatever headings the window asks for. The
    coefficients start at zero, so the head starts as the marginal and the two cannot disagree for want of training.
    """

    def __init__(self, channels: int, harmonics: int) -> None:
        """`channels` of the joint tensor; `harmonics` is N."""
        super().__init__()
        self.look = nn.Sequential(
            ConvNormAct(channels, channels, stride=2),
            ConvNormAct(channels, channels, stride=2),
        )
        self.coefficients = nn.Linear(2 * channels, 2 * harmonics)
        nn.init.zeros_(self.coefficients.weight)
        nn.init.zeros_(self.coefficients.bias)
        self.register_buffer("orders", torch.arange(1, harmonics + 1), persistent=False)
        self.orders: Tensor

    def forward(self, joint: Float[Tensor, "b c h w"], volume: PoseBelief) -> DirectionBelief:
        """Log-probabilities (B, K) at the K = R headings of the volume's window."""
        offsets_rad = torch.from_numpy(volume.window.yaw_offsets_rad()).to(volume.log_prob)
        seen = self.look(joint)
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], dim=1)
        cos_weight, sin_weight = self.coefficients(pooled).to(volume.log_prob.dtype).chunk(2, dim=1)
        angles = self.orders[:, None] * offsets_rad
        evidence = cos_weight @ angles.cos() + sin_weight @ angles.sin()
        log_prob = (heading_marginal(volume) + evidence).log_softmax(1)
        return DirectionBelief(log_prob, offsets_rad)


def heading_marginal(volume: PoseBelief) -> Float[Tensor, "b r"]:
    """Log-probability of each heading whatever the place."""
    marginal: Tensor = volume.log_prob.flatten(2).logsumexp(2)
    return marginal


def direction_loss(belief: DirectionBelief, truth_yaw_rad: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Cross-entropy to a truth spread over its two nearest bins, the short way round the circle.

    A truth outside the window counts as the window's nearest heading.
    """
    step_rad = (belief.yaw_offsets_rad[1] - belief.yaw_offsets_rad[0]).abs()
    away_rad = truth_yaw_rad[:, None].to(belief.log_prob) - belief.yaw_offsets_rad
    away_rad = torch.remainder(away_rad + torch.pi, 2.0 * torch.pi) - torch.pi
    nearest = torch.nn.functional.one_hot(away_rad.abs().argmin(1), away_rad.shape[1])
    weight = torch.maximum((1.0 - away_rad.abs() / step_rad).clamp(min=0.0), 1e-6 * nearest)
    weight = weight / weight.sum(1, keepdim=True)
    return -(weight * belief.log_prob).sum(1)


def mean_direction(belief: DirectionBelief) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Circular mean and circular standard deviation sqrt(-2 ln R) of each distribution, radians."""
    prob = belief.log_prob.exp()
    cos, sin = prob @ belief.yaw_offsets_rad.cos(), prob @ belief.yaw_offsets_rad.sin()
    length = torch.sqrt(cos**2 + sin**2).clamp(1e-12, 1.0)
    return torch.atan2(sin, cos), torch.sqrt(-2.0 * length.log())
