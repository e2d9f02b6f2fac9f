"""Where attention goes: shares of roadside structure and of vehicles, and pictures for one scan."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from bevfusion.datasets.augment import VEHICLE_CLASSES
from bevfusion.datasets.drive import BadFrames, Drive
from bevfusion.evaluation.plots import draw_attention, draw_belief, draw_layers
from bevfusion.evaluation.protocol import Protocol, displaced, evenly_spaced
from bevfusion.files import write_text
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import SLOTS, Introspection, introspect, layer_weights
from bevfusion.localizer import NetworkLocator
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError, Scan

# Classes of SemanticKITTI: building, fence, other structure, vegetation, trunk, pole, traffic sign.
ROADSIDE_CLASSES = (50, 51, 52, 70, 71, 80, 81)
CLASS_SETS = {"roadside": ROADSIDE_CLASSES, "vehicles": VEHICLE_CLASSES}


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the attention a class of cells gets, and how many of the cells it has; both 0 to 1."""

    attention: float
    cells: float


def class_cells(scan: Scan, grid: Grid) -> tuple[Bool[np.ndarray, "h w"], dict[str, Bool[np.ndarray, "h w"]]]:
    """Cells that hold labelled points, and those of them that each of `CLASS_SETS` has.

    The ground does not vote: a cell with a pole and the pavement round it is roadside. Where sets meet in a cell it is
    that with more points; vehicles give way.

    Raises:
        ValueError: if the scan has no labels.
    """
    if scan.labels is None:
        raise ValueError("expected a scan with labels, got one without")
    classes = scan.labels & 0xFFFF
    xy_m = torch.from_numpy(scan.xyz[:, :2].astype(np.float32))
    index, inside = (found.numpy() for found in grid.flat_index(xy_m[:, 0], xy_m[:, 1]))

    def count(wanted: Bool[np.ndarray, " n"]) -> np.ndarray:
        cells = np.bincount(index[inside & wanted], minlength=grid.height * grid.width)
        return cells.reshape(grid.height, grid.width)

    roadside, vehicles = (count(np.isin(classes, CLASS_SETS[name])) for name in ("roadside", "vehicles"))
    occupied = count(classes != 0) > 0
    return occupied, {"roadside": (roadside > 0) & (roadside >= vehicles), "vehicles": vehicles > roadside}


def attention_shares(
    weight: Float[np.ndarray, "h w"],
    occupied: Bool[np.ndarray, "h w"],
    cells: Mapping[str, Bool[np.ndarray, "h w"]],
) -> dict[str, Share]:
    """Share of the attention on each set of cells against its share of the occupied cells.

    Args:
        weight: attention of each cell, not negative.
        occupied: the cells that count.
        cells: sets among them, by name.
    """
    total = float(weight[occupied].sum())
    count = int(occupied.sum())
    return {
        name: Share(
            float(weight[chosen & occupied].sum()) / total if total > 0 else 0.0,
            int((chosen & occupied).sum()) / count if count else 0.0,
        )
        for name, chosen in cells.items()
    }


def attention_report(
    locator: NetworkLocator,
    drive: Drive,
    source: MapSource,
    *,
    frames: int | None = None,
    protocol: Protocol | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Where a network's attention goes in a drive with labels: by slot and class set, mean shares over the scans.

    Args:
        locator: the network, on `source`.
        drive: frames without labels, without truth or off the map are left out.
        source: the map.
        frames: so many, evenly spaced over the drive; all by default.
        protocol: how far the prior is off, and the seed.
        on_frame: called with (frames done, frames in all).

    Returns:
        slot -> class set -> `attention_percent`, `cells_percent` and `lift`, their ratio (1: no preference); empty if
        no frame could be used.

    Raises:
        DataError: if more than one frame in ten cannot be read.
    """
    asked = protocol or Protocol()
    found: list[dict[str, dict[str, Share]]] = []
    frame_indices = evenly_spaced(len(drive), frames)
    bad_frames = BadFrames(drive)
    for done, frame_index in enumerate(frame_indices, start=1):
        try:
            frame = drive[frame_index]
        except DataError as error:
            bad_frames.skip(frame_index, error)
            continue
        truth = None if frame.truth is None else source.frame.map_from_ego(frame.truth)
        if truth is not None and frame.scan.labels is not None and source.covers(truth.x_m, truth.y_m):
            prior = displaced(truth, asked, drive.name, frame.index, 0)
            introspection = introspect(locator, frame.scan, prior, asked.offset_m, math.radians(asked.offset_deg))
            found.append(introspection_shares(introspection))
        if on_frame is not None:
            on_frame(done, len(frame_indices))
    bad_frames.tell()
    return {slot: _mean_shares([shares[slot] for shares in found]) for slot in SLOTS} if found else {}


def introspection_shares(introspection: Introspection) -> dict[str, dict[str, Share]]:
    """`attention_shares` of every slot of a labelled scan."""
    occupied, cells = class_cells(introspection.scan, introspection.grid)
    return {slot: attention_shares(weight, occupied, cells) for slot, weight in introspection.attention.items()}


def files_of(folder: Path, name: str) -> list[Path]:
    """What `explain` writes: attention over the map, map layers, belief, and numbers."""
    parts = ("spatial.png", "layers.png", "belief.png", "explain.json")
    return [folder / f"{name}_{part}" for part in parts]


def explain(
    locator: NetworkLocator, scan: Scan, prior: SE2, offset_m: float, offset_rad: float, folder: Path, name: str
) -> None:
    """Write NAME_spatial.png, NAME_layers.png, NAME_belief.png and NAME_explain.json for one scan.

    Args:
        locator: the network on its map.
        scan: with labels, the JSON also tells the shares.
        prior: where to introspect, with `offset_m` and `offset_rad` as of `NetworkLocator.locate`.
        offset_m: see there.
        offset_rad: see there.
        folder: made if it is missing; files of that name are replaced.
        name: what the files begin with.
    """
    introspection = introspect(locator, scan, prior, offset_m, offset_rad)
    layers = layer_weights(locator.model, introspection)
    attention, by_layer, belief, numbers = files_of(folder, name)
    draw_attention(introspection, locator.source, attention)
    draw_layers(introspection, layers, by_layer)
    draw_belief(introspection, locator.source, belief)
    model = locator.config.model
    values: dict[str, Any] = {
        "fusion": model.fusion.attention,
        "refine": model.refine.attention,
        "layers": {layer: asdict(weight) for layer, weight in layers.items()},
        "channels": {"lidar": introspection.lidar_gate.tolist(), "map": introspection.map_gate.tolist()},
    }
    if scan.labels is not None:
        values["shares"] = {
            slot: {name: asdict(share) for name, share in shares.items()}
            for slot, shares in introspection_shares(introspection).items()
        }
    write_text(numbers, json.dumps(values, indent=2) + "\n")


def _mean_shares(found: Sequence[Mapping[str, Share]]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for name in CLASS_SETS:
        attention = float(np.mean([shares[name].attention for shares in found]))
        cells = float(np.mean([shares[name].cells for shares in found]))
        means[name] = {
            "attention_percent": 100.0 * attention,
            "cells_percent": 100.0 * cells,
            "lift": attention / cells if cells > 0 else float("nan"),
        }
    return means
