"""The localization head on the fused tensor: how far a pose is off, and whether the scan was taken there at all.

At a pose that is about right, what the scan shows and what the map has lie on each other to a metre. Every cell then
says how far its own piece of scan has to be moved to lie on its piece of map: a displacement u (ego frame), and how
much it knows along every direction, a 2 x 2 precision L L^T (a facade knows the way towards it, not the way along
it). The vehicle's residual x = (dx, dy, dyaw) moves the cell at p by J x with J = [I | (-p_y, p_x)^T], so that

    A = P + sum_p J^T L L^T J,      b = sum_p J^T L L^T u,      x = A^-1 b,      covariance A^-1

are the weighted least squares of a rigid motion, as in the update of Gauss-Newton scan matching (Horn, Closed-form
solution of absolute orientation, JOSA A 4(4), 1987, has it without precisions), with P the precision of poses before
anything was looked at.

Whether the pose is right is asked of the pooled tensor and of the matching's absolute score there.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bevfusion.fusion.align import cell_centres_m, wrapped
from bevfusion.geometry.grid import Grid
from bevfusion.nn import ConvNormAct
from bevfusion.structures import PoseCheck

PRIOR_STD = (1.0, 1.0, 0.035)
"""Of the residual along x, y (m) and of yaw (rad) before anything was looked at: a volume's best pose is as near."""

RIGHT_M, RIGHT_RAD = 2.0, math.radians(4.0)
"""What is farther off is another place."""

_LARGEST_M = 3.0  # displacement that a cell can ask for
_INITIAL_LOG_PRECISION = -7.5  # of a cell's displacement: thousands of cells agree at first, and know little


class PoseCheckHead(nn.Module):
    """Residual pose by weighted least squares of per-cell displacements, and log-odds that the pose is right."""

    def __init__(self, channels: int, grid: Grid) -> None:
        """`channels` of the joint tensor, cells of `grid`, ego frame."""
        super().__init__()
        self.grid = grid
        self.look = nn.Sequential(ConvNormAct(channels, channels), ConvNormAct(channels, channels))
        self.displacement = nn.Conv2d(channels, 5, 1)  # u_x, u_y; log of L's diagonal, L's other entry
        nn.init.zeros_(self.displacement.weight)
        initial = torch.tensor([0.0, 0.0, *[0.5 * _INITIAL_LOG_PRECISION] * 2, 0.0])
        self.displacement.bias = nn.Parameter(initial)
        self.down = nn.Sequential(ConvNormAct(channels, channels, stride=2), ConvNormAct(channels, channels, stride=2))
        self.verdict = nn.Sequential(nn.Linear(2 * channels + 1, channels), nn.ReLU(), nn.Linear(channels, 1))

    def forward(
        self, joint: Float[Tensor, "n c h w"], seen: Float[Tensor, "n 1 h w"], score: Float[Tensor, " n"]
    ) -> PoseCheck:
        """Look at n poses.

        Args:
            joint: scan and map at each pose, ego frame.
            seen: 1 where the scan reached the cell: only these speak.
            score: of the matching at each pose, before any scale: the mean product of a seen cell.
        """
        looked = self.look(joint)
        told = self.displacement(looked).float()  # sums of thousands of cells follow
        displacement_m = _LARGEST_M * (told[:, :2] / _LARGEST_M).tanh()
        residual, covariance = rigid_residual(displacement_m, _precision(told[:, 2:]) * seen.float(), self.grid)
        small = self.down(looked)
        pooled = torch.cat([small.mean((2, 3)), small.amax((2, 3)), score[:, None].to(small)], dim=1)
        return PoseCheck(residual, covariance, self.verdict(pooled)[:, 0].float())


def _precision(told: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """xx, xy, yy of L L^T from the logarithms of L's diagonal and its entry below."""
    xx, yy = told[:, 0].clamp(-10.0, 3.0).exp(), told[:, 1].clamp(-10.0, 3.0).exp()
    below = told[:, 2].clamp(-20.0, 20.0)
    return torch.stack([xx * xx, xx * below, below * below + yy * yy], dim=1)


def rigid_residual(
    displacement_m: Float[Tensor, "n 2 h w"], precision: Float[Tensor, "n 3 h w"], grid: Grid
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3 3"]]:
    """The rigid motion that displaces the cells of a grid as they ask for, by weighted least squares.

    Args:
        displacement_m: of each cell along x and y.
        precision: xx, xy, yy of each cell's displacement, 1 / m^2.
        grid: of the cells, which turn about its origin.

    Returns:
        Residual (x, y in m, yaw in rad) and its covariance.
    """
    x_m, y_m = cell_centres_m(grid, displacement_m).unbind(-1)
    wxx, wxy, wyy = precision.unbind(1)
    u_x, u_y = displacement_m.unbind(1)
    # rows of J^T W: along x, along y, about the origin
    about_x, about_y = -y_m * wxx + x_m * wxy, -y_m * wxy + x_m * wyy
    sums = [wxx, wxy, wyy, about_x, about_y, -y_m * about_x + x_m * about_y]
    sums += [wxx * u_x + wxy * u_y, wxy * u_x + wyy * u_y, about_x * u_x + about_y * u_y]
    xx, xy, yy, xr, yr, rr, b_x, b_y, b_r = (part.flatten(1).sum(1) for part in sums)
    p_x, p_y, p_r = (1.0 / std**2 for std in PRIOR_STD)
    covariance = _inverse(xx + p_x, xy, xr, yy + p_y, yr, rr + p_r)
    residual = (covariance * torch.stack([b_x, b_y, b_r], dim=1)[:, None]).sum(2)
    return residual, covariance


def _inverse(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Float[Tensor, "n 3 3"]:
    """Of symmetric matrices [[a, b, c], [b, d, e], [c, e, f]], by cofactors: other runtimes have no inverse."""
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * aa + b * ab + c * ac
    return torch.stack([aa, ab, ac, ab, bb, bc, ac, bc, cc], dim=1).view(-1, 3, 3) / determinant[:, None, None]


def residual_loss(check: PoseCheck, truth: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Negative log-likelihood of the true residual under a Gaussian; nats, in units of `PRIOR_STD`."""
    scale = truth.new_tensor(PRIOR_STD)
    away = ((check.residual - truth) / scale)[..., None]
    covariance = check.covariance / (scale[:, None] * scale)
    solved = torch.linalg.solve(covariance, away)
    loss: Tensor = 0.5 * ((away * solved).sum((1, 2)) + torch.linalg.slogdet(covariance).logabsdet)
    return loss


def is_right(away: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Whether a pose that is so far away (x, y in m, yaw in rad) counts as the place: within 2 m and 4 degrees."""
    near: Tensor = (away[:, :2].norm(dim=1) <= RIGHT_M) & (wrapped(away[:, 2]).abs() <= RIGHT_RAD)
    return near
