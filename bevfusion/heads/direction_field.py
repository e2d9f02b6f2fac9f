"""The direction head on the fused tensor: where one can drive, and which way one drives there.

It is asked with a way that leads on from the vehicle (a route, or a road of the map, moved to the vehicle): at every
cell p of the ego raster the way has a direction b(p) (`direction/way_field.py`). What is learned is

    p(drivable),  the residual r(p) to that direction,  and how sure it is, a concentration k(p):

the direction of driving is von Mises distributed about b(p) + r(p) with concentration k(p), 1 / sqrt(k) being its
spread in radians. At first r = 0: the head says what the map says.

A path is read out by following the field from the vehicle,

    dp/ds = u(p),  u(p) = sum_i w_i(p) u_i / |sum_i w_i(p) u_i|,  u_i = (cos, sin)(b_i + r_i),  p(0) = 0

with bilinear weights w_i over the four cells about p, by the midpoint rule in steps of half a metre.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.fusion.align import wrapped
from bevfusion.geometry.grid import Grid
from bevfusion.nn import UNet
from bevfusion.structures import AskedWay, FieldTruth

WAY_PLANES = 8
"""Of the way that is asked for, see `way_planes`."""

STEP_M = 0.5
_NEAR_M = 12.0  # farther from the way, where it leads is not told
_LEVELS = 4
_INITIAL_LOG_CONCENTRATION = 4.0  # 8 degrees
_LOG_CONCENTRATION = (-1.0, 11.0)  # 95 to 0.2 degrees
_MOST_RAD = 1.2  # of the residual
_CORRIDOR_M = 3.0  # where directions are asked: the weight of a cell falls with its distance from the way driven
_REACH_M = 40.0
_SPACING_M = 2.0
_COARSE_STEP_M = 1.0  # of a path in training
_NEAR_POINTS = 8
_DIRECTION_WEIGHT = 0.2
_FAR_WEIGHT = 0.3  # of the path's points beyond 16 m


@dataclass(frozen=True, slots=True)
class LearnedField:
    """What the head says of every cell of the ego raster."""

    drivable: Float[Tensor, "n h w"]  # log-odds
    direction_rad: Float[Tensor, "n h w"]  # of driving
    log_concentration: Float[Tensor, "n h w"]  # of the von Mises distribution about it

    @property
    def std_rad(self) -> Float[Tensor, "n h w"]:
        """Spread of the direction."""
        return (-0.5 * self.log_concentration).exp()


def way_planes(way: AskedWay) -> Float[Tensor, "n 8 h w"]:
    """The way as planes: its direction near it, distance from it and along it, and how sure the pose is."""
    near = (way.left_m.abs() < _NEAR_M).to(way.left_m)
    ones = torch.ones_like(way.left_m)
    told = [way.known, way.position_std_m / 5.0, way.heading_std_rad / math.radians(5.0)]
    return torch.stack(
        [
            near * way.yaw_rad.cos(),
            near * way.yaw_rad.sin(),
            (way.left_m / 8.0).clamp(-1.5, 1.5),
            (way.along_m / 40.0).clamp(-0.5, 1.5),
            (-(way.left_m / 4.0).square()).exp(),
            *(ones * value[:, None, None] for value in told),
        ],
        dim=1,
    )


class DirectionFieldHead(nn.Module):
    """Fused tensor and way to a field of directions: a small U-Net."""

    def __init__(self, channels: int, grid: Grid, *, width: int = 16) -> None:
        """`channels` of the joint tensor, cells of `grid`, ego frame."""
        super().__init__()
        self.grid = grid
        self.look = UNet(channels + WAY_PLANES + 1, width, width=width, levels=_LEVELS)
        self.tell = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.tell.weight)
        self.tell.bias = nn.Parameter(torch.tensor([0.0, 0.0, _INITIAL_LOG_CONCENTRATION]))

    def forward(self, joint: Float[Tensor, "n c h w"], seen: Float[Tensor, "n 1 h w"], way: AskedWay) -> LearnedField:
        """The field of n questions.

        Args:
            joint: scan and map at the pose that the way was seen from, ego frame.
            seen: 1 where the scan reached the cell.
            way: that is asked for.
        """
        x = torch.cat([joint, seen.to(joint), way_planes(way).to(joint)], dim=1)
        height, width = x.shape[2:]
        blocks = 1 << (_LEVELS - 1)
        x = F.pad(x, [0, -width % blocks, 0, -height % blocks])
        told = self.tell(self.look(x))[:, :, :height, :width].float()
        residual = _MOST_RAD * (told[:, 1] / _MOST_RAD).tanh()
        concentration = told[:, 2].clamp(*_LOG_CONCENTRATION)
        return LearnedField(told[:, 0], way.direction_rad + residual, concentration)


def follow(
    direction_rad: Float[Tensor, "n h w"], grid: Grid, length_m: float, step_m: float = STEP_M
) -> Float[Tensor, "n k 2"]:
    """The places that a vehicle comes to as it follows a field from the origin, `step_m` apart along its way.

    What lies outside the raster has the direction of the nearest cell inside.
    """
    units = torch.stack([direction_rad.cos(), direction_rad.sin()], dim=1)
    place = units.new_zeros(len(units), 2)
    places = []
    for _ in range(round(length_m / step_m)):
        middle = place + 0.5 * step_m * direction_at(units, place, grid)
        place = place + step_m * direction_at(units, middle, grid)
        places.append(place)
    return torch.stack(places, dim=1) if places else units.new_zeros(len(units), 0, 2)


def direction_at(units: Float[Tensor, "n 2 h w"], places_m: Float[Tensor, "n 2"], grid: Grid) -> Float[Tensor, "n 2"]:
    """Unit vectors of a field at a place of each sample, bilinear."""
    where = grid.normalized(places_m)[:, None, None]
    found = F.grid_sample(units, where, padding_mode="border", align_corners=False)[:, :, 0, 0]
    return F.normalize(found, dim=1, eps=1e-6)


def values_along(plane: Float[Tensor, "n h w"], places_m: Float[Tensor, "n k 2"], grid: Grid) -> Float[Tensor, "n k"]:
    """Values of a plane at places, bilinear."""
    found = F.grid_sample(
        plane[:, None], grid.normalized(places_m)[:, None], padding_mode="border", align_corners=False
    )
    return found[:, 0, 0]


def field_loss(field: LearnedField, truth: FieldTruth, grid: Grid) -> Float[Tensor, " n"]:
    """Of each sample: of p(drivable), of the directions about the way driven, and of the path that is read out.

    The last is in metres (smooth L1), the first two are nats a cell.
    """
    known = (truth.drivable >= 0).float()
    raw = F.binary_cross_entropy_with_logits(field.drivable, truth.drivable.clamp(min=0.0), reduction="none")
    of_drivable = (raw * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1.0)
    weight = (-(truth.left_m / _CORRIDOR_M).square()).exp()
    weight = weight * ((truth.along_m > -2.0) & (truth.along_m < _REACH_M))
    of_direction = (weight * von_mises_loss(field, truth.direction_rad)).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)
    count = truth.path_m.shape[1]
    every = round(_SPACING_M / _COARSE_STEP_M)
    path = follow(field.direction_rad, grid, count * _SPACING_M, _COARSE_STEP_M)[:, every - 1 :: every]
    numbers = torch.arange(count, device=path.device)
    counted = (numbers < truth.points[:, None]).float()
    counted = counted * torch.where(numbers < _NEAR_POINTS, 1.0, _FAR_WEIGHT)
    away = F.smooth_l1_loss(path, truth.path_m, reduction="none", beta=0.3).sum(2)
    of_path = (away * counted).sum(1) / counted.sum(1).clamp(min=1.0)
    loss: Tensor = of_drivable + _DIRECTION_WEIGHT * of_direction + of_path
    return loss


def von_mises_loss(field: LearnedField, truth_rad: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Negative log-likelihood of directions: log(2 pi I0(k)) - k cos(away), with I0 scaled so that it stays finite."""
    concentration = field.log_concentration.exp()
    away = wrapped(field.direction_rad - truth_rad)
    # k - k cos(away) without the loss of digits at large k
    missed = 2.0 * concentration * (0.5 * away).sin().square()
    loss: Tensor = missed + torch.special.i0e(concentration).log() + math.log(2.0 * math.pi)
    return loss
