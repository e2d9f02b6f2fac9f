"""Every mechanism in every slot of one pipeline, under one budget: train, evaluate, compare."""

import difflib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bevfusion.attention import ATTENTION
from bevfusion.build import build_model
from bevfusion.config import AttentionConfig, Config, ConfigError, load_config
from bevfusion.evaluation.comparison import Row, Values, compared, write_comparison
from bevfusion.evaluation.explain import report
from bevfusion.evaluation.run import Protocol
from bevfusion.evaluation.summary import hardware
from bevfusion.evaluation.traffic import COUNTS, Shift, summarise_shifts, vehicle_shifts
from bevfusion.fusion.fuse import JOINS
from bevfusion.localizer import open_localizer
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError
from bevfusion.training.run import prepared_drives, train

log = logging.getLogger(__name__)

SLOTS: dict[str, tuple[str, ...]] = {"fusion": (*ATTENTION, *JOINS), "refine": tuple(ATTENTION)}
SCANS = 20  # of each test drive, for shifts under vehicles and shares of attention
RESULT = "result.json"  # what makes a run's folder a finished one


@dataclass(frozen=True, slots=True)
class Run:
    """One training."""

    fusion: str
    refine: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.fusion}+{self.refine}-seed{self.seed}"


Plan = dict[tuple[str, str], list[Run]]  # (slot, mechanism) -> its runs; slots share the run of the configuration


def ablate(config: Config, attention: str, slots: Sequence[str], seeds: Sequence[int], output: Path) -> dict[str, str]:
    """Train what is not trained yet and write the tables anew after each run.

    Args:
        config: the pipeline, and the mechanism of the slot that is not varied.
        attention: "all", or names with commas.
        slots: of `SLOTS`.
        seeds: each is the seed of weights, of drives and of samples.
        output: folder; finished runs in it are not repeated, unfinished ones are done again.

    Returns:
        What failed, and why; mechanisms that a slot refuses are in the table's notes alone.

    Raises:
        ConfigError: if a name does not exist, or no mechanism can be built.
        DataError: if a run in the folder is of another configuration.
    """
    plan, refused = _possible(config, plan_runs(config, attention, slots, seeds))
    runs = list(dict.fromkeys(run for seed in seeds for of in plan.values() for run in of if run.seed == seed))
    results = {run: found for run in runs if (found := _finished(config, run, output)) is not None}
    output.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    missing = [run for run in runs if run not in results]
    log.info("%d runs, %d of them finished before", len(runs), len(results))
    began = time.monotonic()
    for done, run in enumerate(missing):
        log.info("run %d of %d: %s%s", done + 1, len(missing), run.name, _time_left(began, done, len(missing)))
        try:
            results[run] = _run(config, run, output)
        except (RuntimeError, ValueError, MemoryError) as error:
            # what a mechanism can do wrong: not build, diverge, not fit into memory
            failed[run.name] = " ".join(str(error).split()) or type(error).__name__
            log.error("%s failed: %s", run.name, failed[run.name])
        write_comparison(output, _rows(plan, results), refused | failed, _about(config, seeds))
    if not missing:
        write_comparison(output, _rows(plan, results), refused, _about(config, seeds))
    return failed


def plan_runs(config: Config, attention: str, slots: Sequence[str], seeds: Sequence[int]) -> Plan:
    """Who is to be trained; a name counts in the slots that have it.

    Raises:
        ConfigError: if a slot does not exist, none of them has a name, or seeds are missing or negative.
    """
    _check_known("slot", slots, tuple(SLOTS))
    if not seeds or min(seeds) < 0:
        raise ConfigError(f"--seeds are whole numbers from 0 on, as in 0,1,2; got {list(seeds)}")
    known = tuple(dict.fromkeys(name for slot in slots for name in SLOTS[slot]))
    names = known if attention == "all" else tuple(word.strip() for word in attention.split(","))
    _check_known("mechanism", names, known)
    model = config.model
    plan: Plan = {}
    for slot in slots:
        for name in (name for name in names if name in SLOTS[slot]):
            fusion = name if slot == "fusion" else model.fusion.attention
            refine = name if slot == "refine" else model.refine.attention
            plan[slot, name] = [Run(fusion, refine, seed) for seed in seeds]
    return plan


def variant(config: Config, run: Run) -> Config:
    """The configuration of a run: options stay with the mechanism that they were written for."""
    model = config.model
    slots = {
        "fusion": model.fusion if run.fusion == model.fusion.attention else AttentionConfig(attention=run.fusion),
        "refine": model.refine if run.refine == model.refine.attention else AttentionConfig(attention=run.refine),
    }
    name = f"{config.name}-{run.fusion}-{run.refine}"
    return config.model_copy(update={"name": name, "seed": run.seed, "model": model.model_copy(update=slots)})


def measure(config: Config, folder: Path) -> dict[str, float]:
    """The numbers of a trained run: from its evaluation, and on the test drives with other traffic.

    Args:
        config: of the run.
        folder: holds the weights and `evaluation/metrics.json`.
    """
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    simulation, search = config.simulation, config.search
    protocol = Protocol(offset_m=search.offset_m, offset_deg=search.offset_deg, seed=config.seed)
    shifts: list[Shift] = []
    shares: list[dict[str, dict[str, dict[str, float]]]] = []
    drives = prepared_drives(simulation, simulation.test, frames=simulation.eval_frames, seed=config.seed)
    for drive, source in drives:
        locator = open_localizer(str(folder), source)
        with frame_progress(f"vehicles in {drive.name}", min(SCANS, len(drive))) as show:
            shifts += vehicle_shifts(locator, drive, source, frames=SCANS, protocol=protocol, on_frame=show)
        with frame_progress(f"attention in {drive.name}", min(SCANS, len(drive))) as show:
            shares.append(report(locator, drive, source, frames=SCANS, protocol=protocol, on_frame=show))
    return _from_metrics(metrics) | _from_shifts(shifts) | _from_shares(shares) | _parameters(config)


def _run(config: Config, run: Run, output: Path) -> Values:
    own, folder = variant(config, run), output / "runs" / run.name
    if not (folder / "evaluation" / "metrics.json").is_file():
        if (folder / "config.yaml").is_file():
            shutil.rmtree(folder)  # broken off in training
        train(own, folder)
    values = {key: value for key, value in measure(own, folder).items() if math.isfinite(value)}
    unfinished = folder / f"{RESULT}.unfinished"
    unfinished.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / RESULT)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # optimizer states: fifty runs would fill a disk
    return values


def _finished(config: Config, run: Run, output: Path) -> Values | None:
    """The numbers of a run that is done; None if it is not."""
    folder = output / "runs" / run.name
    written = folder / "config.yaml"
    if not written.is_file():
        return None
    if load_config(written) != variant(config, run):
        raise DataError(f"{folder}: a run of another configuration; name another --output, or remove it")
    if not (folder / RESULT).is_file():
        return None
    values: dict[str, float] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return values


def _possible(config: Config, plan: Plan) -> tuple[Plan, dict[str, str]]:
    """The part of a plan whose networks can be built, and why the rest cannot.

    Raises:
        ConfigError: the first reason, if nothing is left.
    """
    possible, refused = {}, {}
    for (slot, name), runs in plan.items():
        try:
            build_model(variant(config, runs[0]))
        except ConfigError as error:
            refused[f"`{name}` in the {slot} slot"] = str(error)
            log.warning("left out: %s", error)
        else:
            possible[slot, name] = runs
    if not possible:
        raise ConfigError(next(iter(refused.values())))
    return possible, refused


def _rows(plan: Plan, results: Mapping[Run, Values]) -> list[Row]:
    rows = []
    for (slot, name), runs in plan.items():
        found = [results[run] for run in runs if run in results]
        if found:
            rows.append(compared(slot, name, found))
    return rows


def _from_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    values = {"latency_ms": metrics["runtime_ms"]["p50"]}
    for quantity, unit in (("position", "m"), ("lateral", "m"), ("longitudinal", "m"), ("heading", "deg")):
        section = metrics[f"{quantity}_{unit}"]
        values[f"{quantity}_median_{unit}"] = section["median"]
        values |= {f"{quantity}_{limit}{unit}": recall for limit, recall in section["recall"].items()}
    return {key: math.nan if value is None else float(value) for key, value in values.items()}


def _from_shifts(shifts: Sequence[Shift]) -> dict[str, float]:
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
    parts = {"parameters": model, "fusion_parameters": model.fusion, "refine_parameters": model.refinement}
    return {key: float(sum(parameter.numel() for parameter in part.parameters())) for key, part in parts.items()}


def _check_known(what: str, words: Sequence[str], known: Sequence[str]) -> None:
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"no {what} {word!r} here; {hint}")


def _time_left(began: float, done: int, count: int) -> str:
    if not done:
        return ""
    minutes = (time.monotonic() - began) / 60.0
    return f" ({minutes / done:.1f} min a run, about {minutes / done * (count - done):.0f} min left)"


def _about(config: Config, seeds: Sequence[int]) -> str:
    """What a reader of the table must know."""
    training, simulation, model = config.train, config.simulation, config.model
    machine = hardware()
    return (
        "## Attention mechanisms compared\n\n"
        f"Every run: {training.steps} steps of {training.batch_size} scans, trained on {', '.join(simulation.train)} "
        f"({simulation.frames} frames each), tested on {', '.join(simulation.test)} ({simulation.eval_frames} frames "
        f"each), prior within {config.search.offset_m:g} m and {config.search.offset_deg:g} degrees; seeds "
        f"{', '.join(map(str, seeds))} (weights, drives and samples). The slot that is not varied holds: fusion "
        f"`{model.fusion.attention}`, refinement `{model.refine.attention}`. "
        f"Machine: {machine['gpu'] or machine['cpu']}.\n\n"
        "± is the standard deviation over seeds. Shifts: the estimate against that of the untouched scan after "
        f"{', '.join(map(str, COUNTS))} vehicles are inserted, up to {SCANS} scans a drive. Attention on a class is "
        "its share of mean |after| / mean |before| over the class's share of the occupied cells, votes are the same of "
        "what every cell says in the matching; 1 is no preference."
    )
