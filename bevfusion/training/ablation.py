"""Every mechanism in every slot of one pipeline, under one budget: train, evaluate, compare."""

import difflib
import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bevfusion.attention import SLOT_CHOICES
from bevfusion.build import build_model
from bevfusion.config import AttentionConfig, Config, ConfigError, load_config
from bevfusion.files import write_text
from bevfusion.fusion.fuse import JOINS
from bevfusion.machine import hardware
from bevfusion.parsing import read_json
from bevfusion.structures import DataError
from bevfusion.training.ablation_table import AblationRow, Values, row_of, write_tables
from bevfusion.training.drives import Drives, describe_drives
from bevfusion.training.run import CHECKPOINTS, train

log = logging.getLogger(__name__)

SLOTS: dict[str, tuple[str, ...]] = {
    "fusion": (*SLOT_CHOICES, *JOINS),
    "refine": tuple(SLOT_CHOICES),
    "blocks": tuple(SLOT_CHOICES),
}
OWN = "own"  # stands for the mechanism that the configuration has in a slot
RESULT = "result.json"  # what makes a run's folder a finished one


@dataclass(frozen=True, slots=True)
class AblationRun:
    """One training: a mechanism in each slot, and a seed."""

    fusion: str
    refine: str
    seed: int
    blocks: str = "none"

    @property
    def name(self) -> str:
        """Of its folder, and of the run in messages."""
        blocks = "" if self.blocks == "none" else f"+{self.blocks}"
        return f"{self.fusion}+{self.refine}{blocks}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Scoring:
    """How trained runs are scored, which training itself knows nothing of (`evaluation.trained.ABLATION_SCORING`)."""

    evaluate: Callable[[Config, Path], None]  # writes evaluation/metrics.json into a run's folder
    measure: Callable[[Config, Path], Values]  # the numbers of an evaluated run
    measure_logs: Callable[[Config, Path, Drives], Values]  # the same on recorded drives
    about: str  # what a reader must know of these numbers, Markdown


Plan = dict[
    tuple[str, str], list[AblationRun]
]  # (slot, mechanism) -> its runs; slots share the run of the configuration


def ablate(
    config: Config,
    attention: str,
    slots: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    scoring: Scoring,
    logs: Drives = (),
) -> dict[str, str]:
    """Train what is not trained yet and write the tables anew after each run.

    Args:
        config: the pipeline, and the mechanism of the slot that is not varied.
        attention: "all", or names with commas; "own" is what the configuration has in a slot.
        slots: of `SLOTS`.
        seeds: each is the seed of weights, of drives and of samples.
        output: folder; finished runs in it are not repeated, unfinished ones are done again.
        scoring: what is measured of a run.
        logs: recorded drives with labels, and their maps; what traffic and attention do is measured there, too.

    Returns:
        What failed, and why; mechanisms that a slot refuses are in the table's notes alone.

    Raises:
        ConfigError: if a name does not exist, or no mechanism can be built.
        DataError: if a run in the folder is of another configuration.
    """
    plan, refused = _possible(config, plan_runs(config, attention, slots, seeds))
    runs = list(dict.fromkeys(run for seed in seeds for of in plan.values() for run in of if run.seed == seed))
    results = {run: found for run in runs if (found := _finished(config, run, output, logs)) is not None}
    output.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    missing = [run for run in runs if run not in results]
    log.info("%d runs, %d of them finished before", len(runs), len(results))
    began = time.monotonic()
    for done, run in enumerate(missing):
        log.info("run %d of %d: %s%s", done + 1, len(missing), run.name, _time_left(began, done, len(missing)))
        try:
            results[run] = _run(config, run, output, scoring, logs)
        except (RuntimeError, ValueError, MemoryError) as error:
            # what a mechanism can do wrong: not build, diverge, not fit into memory
            failed[run.name] = " ".join(str(error).split()) or type(error).__name__
            log.error("%s failed: %s", run.name, failed[run.name])
        write_tables(output, _rows(plan, results), refused | failed, _about(config, seeds, scoring.about, logs))
    if not missing:
        write_tables(output, _rows(plan, results), refused, _about(config, seeds, scoring.about, logs))
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
    _check_known("mechanism", names, (*known, OWN))
    own = {slot: getattr(config.model, slot).attention for slot in SLOTS}
    plan: Plan = {}
    for slot in slots:
        chosen = [own[slot] if name == OWN else name for name in names]
        for name in (name for name in chosen if name in SLOTS[slot]):
            held = own | {slot: name}
            plan[slot, name] = [AblationRun(held["fusion"], held["refine"], seed, held["blocks"]) for seed in seeds]
    return plan


def variant(config: Config, run: AblationRun) -> Config:
    """The configuration of a run: options stay with the mechanism that they were written for."""
    model = config.model
    own: dict[str, AttentionConfig] = {slot: getattr(model, slot) for slot in SLOTS}
    asked = {"fusion": run.fusion, "refine": run.refine, "blocks": run.blocks}
    slots = {
        slot: own[slot] if name == own[slot].attention else AttentionConfig(attention=name)
        for slot, name in asked.items()
    }
    name = f"{config.name}-{run.fusion}-{run.refine}" + ("" if run.blocks == "none" else f"-{run.blocks}")
    return config.model_copy(update={"name": name, "seed": run.seed, "model": model.model_copy(update=slots)})


def _run(config: Config, run: AblationRun, output: Path, scoring: Scoring, logs: Drives) -> Values:
    """Train and measure, as far as neither is done."""
    own, folder = variant(config, run), output / "runs" / run.name
    if not (folder / "evaluation" / "metrics.json").is_file():
        if (folder / "config.yaml").is_file():
            shutil.rmtree(folder)  # broken off in training
        train(own, folder, evaluate=scoring.evaluate)
    values = _read(folder / RESULT)
    if values is None:
        values = _written(folder / RESULT, scoring.measure(own, folder))
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # optimizer states: fifty runs would fill a disk
    if logs:
        of_logs = _read(folder / _logged(logs))
        values = {**values, **(of_logs or _written(folder / _logged(logs), scoring.measure_logs(own, folder, logs)))}
    return values


def _finished(config: Config, run: AblationRun, output: Path, logs: Drives) -> Values | None:
    """The numbers of a run that is done; None if it is not."""
    folder = output / "runs" / run.name
    written = folder / "config.yaml"
    if not written.is_file():
        return None
    if load_config(written) != variant(config, run):
        raise DataError(f"{folder}: a run of another configuration; name another --output, or remove it")
    found = [_read(folder / name) for name in (RESULT, *([_logged(logs)] if logs else []))]
    return None if None in found else {key: value for values in found for key, value in (values or {}).items()}


def _logged(logs: Drives) -> str:
    """Where a run keeps its numbers of these drives on these maps."""
    names = " ".join(f"{drive.name}@{source.name}" for drive, source in logs)
    return f"logged-{hashlib.sha256(names.encode()).hexdigest()[:8]}.json"


def _read(path: Path) -> Values | None:
    if not path.is_file():
        return None
    values = read_json(path)
    if not isinstance(values, dict) or not all(isinstance(value, int | float) for value in values.values()):
        raise DataError(f"{path}: expected names with numbers; remove it to measure anew")
    return {key.replace("votes_", "saliency_"): value for key, value in values.items()}  # as it was called before


def _written(path: Path, values: Values) -> Values:
    """The finite ones of the values, once they are safely on disk."""
    finite = {key: value for key, value in values.items() if math.isfinite(value)}
    write_text(path, json.dumps(finite, indent=2) + "\n")
    return finite


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


def _rows(plan: Plan, results: Mapping[AblationRun, Values]) -> list[AblationRow]:
    rows = []
    for (slot, name), runs in plan.items():
        found = [results[run] for run in runs if run in results]
        if found:
            bare = plan.get((slot, "none"), []) if name != "none" else []  # of the same seeds, in the same order
            pairs = [(a, b) for a, b in zip(runs, bare, strict=False) if a in results and b in results]
            rows.append(row_of(slot, name, found, [(results[a], results[b]) for a, b in pairs]))
    return rows


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


def _about(config: Config, seeds: Sequence[int], scored: str, logs: Drives) -> str:
    """What a reader of the table must know."""
    training, model = config.train, config.model
    machine = hardware()
    return (
        "## Attention mechanisms compared\n\n"
        f"Every run: {training.steps} steps of {training.batch_size} scans, trained on "
        f"{describe_drives(config, 'train')}, tested on {describe_drives(config, 'test')}, prior "
        f"within {config.search.offset_m:g} m and {config.search.offset_deg:g} degrees; seeds "
        f"{', '.join(map(str, seeds))} (weights, drives and samples). The slots that are not varied hold: fusion "
        f"`{model.fusion.attention}`, refinement `{model.refine.attention}`, blocks of the encoders "
        f"`{model.blocks.attention}`. "
        f"Machine: {machine['gpu'] or machine['cpu']}.\n\n"
        f"± is the standard deviation over seeds. {scored}"
        + (f" Logged: {', '.join(f'{drive.name} on {source.name}' for drive, source in logs)}." if logs else "")
    )
