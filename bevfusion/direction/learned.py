"""The direction as the network sees it: the map's way, corrected by what scan and map show where they were fused."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.direction.path import PathAhead
from bevfusion.direction.way_field import from_vehicle, way_field
from bevfusion.heads.direction_field import STEP_M, DirectionFieldHead, LearnedField, follow, values_along
from bevfusion.structures import AskedWay, DirectionReader, FollowedWay

_SPACING_M = 2.0


class FieldReader:
    """A direction head with the fused tensor of one scan; fields are worked out when they are asked for."""

    def __init__(
        self, head: DirectionFieldHead, joint: Float[Tensor, "1 c h w"], seen: Float[Tensor, "1 1 h w"]
    ) -> None:
        """`joint` is of scan and map at the pose that the scan was found at, ego frame."""
        self._head, self._joint, self._seen = head, joint.float(), seen.float()

    @torch.inference_mode()
    def field(
        self,
        xy_m: Float[np.ndarray, "n 2"],
        yaw_rad: Float[np.ndarray, " n"],
        position_std_m: float,
        heading_std_rad: float,
        *,
        known: bool = True,
    ) -> LearnedField:
        """The field for a way of the map, given by points and directions in the ego frame."""
        way = asked_way(self._head, xy_m, yaw_rad, position_std_m, heading_std_rad, known=known)
        device = self._joint.device
        field: LearnedField = self._head(self._joint, self._seen, way.mapped(lambda tensor: tensor.to(device)))
        return field

    @torch.inference_mode()
    def follow(
        self,
        xy_m: Float[np.ndarray, "n 2"],
        yaw_rad: Float[np.ndarray, " n"],
        position_std_m: float,
        heading_std_rad: float,
    ) -> FollowedWay:
        """The way that leads on: as many points as the map's way has."""
        field = self.field(xy_m, yaw_rad, position_std_m, heading_std_rad)
        return read_path(field, self._head, len(xy_m))


def asked_way(
    head: DirectionFieldHead,
    xy_m: Float[np.ndarray, "n 2"],
    yaw_rad: Float[np.ndarray, " n"],
    position_std_m: float,
    heading_std_rad: float,
    *,
    known: bool = True,
) -> AskedWay:
    """A way of the map as a question, batch of one."""
    line_m, line_rad = from_vehicle(xy_m, yaw_rad)
    told = way_field(line_m, line_rad, head.grid.centres_m())
    planes = (told.yaw_rad, told.left_m, told.along_m, told.direction_rad)
    facts = (float(known), position_std_m, heading_std_rad)
    return AskedWay(
        *(torch.from_numpy(plane)[None].float() for plane in planes), *(torch.tensor([fact]) for fact in facts)
    )


def read_path(field: LearnedField, head: DirectionFieldHead, points: int) -> FollowedWay:
    """Follow a field (batch of one) from the vehicle, points 2 m apart."""
    every = round(_SPACING_M / STEP_M)
    fine = follow(field.direction_rad, head.grid, points * _SPACING_M)
    places = fine[:, every - 1 :: every]
    units = torch.stack([field.direction_rad.cos(), field.direction_rad.sin()], dim=1)
    cos, sin = (values_along(units[:, axis], places, head.grid) for axis in (0, 1))
    drivable = values_along(field.drivable.sigmoid(), fine, head.grid)
    return FollowedWay(
        places[0].double().cpu().numpy(),
        torch.atan2(sin, cos)[0].double().cpu().numpy(),
        values_along(field.std_rad, places, head.grid)[0].double().cpu().numpy(),
        float(drivable.mean()) if points else 0.0,
    )


def corrected(
    paths: Sequence[PathAhead], reader: DirectionReader, covariance: Float[np.ndarray, "3 3"]
) -> list[PathAhead]:
    """Paths of the map as the network sees them, the likeliest first.

    Where several lead on, each is as likely as the map has it, times the mean probability that one can drive along it.

    Args:
        paths: moved to the vehicle, as `Guide` makes them.
        reader: of the scan.
        covariance: of the pose, x, y in m and yaw in rad.
    """
    position_m = float(np.sqrt(max(0.5 * (covariance[0, 0] + covariance[1, 1]), 0.0)))
    heading_rad = float(np.sqrt(max(covariance[2, 2], 0.0)))
    ways = [reader.follow(path.xy_m, path.yaw_rad, position_m, heading_rad) for path in paths]
    weights = [path.probability * way.drivable for path, way in zip(paths, ways, strict=True)]
    total, before = sum(weights), sum(path.probability for path in paths)
    if total <= 0.0:
        weights, total = [path.probability for path in paths], before
    made = [
        replace(path, xy_m=way.xy_m, yaw_rad=way.yaw_rad, std_rad=way.std_rad, probability=before * weight / total)
        for path, way, weight in zip(paths, ways, weights, strict=True)
    ]
    return sorted(made, key=lambda path: -path.probability)
