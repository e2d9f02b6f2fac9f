"""How far simulated scans are from real ones, as numbers.

What counts is what the network sees: the planes of the BEV raster. For every plane and ring of range, the mean over
scans is compared drive by drive; the distance is the difference of the means in units of how much real drives differ
among themselves (Cohen's d with the spread of the real ones). And classifiers are asked "real or simulated?" of crops
of the raster, on drives that they were not trained on: 50 % is as good as the world, 100 % is told at a glance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.datasets.drive import Drive
from bevfusion.drawing import ESTIMATE, TRUTH, new_figure, save_figure
from bevfusion.geometry.grid import Grid
from bevfusion.lidar.rasterize import GROUND_M, bev_channels, rasterize_scan
from bevfusion.structures import DataError

RINGS_M = (2.5, 8.0, 16.0, 24.0, 32.0, 48.0)
_LEAST_SPREAD = (0.05, 0.0005)  # share of the mean, and least: drives that hardly differ make no difference large
_CROP = 48  # cells
_CROPS = 8  # a scan
_FOLDS = 4
_STEPS = 250
_VALUED = ("density", "max_height", "intensity")  # planes whose value counts where there is a point


@dataclass(frozen=True, slots=True)
class Row:
    """A quantity within a ring of range, in real and in simulated drives."""

    quantity: str
    near_m: float
    far_m: float
    real: float
    real_spread: float  # standard deviation over drives
    simulated: float
    simulated_spread: float
    distance: float


@dataclass(frozen=True, slots=True)
class Gap:
    """The answer: rows, the mean distance of each quantity, and how well classifiers tell real from simulated."""

    real: tuple[str, ...]  # drives and their scans
    simulated: tuple[str, ...]
    rows: tuple[Row, ...]
    told_by_network: float  # balanced accuracy of a small network on crops of unseen drives
    told_by_plane: dict[str, float]  # of logistic regression on a plane's mean, spread and grain

    def distances(self) -> dict[str, float]:
        """Root mean square distance of each quantity over the rings, the largest first."""
        names = dict.fromkeys(row.quantity for row in self.rows)
        squares = {
            name: [row.distance**2 for row in self.rows if row.quantity == name and math.isfinite(row.distance)]
            for name in names
        }
        means = {name: math.sqrt(sum(values) / len(values)) if values else math.nan for name, values in squares.items()}
        return dict(sorted(means.items(), key=lambda item: -item[1] if math.isfinite(item[1]) else math.inf))


@dataclass(frozen=True, slots=True)
class _Drive:
    name: str
    figures: Float[np.ndarray, "q rings"]
    rasters: Float[Tensor, "n c h w"]


def measure_gap(
    real: Sequence[Drive], simulated: Sequence[Drive], slices_m: Sequence[float], *, frames: int = 20, seed: int = 0
) -> Gap:
    """Compare real with simulated drives.

    Args:
        real: recorded drives.
        simulated: simulated ones.
        slices_m: borders of the raster's height slices.
        frames: at most so many scans a drive, evenly spread.
        seed: of crops and classifiers.

    Raises:
        DataError: if there are fewer than two drives of a kind: spread and cross-validation need them.
    """
    if min(len(real), len(simulated)) < 2:
        raise DataError(f"a gap needs at least two real and two simulated drives, got {len(real)} and {len(simulated)}")
    grid = Grid.square(RINGS_M[-1], 0.5)
    seen = [[_looked_at(drive, grid, slices_m, frames) for drive in drives] for drives in (real, simulated)]
    rows = tuple(_rows(_quantities(slices_m), seen[0], seen[1]))
    crops = _crops(seen, np.random.default_rng(seed))
    names = [tuple(f"{drive.name} ({len(drive.rasters)})" for drive in drives) for drives in seen]
    planes = {
        name: _told(_grain(crops[0][:, i : i + 1]), crops[1], crops[2], _logistic, seed)
        for i, name in enumerate(bev_channels(slices_m))
    }
    network = _told(crops[0], crops[1], crops[2], _network, seed)
    return Gap(names[0], names[1], rows, network, planes)


def _quantities(slices_m: Sequence[float]) -> list[str]:
    binary = [name for name in bev_channels(slices_m) if name not in (*_VALUED, "ground_intensity")]
    return [*binary, "has points", *_VALUED, "ground contrast", "strength zero", "lowest 5 % of heights"]


def _looked_at(drive: Drive, grid: Grid, slices_m: Sequence[float], frames: int) -> _Drive:
    """Rasters of some scans, and the means over these of every quantity in every ring."""
    if len(drive) == 0:
        raise DataError(f"{drive.name} has no scan")
    positions = np.unique(np.linspace(0, len(drive) - 1, min(frames, len(drive))).round().astype(int))
    rasters, figures = [], []
    for position in positions:
        scan = drive[int(position)].scan
        raster = rasterize_scan(scan, grid, slices_m)
        rasters.append(raster)
        figures.append(_figures(raster.numpy(), grid, slices_m))
    values = np.stack(figures)
    known = np.isfinite(values)
    mean = np.where(
        known.any(axis=0), np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )
    return _Drive(drive.name, mean, torch.stack(rasters))


def _figures(raster: Float[np.ndarray, "c h w"], grid: Grid, slices_m: Sequence[float]) -> Float[np.ndarray, "q rings"]:
    """Every quantity of `_quantities` in every ring; NaN where no cell tells."""
    plane = dict(zip(bev_channels(slices_m), raster, strict=True))
    half = 0.5 * grid.width * grid.cell_m
    ticks = (np.arange(grid.width) + 0.5) * grid.cell_m - half
    range_m = np.hypot(*np.meshgrid(ticks, ticks))
    points = plane["density"] > 0
    standing = np.max([values for name, values in plane.items() if name.startswith("occupied")], axis=0) > 0
    asphalt = (plane["ground"] > 0) & ~standing & (plane["intensity"] > 0)
    out = []
    for near, far in pairwise(RINGS_M):
        ring = (range_m >= near) & (range_m < far)
        binary = [
            float(values[ring].mean()) for name, values in plane.items() if name not in (*_VALUED, "ground_intensity")
        ]
        told, on_ground = ring & points, ring & asphalt
        valued = [float(plane[name][told].mean()) if told.any() else math.nan for name in _VALUED]
        ground = plane["intensity"][on_ground]
        heights = plane["max_height"][ring & standing]
        out.append(
            [
                *binary,
                float(points[ring].mean()),
                *valued,
                float(ground.std() / max(ground.mean(), 1e-6)) if len(ground) > 20 else math.nan,
                float((plane["intensity"][told] == 0).mean()) if told.any() else math.nan,
                float(np.quantile(heights, 0.05)) if len(heights) > 20 else math.nan,
            ]
        )
    return np.array(out).T


def _rows(names: Sequence[str], real: Sequence[_Drive], simulated: Sequence[_Drive]) -> list[Row]:
    rows = []
    values = [np.stack([drive.figures for drive in drives]) for drives in (real, simulated)]
    for q, name in enumerate(names):
        for ring, (near, far) in enumerate(pairwise(RINGS_M)):
            a, b = (column[:, q, ring][np.isfinite(column[:, q, ring])] for column in values)
            if len(a) < 2 or len(b) < 2:
                rows.append(Row(name, near, far, *([math.nan] * 5)))
                continue
            spread = float(a.std(ddof=1))
            unit = max(spread, _LEAST_SPREAD[0] * abs(float(a.mean())), _LEAST_SPREAD[1])
            distance = abs(float(a.mean() - b.mean())) / unit
            rows.append(Row(name, near, far, float(a.mean()), spread, float(b.mean()), float(b.std(ddof=1)), distance))
    return rows


def _crops(
    seen: Sequence[Sequence[_Drive]], rng: np.random.Generator
) -> tuple[Float[Tensor, "n c s s"], Float[Tensor, " n"], np.ndarray]:
    """(crops turned and mirrored at random, 1 for simulated ones, fold of each); a drive lies within one fold."""
    crops, labels, folds = [], [], []
    for label, drives in enumerate(seen):
        for number, drive in enumerate(drives):
            for raster in drive.rasters:
                for _ in range(_CROPS):
                    row, column = rng.integers(0, raster.shape[1] - _CROP + 1, 2)
                    crop = raster[:, row : row + _CROP, column : column + _CROP].rot90(int(rng.integers(4)), (1, 2))
                    crops.append(crop.flip(2) if rng.random() < 0.5 else crop)
                    labels.append(float(label))
                    folds.append(number % _FOLDS)
    return torch.stack(crops), torch.tensor(labels), np.array(folds)


def _grain(crops: Float[Tensor, "n 1 s s"]) -> Float[Tensor, "n f"]:
    """Mean, spread, and likeness of neighbours of a plane, near and a little farther."""
    values = crops[:, 0]
    centred = values - values.mean((1, 2), keepdim=True)
    spread = centred.square().mean((1, 2)).sqrt()
    likeness = [
        0.5
        * ((centred[:, k:] * centred[:, :-k]).mean((1, 2)) + (centred[:, :, k:] * centred[:, :, :-k]).mean((1, 2)))
        / spread.square().clamp(min=1e-6)
        for k in (1, 2, 5)
    ]
    return torch.stack([values.mean((1, 2)), spread, *likeness], dim=1)


def _told(inputs: Tensor, labels: Float[Tensor, " n"], folds: np.ndarray, fitted: Any, seed: int) -> float:
    """Balanced accuracy over all folds, each told by what was fitted to the others."""
    answers = torch.zeros(len(labels))
    for fold in np.unique(folds):
        test = torch.from_numpy(folds == fold)
        torch.manual_seed(seed)
        answers[test] = fitted(inputs[~test], labels[~test], inputs[test])
    right = ((answers > 0) == (labels > 0.5)).float()
    return float(0.5 * (right[labels > 0.5].mean() + right[labels < 0.5].mean()))


def _weight(labels: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Both kinds count alike."""
    share = labels.mean().clamp(0.01, 0.99)
    return torch.where(labels > 0.5, 0.5 / share, 0.5 / (1.0 - share))


def _logistic(inputs: Float[Tensor, "n f"], labels: Float[Tensor, " n"], asked: Float[Tensor, "m f"]) -> Tensor:
    """Logistic regression with a little ridge, squares of the features included."""
    mean, spread = inputs.mean(0), inputs.std(0).clamp(min=1e-6)

    def lifted(values: Tensor) -> Tensor:
        scaled = ((values - mean) / spread).clamp(-5.0, 5.0)
        return torch.cat([scaled, scaled.square(), torch.ones(len(values), 1)], dim=1)

    design, weight = lifted(inputs), torch.zeros(2 * inputs.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(design @ weight, labels, _weight(labels))
        value = value + 1e-3 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return (lifted(asked) @ weight).detach()


def _network(inputs: Float[Tensor, "n c s s"], labels: Float[Tensor, " n"], asked: Float[Tensor, "m c s s"]) -> Tensor:
    """Three convolutions and a mean over the crop."""
    channels = inputs.shape[1]
    layers: list[nn.Module] = []
    for before, behind in ((channels, 16), (16, 24), (24, 32)):
        layers += [nn.Conv2d(before, behind, 3, stride=2, padding=1), nn.BatchNorm2d(behind), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    weight = _weight(labels)
    for _ in range(_STEPS):
        rows = torch.randint(len(labels), (48,))
        answer = network(inputs[rows])[:, 0]
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(answer, labels[rows], weight[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()
    with torch.no_grad():
        answers: Tensor = torch.cat([network(part)[:, 0] for part in torch.split(asked, 256)])
    return answers


def gap_lines(gap: Gap) -> list[str]:
    """The answer as text: a line a quantity and ring, then the means and the classifiers."""
    lines = [f"real: {', '.join(gap.real)}", f"simulated: {', '.join(gap.simulated)}", ""]
    lines.append(f"{'quantity':24}{'range m':>10}{'real':>18}{'simulated':>18}{'distance':>10}")
    for row in gap.rows:
        lines.append(
            f"{row.quantity:24}{f'{row.near_m:g}-{row.far_m:g}':>10}"
            f"{f'{row.real:.3f} +- {row.real_spread:.3f}':>18}"
            f"{f'{row.simulated:.3f} +- {row.simulated_spread:.3f}':>18}{row.distance:10.1f}"
        )
    lines += ["", "distance, over all rings:"]
    lines += [f"  {name:24}{value:6.2f}" for name, value in gap.distances().items()]
    lines += ["", "told from a plane's mean, spread and grain (balanced accuracy, unseen drives):"]
    lines += [f"  {name:24}{value:6.2f}" for name, value in sorted(gap.told_by_plane.items(), key=lambda i: -i[1])]
    lines.append(f"told by a small network from all planes: {gap.told_by_network:.2f} (0.50: cannot tell)")
    return lines


def gap_json(gap: Gap) -> Mapping[str, Any]:
    """The answer for a JSON file."""
    return {**asdict(gap), "distances": gap.distances(), "ground_m": GROUND_M}


def draw_gap(gap: Gap, path: Path) -> None:
    """One panel a quantity: mean and spread over range, real blue, simulated red."""
    names = list(dict.fromkeys(row.quantity for row in gap.rows))
    columns = 4
    figure, axes = new_figure(
        16.0, 2.6 * math.ceil((len(names)) / columns), rows=-(-len(names) // columns), columns=columns
    )
    for axis, name in zip(axes, names, strict=False):
        rows = [row for row in gap.rows if row.quantity == name]
        middle = [0.5 * (row.near_m + row.far_m) for row in rows]
        for kind, colour in (("real", TRUTH), ("simulated", ESTIMATE)):
            value = np.array([getattr(row, kind) for row in rows])
            spread = np.array([getattr(row, f"{kind}_spread") for row in rows])
            axis.plot(middle, value, color=colour, marker="o", label=kind)
            axis.fill_between(middle, value - spread, value + spread, color=colour, alpha=0.15)
        told = gap.told_by_plane.get(name)
        axis.set_title(name + ("" if told is None else f" (told: {told:.2f})"), fontsize=10)
        axis.set_xlabel("range (m)", fontsize=8)
    for axis in axes[len(names) :]:
        axis.axis("off")
    axes[0].legend()
    figure.suptitle(f"Small network tells real from simulated: {gap.told_by_network:.2f}")
    save_figure(figure, path)
