"""From a scan and a prior to a pose on the map; `sequence.py` makes one that follows a vehicle of it."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from bevfusion.build import build_model, search_window, tile_grid, tile_lattice_m, voxel_grid
from bevfusion.checkpoint import Checkpoint, load_weights, read_checkpoint
from bevfusion.choices import meant
from bevfusion.classical.locator import ClassicalLocator
from bevfusion.config import Config, overridden
from bevfusion.direction.learned import FieldReader
from bevfusion.filters.settings import FilterConfig
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.city_search import CitySearch, ScanTemplate
from bevfusion.heads.read_out import read_out
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.ground_contrast import contrast_of_scan
from bevfusion.lidar.voxelize import scan_input
from bevfusion.maps.feature_file import FeatureFile, features_beside
from bevfusion.maps.map_features import MapFeatures, blocks_of_file
from bevfusion.maps.source import MapSource
from bevfusion.maps.tiles import TileStore
from bevfusion.model import FusionNet, Prediction
from bevfusion.precision import Precision, chosen_precision, computing_in
from bevfusion.structures import (
    Batch,
    DataError,
    Locator,
    PoseBelief,
    PoseEstimate,
    Scan,
    SearchArea,
    Voxels,
)

CHECKPOINT_NAME = "model.safetensors"  # of a training run's folder
CLASSICAL = "classical"  # in place of a checkpoint: the training-free matcher
DEFAULT = "default"  # in place of a checkpoint: the weights that ship
DEFAULT_PATH = Path(str(files("bevfusion") / "weights" / "default.safetensors"))


class NetworkLocator:
    """A trained network on one map."""

    def __init__(
        self,
        model: FusionNet,
        config: Config,
        source: MapSource,
        *,
        device: str = "cpu",
        precision: Precision = "float32",
        features: FeatureFile | None = None,
    ) -> None:
        """Put the network to work on a map.

        Args:
            model: trained weights inside.
            config: what the network was built from.
            source: the map; poses that come and go are in its frame.
            device: where to compute.
            precision: in which to.
            features: of the map, by these weights, where they were encoded before.
        """
        self.model = model.to(device).eval()
        raster = config.model.encoder == "raster"  # sparse convolutions have weights of another rank
        for encoder in (model.lidar_encoder, model.map_encoder) if raster else (model.map_encoder,):
            encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the rest is faster channel by channel
        self.config = config
        self.source = source
        self.device = device
        self.precision = chosen_precision(precision, device)
        self._voxel_grid = voxel_grid(config)
        self._tiles = TileStore(source, model.bev_grid)
        self._kept_as = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self._features = MapFeatures(
            self._tiles,
            self._encode,
            stride=model.stride,
            context=model.map_encoder.context_cells,
            coarsest=1 << (config.model.map.levels - 1),
            at_hand=None if features is None else blocks_of_file(features, self._kept_as),
        )

    @property
    def map_error_m(self) -> float:
        """The error of the map as a whole that beliefs count already: what calibration found in simulated maps."""
        return self.model.blur.std_cells * self.model.feature_grid.cell_m

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        """The pose of a scan within +-offset_m (map axes) and +-offset_rad of a prior pose in the map frame.

        Raises:
            DataError: if the scan has no point inside the network's range.
        """
        prediction, centre = self.predict(scan, prior, offset_m, offset_rad)
        estimate = estimate_of(prediction.volume, prediction.here, centre)
        return estimate if self.model.direction is None else replace(estimate, direction=self.reader(prediction))

    def reader(self, prediction: Prediction) -> FieldReader:
        """What a prediction shows of the direction.

        Raises:
            DataError: if the checkpoint has no direction head.
        """
        if self.model.direction is None:
            raise DataError("the checkpoint has no direction head: train one (model.heads.direction)")
        return FieldReader(self.model.direction, prediction.fused.joint, prediction.scan.seen)

    @torch.inference_mode()
    def predict(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> tuple[Prediction, SE2]:
        """The network's own output, and the pose that it is centred on: the prior, on the lattice of map features."""
        bev, voxels, contrast = self._input(scan)
        grid, window = tile_grid(self.config, offset_m), search_window(self.config, offset_m, offset_rad)
        centre = on_lattice(prior, tile_lattice_m(self.config))
        tile = self._tiles.tile(centre, grid)
        features = self._features.about(centre, grid.coarser(self.model.stride))
        yaw_rad = torch.tensor([prior.yaw_rad], dtype=torch.float32)
        batch = Batch(bev[None], _as_input(tile.layers), yaw_rad, voxels=voxels, contrast=contrast).to(self.device)
        with computing_in(self.precision, self.device):
            return self.model(batch, window, map_features=features[None]), centre

    def prepare(self, places: Sequence[SE2], offset_m: float) -> None:
        """Encode the map between places where scans may be asked for soon, beside."""
        lattice_m = tile_lattice_m(self.config)
        grid = tile_grid(self.config, offset_m).coarser(self.model.stride)
        self._features.prepare([on_lattice(place, lattice_m) for place in places], grid)

    @property
    def template_grid(self) -> Grid:
        """Raster of the templates; map features have its cells."""
        return self.model.feature_grid

    @property
    def headings(self) -> int:
        """Steps of heading round the circle."""
        return search_window(self.config, self.template_grid.cell_m, math.pi).shape[0]

    def map_search(self, area: SearchArea) -> CitySearch:
        """A search of all of an area at once.

        Raises:
            DataError: if the area is too large for it.
        """
        return CitySearch(self, area)

    @torch.inference_mode()
    def scan_template(self, scan: Scan) -> ScanTemplate:
        """What the matching lays on the map.

        Raises:
            DataError: if the scan has no point inside the network's range.
        """
        bev, voxels, contrast = self._input(scan)
        nowhere = torch.zeros(1)  # the LiDAR tower asks for neither map nor prior
        batch = Batch(bev[None], nowhere.view(1, 1, 1, 1), nowhere, voxels=voxels).to(self.device)
        head = self.model.pose_volume
        with computing_in(self.precision, self.device):
            seen = self.model.encode_scan(batch)
            template, count = head.counted_template(seen.lidar, seen.seen)
        contrast_head = self.model.road_contrast
        ground = None if contrast is None else contrast[0] * contrast_head.footprint.cpu()
        cells = template[0].float().cpu()
        return ScanTemplate(cells, float(count), float(head.log_scale), ground, float(contrast_head.weight))

    @torch.inference_mode()
    def map_features(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "c h w"]:
        """What the matching lays templates on: cells of the lattice about the map's origin from (row0, col0) on."""
        window = self.encoded(row0, col0, height, width)
        with computing_in(self.precision, self.device):
            features: Tensor = self.model.pose_volume.map(window[None])
        return features[0].float().cpu()

    @torch.inference_mode()
    def map_road(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "h w"]:
        """The carriageway in the same cells, as the contrast of the ground is compared with it."""
        stride, margin = self.model.stride, 4  # cells about them, which the softened borders of a road reach
        grid = Grid((height + 2 * margin) * stride, (width + 2 * margin) * stride, self.model.bev_grid.cell_m)
        layers = self._tiles.apart((row0 - margin) * stride, (col0 - margin) * stride, grid)
        road = self.model.road_contrast.road_of(torch.from_numpy(layers)[None].to(self.device))
        return road[0, 0, margin:-margin, margin:-margin].float().cpu()

    def encoded(self, row0: int, col0: int, height: int, width: int) -> Float[Tensor, "c h w"]:
        """What the map encoder makes of the same cells."""
        return self._features.window(row0, col0, height, width)

    def _input(self, scan: Scan) -> tuple[Float[Tensor, "c h w"], Voxels | None, Float[Tensor, "1 3 hf wf"] | None]:
        """The scan as the LiDAR tower takes it, and the contrast of its ground, or None where that has no weight.

        Raises:
            DataError: if it has no point inside the network's range.
        """
        model, config, height_m = self.model, self.config, height_above_ground(scan.xyz)
        bev, voxels = scan_input(scan, model.bev_grid, config.bev.slices_m, self._voxel_grid, height_m)
        if not bool((bev[-1] < 1.0).any()):
            raise DataError(f"none of the scan's {len(scan)} points lies within {config.bev.range_m} m")
        if not float(model.road_contrast.weight):
            return bev, voxels, None
        return bev, voxels, contrast_of_scan(scan, height_m, model.bev_grid, model.stride)[None]

    @torch.inference_mode()
    def _encode(self, layers: Int8[np.ndarray, "l h w"]) -> Float[Tensor, "c h2 w2"]:
        with computing_in(self.precision, self.device):
            features: Tensor = self.model.map_encoder(_as_input(layers).to(self.device))
        return features[0].contiguous()


def on_lattice(prior: SE2, step_m: float) -> SE2:
    """The pose with the same heading on the nearest place whose x and y are whole multiples of a step."""
    return SE2(round(prior.x_m / step_m) * step_m, round(prior.y_m / step_m) * step_m, prior.yaw_rad)


def _as_input(layers: Int8[np.ndarray, "l h w"]) -> Int8[Tensor, "1 l h w"]:
    """A view for the network, which writes nothing there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of memory that is read-only
        return torch.from_numpy(layers)[None]


def estimate_of(volume: PoseBelief, log_odds: Float[Tensor, " 1"], centre: SE2) -> PoseEstimate:
    """The answer of one sample about `centre`, a pose of the map frame.

    The residual that fusion finds is not applied: on unseen simulated streets a parabola through the volume's best bins
    has 83 % of the answers within a metre along the road, the residual 80.

    Args:
        volume: of the matching.
        log_odds: that the scan was taken at its best pose; NaN where that is not known.
        centre: of the volume.
    """
    log_prob, here = volume.log_prob.cpu(), float(log_odds[0].sigmoid())
    reading = read_out(log_prob[0].numpy(), volume.window)
    return PoseEstimate(
        map_from_ego=centre.moved_by(reading.offset),
        covariance=reading.covariance,
        heading_std_rad=reading.heading_std_rad,
        confidence=reading.confidence,
        prior=centre,
        belief=PoseBelief(log_prob, volume.window),
        probability_here=None if math.isnan(here) else here,
    )


def open_locator(checkpoint: str, source: MapSource, precision: Precision = "float32") -> Locator:
    """What finds scans on a map, by name: `classical` needs no training, all else is as in `open_localizer`.

    Raises:
        DataError: if there is no such checkpoint or it cannot be used.
    """
    return ClassicalLocator(source) if checkpoint == CLASSICAL else open_localizer(checkpoint, source, precision)


def open_localizer(checkpoint: str, source: MapSource, precision: Precision = "float32") -> NetworkLocator:
    """A network on a map, on the GPU where there is one.

    Args:
        checkpoint: `default` for the weights that ship, a checkpoint file, or the folder of a training run.
        source: the map.
        precision: in which the network computes.

    Raises:
        DataError: if there is no such checkpoint, it cannot be used, it is the classical matcher, or features that lie
            beside the map are of another checkpoint.
    """
    if checkpoint == CLASSICAL:
        raise DataError("'classical' has no network to look into; name a checkpoint")
    model, loaded = open_network(checkpoint)
    features = features_beside(source, loaded.sha256)
    return NetworkLocator(model, loaded.config, source, device=best_device(), precision=precision, features=features)


def best_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_network(checkpoint: str) -> tuple[FusionNet, Checkpoint]:
    """The network that a name stands for (as in `read_weights`), and what it was built from.

    Raises:
        DataError: if there is none, or it cannot be used.
    """
    loaded = read_weights(checkpoint)
    model = build_model(loaded.config, loaded.layers)
    load_weights(model, loaded.weights, checkpoint)
    return model, loaded


def describe_checkpoint(checkpoint: str) -> dict[str, Any]:
    """What a report should say of a checkpoint: path, hash, name of the configuration, provenance."""
    if checkpoint == CLASSICAL:
        return {"path": CLASSICAL, "name": CLASSICAL}
    loaded = read_weights(checkpoint)
    return {"path": checkpoint, "sha256": loaded.sha256, "name": loaded.config.name, **loaded.provenance}


def filter_config(checkpoint: str, overrides: Sequence[str] = ()) -> FilterConfig:
    """How sequences of a checkpoint are followed: as its configuration says (`classical`: the defaults), or otherwise.

    Args:
        checkpoint: as of `open_locator`.
        overrides: `filter.section.key=value` each.

    Raises:
        DataError: if there is no such checkpoint or it cannot be read.
        ConfigError: if a key does not exist, is none of the filter's, or its value lies outside its range.
    """
    config = Config() if checkpoint == CLASSICAL else read_weights(checkpoint).config
    return overridden(config, overrides, within="filter").filter


def read_weights(checkpoint: str) -> Checkpoint:
    """The file that a name stands for: `default`, a checkpoint file, or the folder of a training run.

    Raises:
        DataError: if there is none or it cannot be read.
    """
    path = DEFAULT_PATH if checkpoint == DEFAULT else Path(checkpoint)
    if not path.exists():
        near = meant(checkpoint, [DEFAULT, CLASSICAL, *(str(other) for other in path.parent.glob("*"))])
        raise DataError(f"{path}: no such checkpoint file or folder{near}")
    return read_checkpoint(path / CHECKPOINT_NAME if path.is_dir() else path)
