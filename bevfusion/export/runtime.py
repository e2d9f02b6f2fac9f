"""An exported network on one map, run by onnxruntime: no torch module is built, no weight is read but from the file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bevfusion.build import bev_grid, search_window, tile_lattice_m
from bevfusion.config import config_from_dict
from bevfusion.export.network import export_tile_grid
from bevfusion.export.write import FORMAT, INPUTS, METADATA_KEY, OUTPUTS, is_as_written
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.ground_contrast import contrast_of_scan
from bevfusion.localizer import estimate_of, on_lattice
from bevfusion.maps.source import MapSource
from bevfusion.maps.tiles import TileStore
from bevfusion.parsing import parse_json
from bevfusion.structures import DataError, PoseBelief, PoseEstimate, Scan, SearchArea


class OnnxLocator:
    """A `Locator` on the CPU, for the one window that its file was exported for."""

    def __init__(self, path: Path, source: MapSource) -> None:
        """Open a file that `write_export` wrote.

        Raises:
            DataError: if onnxruntime is missing or the file is none of ours.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise DataError("running ONNX needs the package onnxruntime: pip install -e '.[onnx]'") from error
        if not path.is_file():
            raise DataError(f"{path}: no such file; tools/export.py CHECKPOINT --output model.onnx makes one")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise DataError(f"{path}: onnxruntime cannot read it: {reason}") from error
        about = _about(path, self._session.get_modelmeta().custom_metadata_map)
        self.config = config_from_dict(about["config"], f"{path}: configuration inside")
        if not is_as_written(path.read_bytes(), about["digest"]):
            raise DataError(f"{path}: damaged: its content is not what was written (its digest does not fit)")
        self.offset_m, self.offset_deg = float(about["offset_m"]), float(about["offset_deg"])
        self.window = search_window(self.config, self.offset_m, math.radians(self.offset_deg))
        self.path = path
        self.model = None  # there is no torch module to look into
        self.map_error_m = 0.0  # the file does not say what its beliefs count
        self._bev_grid = bev_grid(self.config)
        self._store = TileStore(source, export_tile_grid(self.config, self.offset_m))

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        """As `NetworkLocator.locate`; the file encodes the map anew for each scan.

        Raises:
            DataError: if the window is not the file's, or the scan has no point inside the network's range.
        """
        if not (math.isclose(offset_m, self.offset_m) and math.isclose(math.degrees(offset_rad), self.offset_deg)):
            offset_deg = math.degrees(offset_rad)
            raise DataError(
                f"{self.path} was exported for +-{self.offset_m:g} m and +-{self.offset_deg:g} degrees, and "
                f"+-{offset_m:g} m and +-{offset_deg:g} degrees are asked for: export with --offset-m {offset_m:g} "
                f"--offset-deg {offset_deg:g}"
            )
        xyz = np.ascontiguousarray(scan.xyz, dtype=np.float32)
        _, inside = self._bev_grid.flat_index(torch.from_numpy(xyz[:, 0]), torch.from_numpy(xyz[:, 1]))
        if not bool(inside.any()):
            raise DataError(f"none of the scan's {len(scan)} points lies within {self.config.bev.range_m} m")
        centre = on_lattice(prior, tile_lattice_m(self.config))
        tile = self._store.tile(centre)
        height_m = height_above_ground(scan.xyz)
        contrast = contrast_of_scan(scan, height_m, self._bev_grid, self.config.model.stride)
        values = (
            xyz,
            height_m,
            np.ascontiguousarray(scan.intensity, dtype=np.float32),
            tile.layers[None].astype(np.float32) / 127.0,
            np.array([prior.yaw_rad], np.float32),
            contrast[None].numpy(),
        )
        try:
            found = self._session.run(list(OUTPUTS), dict(zip(INPUTS, values, strict=True)))
        except Exception as error:  # its exceptions have no base of their own
            raise DataError(f"{self.path}: onnxruntime cannot run it: {str(error).splitlines()[0][:200]}") from error
        log_prob, log_odds = (torch.from_numpy(array) for array in found)
        return estimate_of(PoseBelief(log_prob, self.window), log_odds, centre)

    def prepare(self, places: Sequence[SE2], offset_m: float) -> None:
        """Nothing takes long here."""

    def map_search(self, area: SearchArea) -> None:
        """None: the file answers within one window, and what it says there does not compare with another."""
        return


def _about(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        about = parse_json(metadata[METADATA_KEY], METADATA_KEY)
        if about["format"] != FORMAT or not {"config", "offset_m", "offset_deg", "digest"} <= about.keys():
            raise KeyError(about["format"])
    except (KeyError, TypeError, AttributeError, DataError) as error:
        raise DataError(f"{path}: an ONNX file, but none that tools/export.py of this version wrote") from error
    return dict(about)
