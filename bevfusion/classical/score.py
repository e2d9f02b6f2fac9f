"""The likelihood of every pose of a window, and what may be believed of it.

A pose (shift s, heading r) lays the cells p of the scan on places x = R_r p + s of the map, and

    log L(r, s) = sum_p standing(p) wall(x) / n_wall + sum_p free(p) solid(x) / n_area
                  - sum_{c = darkness, lowness, smoothness} N / (2 n_area) log(1 - max(rho_c, 0)^2)

rho_c(r, s) is the correlation, over the N ground cells of the scan, of their contrast c with the road that the map puts
under them. The last term is thus the log-likelihood ratio of a linear model of the contrast, fitted anew to each pose:
nobody has to say how dark asphalt is for this sensor, and a pose that puts no road or nothing but road under the
scan gains nothing.

Neighbouring cells say the same thing: the front of a house is one piece, and so is an error of the map. Only one in
n_wall = 8 m / cell along a wall and one in n_area = (2 m / cell)^2 of an area counts; this is the temperature.

The map itself is displaced, by a metre or so and a degree or so, and may be plain wrong. So the belief is

    p = (1 - 0.02) softmax(log L) * N(0; 1 m, 1 m, 1 deg) + 0.02 / (number of poses)

with * the convolution over the window, corrected at its borders for what the kernel has outside.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.classical.evidence import Evidence
from bevfusion.classical.expectation import Expectation
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.matching import correlate, rotate_templates
from bevfusion.heads.road_contrast import PIECE_M, GroundSums

_WALL_PIECE_M = 8.0
MAP_ERROR_M, _MAP_ERROR_RAD = 1.0, math.radians(1.0)
_MAP_WRONG = 0.02
_CENTRE_NATS = 1e-3  # by which the window's centre beats its border where nothing else tells them apart
_AT_ONCE = 12  # headings, to bound memory


def log_likelihood(
    evidence: Evidence, expectation: Expectation, prior_yaw_rad: float, grid: Grid, window: PoseWindow
) -> Float[Tensor, "r y x"]:
    """Score every pose by log L, up to a constant, exhaustively by FFT.

    Args:
        evidence: of the scan, over `grid`.
        expectation: of the map, over a grid that is wider by the window's reach on every side, in map axes.
        prior_yaw_rad: heading that the window's yaw offsets are relative to.
        grid: raster of the evidence; cells as large as the window's.
        window: poses to score.
    """
    ground = evidence.ground
    contrasts = (evidence.darkness, evidence.lowness, evidence.smoothness)
    planes = torch.stack([evidence.standing, evidence.free, ground, *contrasts])
    n_wall, n_area = _WALL_PIECE_M / grid.cell_m, (PIECE_M / grid.cell_m) ** 2
    additive = torch.stack([expectation.wall / n_wall, expectation.solid / n_area])[None]
    road = expectation.road
    roads = torch.stack([road, road**2, *[road] * len(contrasts)])[:, None]
    cells, spreads = ground.sum(), [contrast.square().sum() for contrast in contrasts]
    parts = []
    for yaws_rad in torch.split(torch.from_numpy(prior_yaw_rad + window.yaw_offsets_rad()).float(), _AT_ONCE):
        turned = rotate_templates(planes[None], yaws_rad[None], grid)
        score = correlate(turned[:, :, :2], additive, window.reach)[0]
        each = turned[0, :, [2, 2, *range(3, len(planes))]].transpose(0, 1)[:, :, None]
        on_road, on_road_squared, *products = correlate(each, roads, window.reach)
        parts.append(score + GroundSums(cells, spreads, on_road, on_road_squared, products).log_likelihood(grid.cell_m))
    return torch.cat(parts)


def belief_of(scores: Float[Tensor, "r y x"], window: PoseWindow) -> Float[Tensor, "r y x"]:
    """Log-probabilities of the poses of a window from their log-likelihoods: see the top of this file."""
    shifts_m = torch.from_numpy(window.shifts_m()).to(scores)
    away = (shifts_m[:, None] ** 2 + shifts_m[None, :] ** 2) / window.offset_m**2
    prob = (scores - _CENTRE_NATS * away).flatten().softmax(0).view(scores.shape)
    along_shift = _kernel(MAP_ERROR_M / window.cell_m).to(prob)
    prob = _blurred(_blurred(prob, along_shift, 1), along_shift, 2)
    step_rad = 2.0 * math.pi / len(prob) if window.full_circle else window.yaw_step_rad
    prob = _blurred(prob, _kernel(_MAP_ERROR_RAD / step_rad).to(prob), 0, circular=window.full_circle)
    prob = (1.0 - _MAP_WRONG) * prob / prob.sum() + _MAP_WRONG / prob.numel()
    log_prob: Tensor = prob.log()
    return log_prob


def _kernel(sigma: float) -> Float[Tensor, " k"]:
    """A Gaussian of `sigma` bins, cut off at three of them."""
    reach = math.ceil(3.0 * sigma)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    return bell / bell.sum()


def _blurred(
    volume: Float[Tensor, "r y x"], kernel: Float[Tensor, " k"], axis: int, *, circular: bool = False
) -> Float[Tensor, "r y x"]:
    """The volume convolved along one axis; at an open end divided by the share of the kernel that lies inside."""
    lines = volume.movedim(axis, 2)
    shape, reach = lines.shape, len(kernel) // 2
    flat = lines.reshape(-1, 1, shape[2])
    if circular:
        flat = flat[:, :, torch.arange(-reach, shape[2] + reach) % shape[2]]
        return F.conv1d(flat, kernel[None, None]).view(shape).movedim(2, axis)
    share = F.conv1d(torch.ones_like(flat[:1]), kernel[None, None], padding=reach)
    return (F.conv1d(flat, kernel[None, None], padding=reach) / share).view(shape).movedim(2, axis)
