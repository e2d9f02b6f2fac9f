"""Score a locator on drives: ask for every frame from a displaced prior, compare with the truth, write the report."""

import hashlib
import json
import logging
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bevfusion import metrics
from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.marginals import WorstMarginals
from bevfusion.evaluation.plots import WORST_FRAMES, write_plots
from bevfusion.evaluation.predictions import Prediction, finite_or_none, write_csv
from bevfusion.evaluation.report import write_report
from bevfusion.evaluation.sequence import ASKERS, Asker
from bevfusion.evaluation.summary import Section, count_maps, hardware, summarise
from bevfusion.evaluation.trajectories import write_trajectories
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.source import MapSource
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError, Locator

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How frames are asked for and what counts.

    Raises:
        ValueError: if a value makes no sense.
    """

    mode: str = "single"  # a key of `ASKERS`
    offset_m: float = 20.0  # the prior lies uniformly within, along map x and y
    offset_deg: float = 10.0  # the same for its heading; 180 is a heading drawn from the full circle
    draws: int = 1  # priors a frame
    seed: int = 0
    readout: str = "argmax"  # how the locator reads its belief, for the record

    def __post_init__(self) -> None:
        if self.mode not in ASKERS:
            raise ValueError(f"mode is one of {', '.join(ASKERS)}, got {self.mode!r}")
        if not (math.isfinite(self.offset_m) and self.offset_m > 0):
            raise ValueError(f"offset_m is a positive distance in metres, got {self.offset_m}")
        if not 0 < self.offset_deg <= 180:
            raise ValueError(f"offset_deg lies above 0 and up to 180, got {self.offset_deg}")
        if self.draws < 1 or self.seed < 0:
            raise ValueError(f"draws is at least 1 and seed at least 0, got {self.draws} and {self.seed}")


def evaluate(
    make_locator: Callable[[MapSource], Locator],
    drives: Sequence[Drive],
    maps: Sequence[MapSource],
    protocol: Protocol,
    output: Path,
    provenance: dict[str, object],
) -> Section:
    """Score every frame that a map covers and write the report into `output`.

    It is report.html, metrics.json, predictions.csv, plots/ and trajectories for `evo` (*.tum).

    Args:
        make_locator: what is scored, opened once for each map that is used.
        drives: drives with truth.
        maps: each frame takes the first that covers its true place.
        protocol: how to ask.
        output: folder; what an earlier run wrote there is replaced, and only once all is done.
        provenance: what is known of the checkpoint, for metrics.json.

    Returns:
        The content of metrics.json.

    Raises:
        DataError: if a scan is broken, or no frame can be scored.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: expected a folder to write the report into, this is a file")
    output.parent.mkdir(parents=True, exist_ok=True)
    run = _Run(make_locator, drives, maps, protocol)
    frames = run.frames()
    with frame_progress("evaluate", len(frames)) as show:
        for done, (drive_index, position, draws) in enumerate(frames, start=1):
            run.score(drive_index, position, draws)
            show(done, len(frames))
    report = run.report() | {"checkpoint": provenance}
    _write(output, report, run, drives, maps)
    return report


def displaced(truth: SE2, protocol: Protocol, drive: str, frame: int, draw: int) -> SE2:
    """The prior for a frame: the truth moved at random, the same whatever else is evaluated and in which order."""
    name_seed = int.from_bytes(hashlib.sha256(drive.encode()).digest()[:8], "little")
    rng = np.random.default_rng([protocol.seed, name_seed, frame, draw])
    east, north, turn = (float(value) for value in rng.uniform(-1.0, 1.0, 3))
    return SE2(
        truth.x_m + protocol.offset_m * east,
        truth.y_m + protocol.offset_m * north,
        wrap_angle(truth.yaw_rad + math.radians(protocol.offset_deg) * turn),
    )


class _Run:
    """The state of one evaluation: which locators are open, what they answered, what could not be asked."""

    def __init__(
        self,
        make_locator: Callable[[MapSource], Locator],
        drives: Sequence[Drive],
        maps: Sequence[MapSource],
        protocol: Protocol,
    ) -> None:
        self.predictions: list[Prediction] = []
        self.beliefs = WorstMarginals(WORST_FRAMES)
        self._make_locator = make_locator
        self._drives = drives
        self._names = _distinct(drive.name for drive in drives)
        self._maps = maps
        self._map_names = _distinct(source.name for source in maps)
        self._protocol = protocol
        self._locators: dict[int, Locator] = {}
        self._not_covered: Counter[str] = Counter()  # frames of each drive
        self._without_truth: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._askers: dict[tuple[int, int], Asker] = {}  # of each drive and draw
        self._seen_deg: list[tuple[float, float]] = []

    @property
    def mode(self) -> str:
        """Of the protocol."""
        return self._protocol.mode

    def frames(self) -> list[tuple[int, int, range]]:
        """(drive, position, draws) in the order of asking: a sequence goes through its drive once a draw."""
        draws = self._protocol.draws
        together = [range(draws)] if self._protocol.mode == "single" else [range(d, d + 1) for d in range(draws)]
        return [
            (index, position, some)
            for index, drive in enumerate(self._drives)
            for some in together
            for position in range(len(drive))
        ]

    def score(self, drive_index: int, position: int, draws: range) -> None:
        """Ask for one frame, once a draw, if it has a truth and a map."""
        name = self._names[drive_index]
        frame = self._drives[drive_index][position]
        found = None if frame.truth is None else self._first_map(frame.truth)
        if frame.truth is not None:
            self._seen_deg.append((frame.truth.lat_deg, frame.truth.lon_deg))
        if found is None:
            missing = self._without_truth if frame.truth is None else self._not_covered
            missing[name] += draws.start == 0  # a frame counts once
            for draw in draws:
                self._asker(drive_index, draw).pass_by(frame)
            return
        map_index, truth = found
        if map_index not in self._locators:
            self._locators[map_index] = self._make_locator(self._maps[map_index])
        for draw in draws:
            drawn = displaced(truth, self._protocol, name, frame.index, draw)
            try:
                answer = self._asker(drive_index, draw).ask(
                    self._locators[map_index], self._maps[map_index], frame, drawn
                )
            except DataError as error:
                raise DataError(f"{name}, frame {frame.index}: {error}") from error
            estimate = answer.estimate
            if estimate is None:
                self._lost[name] += 1
                continue
            mass, nll = None, None
            if estimate.belief is not None:
                mass, nll = metrics.credibility(estimate.belief, estimate.prior, truth)
            prediction = Prediction(
                drive_index=drive_index,
                position=position,
                drive=name,
                frame=frame.index,
                stamp_ns=frame.stamp_ns,
                draw=draw,
                map_index=map_index,
                map_name=self._map_names[map_index],
                prior=answer.prior,
                truth=truth,
                estimate=estimate.map_from_ego,
                covariance=estimate.covariance,
                confidence=estimate.confidence,
                runtime_ms=answer.runtime_ms,
                credible_mass=mass,
                nll=nll,
            )
            self.predictions.append(prediction)
            if estimate.belief is not None:
                self.beliefs.offer(prediction, estimate.belief, estimate.prior)

    def _first_map(self, place: GeoPose) -> tuple[int, SE2] | None:
        """The first map that covers a place, and the pose in its frame."""
        for map_index, source in enumerate(self._maps):
            pose = source.frame.map_from_ego(place)
            if source.covers(pose.x_m, pose.y_m):
                return map_index, pose
        return None

    def _asker(self, drive_index: int, draw: int) -> Asker:
        """Who asks for the frames of a drive."""
        if (drive_index, draw) not in self._askers:
            protocol = self._protocol
            asker = ASKERS[protocol.mode](protocol.offset_m, math.radians(protocol.offset_deg))
            self._askers[drive_index, draw] = asker
        return self._askers[drive_index, draw]

    def report(self) -> Section:
        """The content of metrics.json, without the checkpoint.

        Raises:
            DataError: if nothing was scored.
        """
        if not self.predictions:
            raise DataError(self._why_nothing())
        for name, count in self._not_covered.items():
            log.warning("%s: %d frames lie on none of the maps and are not scored", name, count)
        report = summarise(self.predictions)
        served = count_maps(self.predictions)
        odometry = "+".join(sorted({drive.odometry for drive in self._drives}))
        return report | {
            "not_covered": dict.fromkeys(self._names, 0) | dict(self._not_covered),
            "lost": dict.fromkeys(self._names, 0) | dict(self._lost),
            "without_truth": dict.fromkeys(self._names, 0) | dict(self._without_truth),
            "protocol": asdict(self._protocol) | {"threshold": "<", "odometry": odometry},
            "hardware": hardware(),
            "map": {
                name: {
                    "frames": served.get(name, 0),
                    "origin_lat_deg": source.frame.origin_lat_deg,
                    "origin_lon_deg": source.frame.origin_lon_deg,
                }
                for name, source in zip(self._map_names, self._maps, strict=True)
            },
        }

    def _why_nothing(self) -> str:
        if not self._seen_deg:
            return f"none of the frames of {', '.join(self._names)} has a true pose to compare with"
        if self._lost:
            return f"nothing to score: lost in all {self._lost.total()} frames of {', '.join(self._names)}"
        low, high = np.min(self._seen_deg, axis=0), np.max(self._seen_deg, axis=0)
        boxes = (f"{name} {_box_deg(source)}" for name, source in zip(self._map_names, self._maps, strict=True))
        return (
            f"no map covers any frame: {', '.join(self._names)} within lat {low[0]:.5f} to {high[0]:.5f}, "
            f"lon {low[1]:.5f} to {high[1]:.5f}; maps: {', '.join(boxes)}"
        )


def _box_deg(source: MapSource) -> str:
    """A map's box in words."""
    x_min_m, y_min_m, x_max_m, y_max_m = source.bounds_m
    south, west = source.frame.degrees_from_metres(x_min_m, y_min_m)
    north, east = source.frame.degrees_from_metres(x_max_m, y_max_m)
    return f"within lat {south:.5f} to {north:.5f}, lon {west:.5f} to {east:.5f}"


def _distinct(names: Iterable[str]) -> list[str]:
    """The names; of equal ones the second becomes NAME-2 and so on."""
    used: Counter[str] = Counter()
    distinct = []
    for name in names:
        used[name] += 1
        distinct.append(name if used[name] == 1 else f"{name}-{used[name]}")
    return distinct


def _write(output: Path, report: Section, run: _Run, drives: Sequence[Drive], maps: Sequence[MapSource]) -> None:
    """All files at once: they are made beside `output` and moved into place when the last is complete."""
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
        staged = Path(scratch) / "new"
        staged.mkdir()
        text = json.dumps(finite_or_none(report), indent=2, allow_nan=False)
        (staged / "metrics.json").write_text(text + "\n", encoding="utf-8")
        write_csv(staged / "predictions.csv", run.predictions)
        write_plots(staged / "plots", run.predictions, drives, maps, run.mode, run.beliefs)
        trajectories = write_trajectories(staged, run.predictions)
        write_report(staged / "report.html", report, run.predictions, staged / "plots")
        output.mkdir(exist_ok=True)
        if (output / "plots").exists():
            os.replace(output / "plots", Path(scratch) / "old-plots")
        for old in (*output.glob("truth_*.tum"), *output.glob("estimate_*.tum")):
            old.unlink()
        for name in ("plots", "predictions.csv", *trajectories, "metrics.json", "report.html"):
            os.replace(staged / name, output / name)
