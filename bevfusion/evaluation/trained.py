"""A trained run, scored on the drives of its configuration; what an ablation compares comes from here, too."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import nn

from bevfusion.build import build_model
from bevfusion.config import Config
from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.explain import attention_report
from bevfusion.evaluation.protocol import CLASSICAL_FRAMES, AuxiliaryChecks, Protocol
from bevfusion.evaluation.report import print_table
from bevfusion.evaluation.results import QUANTITIES, TrafficShift, all_estimates
from bevfusion.evaluation.run import evaluate, score_drives
from bevfusion.evaluation.scoring import one_locator_per_map
from bevfusion.evaluation.summary import summarise
from bevfusion.evaluation.traffic import COUNTS, summarise_shifts, vehicle_shifts
from bevfusion.localizer import CHECKPOINT_NAME, describe_checkpoint, open_localizer, open_locator
from bevfusion.maps.source import MapSource, first_covering
from bevfusion.nn import ResidualBlock
from bevfusion.parsing import read_json
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError
from bevfusion.training.ablation import Scoring
from bevfusion.training.drives import Drives, drives_for

SCANS = 20  # of each drive, for shifts under vehicles and shares of attention
THINNED = 0.5  # share of the trees, hedges, fences, poles and signs that is left beside the road


def as_trained(config: Config) -> Protocol:
    """How the test drives are asked for: each scan on its own, as far from the truth as in training."""
    return Protocol(
        offset_m=config.search.offset_m, offset_deg=config.search.offset_deg, seed=config.seed, map_error_m=0.0
    )


def evaluate_run(config: Config, folder: Path) -> None:
    """Score the weights of a run on maps that neither training nor validation has seen; the report goes beside them.

    Args:
        config: of the run.
        folder: holds the weights; receives `evaluation/`.
    """
    drives, checkpoint, output = drives_for(config, "test"), folder / CHECKPOINT_NAME, folder / "evaluation"
    report = evaluate(
        lambda source: open_locator(str(checkpoint), source),
        [drive for drive, _ in drives],
        [source for _, source in drives],
        as_trained(config),
        output,
        describe_checkpoint(str(checkpoint)),
        AuxiliaryChecks(classical=CLASSICAL_FRAMES),
        own_maps=True,
    )
    print_table(report)
    for what, where in (("weights", checkpoint), ("evaluation", output), ("logs", folder)):
        Console().print(f"{what:11}{where}", soft_wrap=True)


def on_maps(drives: Iterable[Drive], sources: Sequence[MapSource]) -> Drives:
    """Each drive with the first map that covers its first labelled frame.

    Raises:
        DataError: if a drive has no labels, or no map covers it.
    """
    pairs = []
    for drive in drives:
        place = next(
            (frame.truth for frame in drive if frame.truth is not None and frame.scan.labels is not None), None
        )
        if place is None:
            raise DataError(f"{drive.name}: no frame has both labels and a true pose")
        covering = first_covering(sources, place)
        if covering is None:
            raise DataError(f"{drive.name}: no map covers lat {place.lat_deg:.5f}, lon {place.lon_deg:.5f}")
        pairs.append((drive, sources[covering[0]]))
    return pairs


def measure(config: Config, folder: Path) -> dict[str, float]:
    """The numbers of a trained run: from its evaluation, and on the test drives with other traffic.

    Args:
        config: of the run.
        folder: holds the weights and `evaluation/metrics.json`.
    """
    metrics = read_json(folder / "evaluation" / "metrics.json")
    drives = drives_for(config, "test")
    values = _from_metrics(metrics) | _under_traffic(config, folder, drives) | _parameters(config)
    return values | {f"thinned_{key}": value for key, value in _thinned(config, folder).items()}


def measure_logs(config: Config, folder: Path, logs: Drives) -> dict[str, float]:
    """What traffic and attention do on recorded drives with labels; names of numbers start with `logged_`."""
    return {f"logged_{key}": value for key, value in _under_traffic(config, folder, logs).items()}


def _thinned(config: Config, folder: Path) -> dict[str, float]:
    """Recalls on the simulated test drives, with the same houses and traffic and half of the roadside taken away."""
    drives = drives_for(config, "test", roadside=THINNED)
    if not drives:
        return {}
    results = score_drives(
        lambda source: open_localizer(str(folder), source),
        {f"{drive.name}, half the roadside": drive for drive, _ in drives},
        [source for _, source in drives],
        as_trained(config),
        own_maps=True,
    )
    return _recalls(summarise(all_estimates(results)))


def _under_traffic(config: Config, folder: Path, drives: Drives) -> dict[str, float]:
    protocol = as_trained(config)
    shifts: list[TrafficShift] = []
    shares: list[dict[str, dict[str, dict[str, float]]]] = []
    locator_on = one_locator_per_map(partial(open_localizer, str(folder)))
    for drive, source in drives:
        with frame_progress(f"vehicles in {drive.name}", min(SCANS, len(drive))) as show:
            shifts += vehicle_shifts(locator_on, drive, [source], frames=SCANS, protocol=protocol, on_frame=show)
        with frame_progress(f"attention in {drive.name}", min(SCANS, len(drive))) as show:
            shares.append(
                attention_report(locator_on(source), drive, source, frames=SCANS, protocol=protocol, on_frame=show)
            )
    return _from_shifts(shifts) | _from_shares(shares)


def _from_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {"latency_ms": float(metrics["runtime_ms"]["p50"])} | _recalls(metrics)


def _recalls(metrics: Mapping[str, Any]) -> dict[str, float]:
    values = {}
    for quantity in QUANTITIES:
        section, unit = metrics[quantity.key], quantity.unit
        values[f"{quantity.name}_median_{unit}"] = section["median"]
        values |= {f"{quantity.name}_{limit}{unit}": recall for limit, recall in section["recall"].items()}
    return {key: math.nan if value is None else float(value) for key, value in values.items()}


def _from_shifts(shifts: Sequence[TrafficShift]) -> dict[str, float]:
    values = {}
    for done, summary in summarise_shifts(shifts).items():
        prefix = "shift" if done == "inserted" else f"shift_{done}"
        for quantity, unit in (("heading", "deg"), ("position", "m")):
            for statistic in ("median", "p95"):
                values[f"{prefix}_{quantity}_{statistic}_{unit}"] = summary[f"{quantity}_{unit}_{statistic}"]
    return values


def _from_shares(shares: Iterable[Mapping[str, Mapping[str, Mapping[str, float]]]]) -> dict[str, float]:
    """Means over the drives that have labels."""
    found: dict[str, list[float]] = {}
    for of_drive in shares:
        for slot, sets in of_drive.items():
            for name, numbers in sets.items():
                for key, value in numbers.items():
                    found.setdefault(f"{slot}_{name}_{key}", []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _parameters(config: Config) -> dict[str, float]:
    model = build_model(config)
    in_blocks = [module.attention for module in model.modules() if isinstance(module, ResidualBlock)]
    parts: dict[str, list[nn.Module]] = {
        "parameters": [model],
        "fusion_parameters": [model.fusion.attention, model.fusion.join],
        "refine_parameters": [model.fusion.refinement],
        "blocks_parameters": in_blocks,
    }
    return {
        key: float(sum(parameter.numel() for part in those for parameter in part.parameters()))
        for key, those in parts.items()
    }


ABLATION_SCORING = Scoring(
    evaluate=evaluate_run,
    measure=measure,
    measure_logs=measure_logs,
    about="Half the roadside away: of the trees, hedges, fences, poles and signs of the same drives each is gone with "
    "a chance of one half. Shifts: the estimate against that of the untouched scan after "
    f"{', '.join(map(str, COUNTS))} vehicles are inserted, up to {SCANS} scans a drive. Attention on a class is its "
    "share of mean |after| / mean |before| over the class's share of the occupied cells, saliency is the same of what "
    "every cell says in the matching; 1 is no preference.",
)
