"""Questions and answers about the direction, as training takes them: from a drive's way to tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bevfusion.direction.path import POINTS
from bevfusion.direction.targets import (
    Asking,
    Question,
    Ways,
    WayTarget,
    base_field,
    mirrored_question,
    mirrored_target,
    target_of,
)
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.structures import AskedWay, DirectionSample, FieldTruth


@dataclass(frozen=True)
class Directions:
    """What is asked about the frames of drives."""

    ways: Sequence[Ways]  # one a drive
    grid: Grid  # of the features, ego frame
    asking: Asking

    def sample(
        self,
        drive: int,
        map_from_ego: SE2,
        tile_from_ego: SE2,
        prior_yaw_rad: float,
        mirror: bool,
        rng: np.random.Generator,
    ) -> DirectionSample:
        """A question about a frame, and its answer; batch of one.

        Args:
            drive: number of the drive.
            map_from_ego: true pose of the frame.
            tile_from_ego: the same in the tile, whose origin is the prior position; in the mirror, if there is one.
            prior_yaw_rad: heading of the prior in the tile frame.
            mirror: whether scan and tile are seen in a mirror along the vehicle.
            rng: draws the question.
        """
        ways = self.ways[drive]
        index = ways.way.index_of(map_from_ego)
        target = target_of(ways.way, map_from_ego, index, self.grid)
        question = ways.draw(map_from_ego, index, self.asking, rng)
        if mirror:
            question, target = mirrored_question(question), mirrored_target(target)
        asked = tile_from_ego @ question.ego_from_asked
        pose = [asked.x_m, asked.y_m, wrap_angle(asked.yaw_rad - prior_yaw_rad)]
        return DirectionSample(torch.tensor([pose]), way_tensors(question, self.grid), truth_tensors(target))


def way_tensors(question: Question, grid: Grid) -> AskedWay:
    """The way of a question as the head takes it, batch of one."""
    told = base_field(question.path, grid)
    facts = (float(question.known), question.position_std_m, question.heading_std_rad)
    planes = (told.yaw_rad, told.left_m, told.along_m, told.direction_rad)
    return AskedWay(*(_tensor(plane) for plane in planes), *(torch.tensor([fact]) for fact in facts))


def truth_tensors(target: WayTarget) -> FieldTruth:
    """The answer as tensors, batch of one; a path that is not known as far as 16 m counts as none."""
    path_m = np.zeros((POINTS, 2))
    path_m[: len(target.path_m)] = target.path_m
    points = float(len(target.path_m)) if target.scored else 0.0
    field = target.field
    planes = [target.drivable, field.direction_rad, field.left_m, field.along_m, path_m]
    drivable, direction_rad, left_m, along_m, path = map(_tensor, planes)
    return FieldTruth(drivable, direction_rad, left_m, along_m, path, torch.tensor([points]))


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
