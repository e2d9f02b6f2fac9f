"""Samples for the direction head with what the towers make of them, worked out once: the towers do not learn from it.

A sample is a scan with a question: a pose that is off, and the way that the map has from there. The scan is encoded
once for all its questions. On disk a sample takes 1.3 MB, and reading it is a thousand times as fast as making it.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from bevfusion.datasets.augment import drop_mapped_kinds, insert_vehicles
from bevfusion.datasets.drive import Drive
from bevfusion.direction.road_graph import road_graph_of
from bevfusion.direction.targets import (
    Asking,
    DrivenWay,
    Question,
    Ways,
    WayTarget,
    base_field,
    target_of,
)
from bevfusion.direction.way_field import WayField
from bevfusion.fusion.align import map_in_ego
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.voxelize import scan_input
from bevfusion.maps.map_features import MapFeatures
from bevfusion.maps.schema import LAYER_NAMES, layer_index
from bevfusion.maps.source import MapSource
from bevfusion.maps.tiles import TileStore
from bevfusion.model import FusionNet
from bevfusion.structures import Batch, Scan

log = logging.getLogger(__name__)

MOST_VEHICLES = 40
ROAD_LAYERS = tuple(name for name in LAYER_NAMES if name.startswith(("road", "oneway", "junction")))
_POINTS = 20
_MARGIN_M = 24.0  # of map beyond the corners of the ego grid


@dataclass(frozen=True, slots=True)
class Changes:
    """How scans and maps are changed: shares of samples, the rest is as it is."""

    traffic: float = 0.5  # 1 to 40 vehicles are put on the road
    sparse_map: float = 0.3  # the map lacks half of the kinds of things
    questions: int = 2  # a scan


@dataclass(frozen=True)
class Scene:
    """A scan of a drive, the truth about it, and where on the way it was taken."""

    scan: Scan
    map_from_ego: SE2
    index: int  # of the vertex of the way


class DirectionFeatures:
    """Makes samples on one map."""

    def __init__(self, model: FusionNet, source: MapSource, slices_m: Sequence[float]) -> None:
        """The towers of `model` are used as they are, on the map of `source`."""
        self.model = model.eval()
        self.grid = model.feature_grid
        self._slices_m = slices_m
        self._rng = np.random.default_rng(0)
        tiles = TileStore(source, model.bev_grid)
        self._tiles = tiles

        def features(change: Callable[[Int8[np.ndarray, "l h w"]], Int8[np.ndarray, "l h w"]]) -> MapFeatures:
            return MapFeatures(
                tiles,
                lambda layers: self._encode(change(layers)),
                stride=model.stride,
                context=model.map_encoder.context_cells,
                coarsest=8,
            )

        self._maps = {
            "whole": features(lambda layers: layers),
            "sparse": features(lambda layers: drop_mapped_kinds(layers, 0.5, self._rng)),
            "no roads": features(_without_roads),
        }

    @torch.inference_mode()
    def _encode(self, layers: Int8[np.ndarray, "l h w"]) -> Float[Tensor, "c h2 w2"]:
        with torch.autocast("cpu", torch.bfloat16):
            encoded: Tensor = self.model.map_encoder(torch.from_numpy(layers[None].astype(np.float32) / 127.0))
        return encoded[0].float()

    @torch.inference_mode()
    def scan(self, scan: Scan) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "1 h w"]]:
        """Features of a scan, and where it reached."""
        bev, voxels = scan_input(scan, self.model.bev_grid, self._slices_m, None)
        nowhere = torch.zeros(1)
        with torch.autocast("cpu", torch.bfloat16):
            seen = self.model.encode_scan(Batch(bev[None], nowhere.view(1, 1, 1, 1), nowhere, voxels=voxels))
        return seen.lidar[0].float(), seen.seen[0].float()

    @torch.inference_mode()
    def map(self, pose: SE2, kind: str = "whole") -> tuple[Float[Tensor, "c h w"], Float[Tensor, "2 h w"]]:
        """Features of the map, and the doubled direction of its roads, as seen from a pose of the map frame."""
        cell_m = self.grid.cell_m
        half_m = math.hypot(*self.grid.half_extent_m) + _MARGIN_M
        around = Grid.square(math.ceil(half_m / 8.0) * 8.0, cell_m)
        centre = SE2(round(pose.x_m / 8.0) * 8.0, round(pose.y_m / 8.0) * 8.0, 0.0)
        here = centre.inverse() @ pose
        at = torch.tensor([[here.x_m, here.y_m, here.yaw_rad]], dtype=torch.float32)
        features = map_in_ego(self._maps[kind].about(centre, around)[None], at, around, self.grid)[0]
        fine = Grid(around.height * self.model.stride, around.width * self.model.stride, cell_m / self.model.stride)
        layers = self._tiles.tile(centre, fine).layers[[layer_index("road_cos2"), layer_index("road_sin2")]]
        doubled = torch.from_numpy(layers[None].astype(np.float32) / 127.0)
        cos2, sin2 = map_in_ego(doubled, at, fine, self.grid)[0]
        turn = torch.tensor(-2.0 * here.yaw_rad)
        road = torch.stack([turn.cos() * cos2 - turn.sin() * sin2, turn.sin() * cos2 + turn.cos() * sin2])
        if kind == "no roads":
            road = torch.zeros_like(road)
        return features, road


def _without_roads(layers: Int8[np.ndarray, "l h w"]) -> Int8[np.ndarray, "l h w"]:
    kept = layers.copy()
    kept[[layer_index(name) for name in ROAD_LAYERS]] = 0
    return kept


class FeatureFolder:
    """Samples on disk, an array a quantity, all of one grid."""

    ARRAYS = (
        ("lidar", np.float16), ("seen", np.uint8), ("map", np.float16), ("road", np.float16), ("base", np.float16),
        ("drivable", np.int8), ("true", np.float16), ("path", np.float32), ("facts", np.float32),
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        """A folder that `write_features` has filled."""
        about = json.loads((folder / "about.json").read_text())
        self.count, self.scans = int(about["count"]), int(about["scans"])
        self.names: list[str] = about["names"]
        self.of_scan = np.load(folder / "of_scan.npy", allow_pickle=False)[: self.count]
        self.arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name, _ in self.ARRAYS
        }

    def __len__(self) -> int:
        return self.count

    def batch(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Samples by number."""
        scans = self.of_scan[list(numbers)]
        return {
            name: torch.from_numpy(
                np.stack(
                    [
                        array[scan if name in ("lidar", "seen") else number]
                        for scan, number in zip(scans, numbers, strict=True)
                    ]
                )
            ).float()
            for name, array in self.arrays.items()
        }


def write_features(
    folder: Path,
    makers: Iterator[tuple[str, DirectionFeatures, Ways, Iterator[Scene]]],
    asking: Asking,
    changes: Changes,
    most: int,
    grid: Grid,
    channels: int,
    seed: int = 0,
) -> None:
    """Fill a folder with the samples of drives.

    Args:
        folder: to create.
        makers: name, features, ways and scenes of each drive.
        asking: how questions are drawn.
        changes: of scans and maps.
        most: scans at most.
        grid: of the features.
        channels: of the features.
        seed: of the questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = grid.height, grid.width
    many = most * changes.questions
    shapes = {
        "lidar": (most, channels, height, width), "seen": (most, 1, height, width),
        "map": (many, channels, height, width), "road": (many, 2, height, width),
        "base": (many, 3, height, width), "drivable": (many, height, width),
        "true": (many, 3, height, width), "path": (many, _POINTS, 2),
        "facts": (many, 5),
    }  # fmt: skip
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shapes[name])
        for name, dtype in FeatureFolder.ARRAYS
    }
    rng, scans, count = np.random.default_rng(seed), 0, 0
    of_scan = np.zeros(many, np.int64)
    names: list[str] = []
    for name, features, ways, scenes in makers:
        for scene in scenes:
            if scans == most:
                break
            target = target_of(ways.way, scene.map_from_ego, scene.index, grid)
            if not target.scored:
                continue
            scan = scene.scan
            if rng.random() < changes.traffic:
                scan = insert_vehicles(scan, int(rng.integers(1, MOST_VEHICLES + 1)), rng)
            lidar, seen = features.scan(scan)
            arrays["lidar"][scans], arrays["seen"][scans] = lidar.numpy(), seen.numpy()
            for _ in range(changes.questions):
                question = ways.draw(scene.map_from_ego, scene.index, asking, rng)
                kind = "no roads" if not question.known else "whole"
                if question.known and rng.random() < changes.sparse_map:
                    kind = "sparse"
                seen_map, road = features.map(scene.map_from_ego @ question.ego_from_asked, kind)
                arrays["map"][count], arrays["road"][count] = seen_map.numpy(), road.numpy()
                store(arrays, count, question, target, grid)
                of_scan[count] = scans
                names.append(name)
                count += 1
            scans += 1
        log.info("%s: %d scans, %d samples", name, scans, count)
        np.save(folder / "of_scan.npy", of_scan)
        (folder / "about.json").write_text(json.dumps({"count": count, "scans": scans, "names": names}))


def store(arrays: Mapping[str, np.ndarray], number: int, question: Question, target: WayTarget, grid: Grid) -> None:
    """Put a question and its answer into arrays."""
    arrays["base"][number] = _stacked(base_field(question.path, grid))
    arrays["true"][number] = _stacked(target.field)
    arrays["drivable"][number] = target.drivable
    arrays["path"][number] = 0.0
    arrays["path"][number, : len(target.path_m)] = target.path_m
    arrays["facts"][number] = [
        float(question.known), question.position_std_m, question.heading_std_rad, len(target.path_m), 0.0,
    ]  # fmt: skip


def _stacked(field: WayField) -> np.ndarray:
    return np.stack([field.yaw_rad, np.clip(field.left_m, -500, 500), np.clip(field.along_m, -500, 500)])


def scenes_of(drive: Drive, source: MapSource, way: DrivenWay, every: int) -> Iterator[Scene]:
    """Every so many scans of a drive, with their true poses.

    Args:
        drive: recorded or simulated.
        source: its map.
        way: that it drove.
        every: of the frames.
    """
    for position in range(0, len(drive), every):
        frame = drive[position]
        if frame.truth is not None:
            pose = source.frame.map_from_ego(frame.truth)
            yield Scene(frame.scan, pose, way.index_of(pose))


def ways_of(way: DrivenWay, source: MapSource) -> Ways:
    """The drive matched onto the roads of its map.

    Raises:
        DataError: if the map has no roads.
    """
    return Ways(way, road_graph_of(source))
