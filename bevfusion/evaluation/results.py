"""What came of a drive: scored estimates, their errors by quantity, the worst beliefs, and the files of all that."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion import metrics
from bevfusion.files import atomic_file, file_name
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import AttentionHook
from bevfusion.structures import PoseBelief
from bevfusion.tables import no_formula

WORST_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Quantity:
    """One of the four errors that everything counts."""

    name: str  # lateral
    unit: str  # m
    word: str  # for people, where a file says `name`: across
    title: str  # of tables for people

    @property
    def key(self) -> str:
        """In metrics.json and in the columns of predictions.csv."""
        return f"{self.name}_{self.unit}"


QUANTITIES = (
    Quantity("lateral", "m", "across", "across the road"),
    Quantity("longitudinal", "m", "along", "along the road"),
    Quantity("position", "m", "position", "position"),
    Quantity("heading", "deg", "heading", "heading"),
)
QUANTITY_KEYS = tuple(quantity.key for quantity in QUANTITIES)

POSE_COLUMNS = (
    *("prior_x_m", "prior_y_m", "prior_yaw_rad"),
    *("truth_x_m", "truth_y_m", "truth_yaw_rad"),
    *("estimate_x_m", "estimate_y_m", "estimate_yaw_rad"),
)
ERROR_COLUMNS = ("lateral_m", "longitudinal_m", "heading_deg")  # signed; the position follows from two of them
COLUMNS = (
    *("drive", "frame", "stamp_ns", "draw"),
    *POSE_COLUMNS,
    *("covariance_xx", "covariance_xy", "covariance_xyaw", "covariance_yy", "covariance_yyaw", "covariance_yawyaw"),
    *ERROR_COLUMNS,
    *("confidence", "map"),
)
"""Of predictions.csv."""
RUNTIME_COLUMNS = ("drive", "frame", "stamp_ns", "draw", "runtime_ms")
"""Of runtimes.csv: apart, since they differ from run to run, and nothing else does."""


@dataclass(frozen=True, slots=True)
class ScoredEstimate:
    """What was asked and answered for one frame and draw; poses are those of the LiDAR in the frame of `map_index`."""

    drive_index: int
    frame_index: int  # in the drive, from 0
    drive: str
    frame: int  # number that the log gives the frame
    stamp_ns: int
    draw: int
    map_index: int
    map_name: str
    prior: SE2
    truth: SE2
    estimate: SE2
    covariance: Float[np.ndarray, "3 3"]  # x, y in m, yaw in rad, map axes
    confidence: float
    runtime_ms: float
    credible_mass: float | None = None  # of `metrics.credibility`, where the locator shows its belief
    nll: float | None = None


@dataclass(frozen=True, slots=True)
class Errors:
    """Signed errors of n estimates, in the frame of the true heading."""

    longitudinal_m: Float[np.ndarray, " n"]
    lateral_m: Float[np.ndarray, " n"]
    heading_deg: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, estimate: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "n 3"]) -> "Errors":
        """Errors of poses (x, y, yaw)."""
        longitudinal_m, lateral_m = metrics.position_errors_m(estimate, truth).T
        return cls(longitudinal_m, lateral_m, metrics.heading_error_deg(estimate, truth))

    @property
    def position_m(self) -> Float[np.ndarray, " n"]:
        """Distance of the estimate from the truth."""
        distance_m: np.ndarray = np.hypot(self.longitudinal_m, self.lateral_m)
        return distance_m

    def by_quantity(self) -> dict[str, Float[np.ndarray, " n"]]:
        """By the keys of `QUANTITIES`, in their order; signed but for the distance."""
        values = (self.lateral_m, self.longitudinal_m, self.position_m, self.heading_deg)
        return dict(zip(QUANTITY_KEYS, values, strict=True))


def pose_rows(poses: Sequence[SE2]) -> Float[np.ndarray, "n 3"]:
    """Poses as rows (x, y, yaw), for `metrics`."""
    return np.array([(pose.x_m, pose.y_m, pose.yaw_rad) for pose in poses], dtype=np.float64).reshape(-1, 3)


def errors_of(estimates: Sequence[ScoredEstimate]) -> Errors:
    """Errors of the estimates, in their order."""
    return Errors.of(pose_rows([e.estimate for e in estimates]), pose_rows([e.truth for e in estimates]))


def errors_of_priors(estimates: Sequence[ScoredEstimate]) -> Errors:
    """The same of the priors: what is known without looking at any scan."""
    return Errors.of(pose_rows([e.prior for e in estimates]), pose_rows([e.truth for e in estimates]))


def badness(estimates: Sequence[ScoredEstimate]) -> Float[np.ndarray, " n"]:
    """How wrong answers are: the larger of metres and degrees, which tables hold against the same thresholds."""
    errors = errors_of(estimates)
    larger: np.ndarray = np.maximum(errors.position_m, np.abs(errors.heading_deg))
    return larger


def worst(estimates: Sequence[ScoredEstimate], count: int = WORST_FRAMES) -> list[ScoredEstimate]:
    """The most wrong of the estimates, each frame once."""
    chosen: dict[tuple[int, int], ScoredEstimate] = {}
    for i in np.argsort(-badness(estimates), kind="stable"):
        chosen.setdefault((estimates[i].drive_index, estimates[i].frame_index), estimates[i])
        if len(chosen) == count:
            break
    return list(chosen.values())


@dataclass(frozen=True, slots=True)
class BeliefMarginals:
    """A belief without its joint structure: each sums to one."""

    centre: SE2  # of the window, map frame
    window: PoseWindow
    place: Float[np.ndarray, "y x"]  # whatever the heading; row 0 is the lowest y
    heading: Float[np.ndarray, " r"]  # whatever the place
    attention: Mapping[str, Float[np.ndarray, "h w"]] = field(default_factory=dict)  # ego frame, by slot
    attention_half_m: float = 0.0  # half the side of the square it covers

    @classmethod
    def of(cls, belief: PoseBelief, centre: SE2, hook: AttentionHook | None = None) -> "BeliefMarginals":
        """Sums over a belief (batch of one) whose window lies about `centre`, and the attention that led to it."""
        prob = belief.log_prob[0].double().exp().cpu().numpy()
        seen = None if hook is None else hook.attention()
        half_m = 0.0 if hook is None else hook.half_extent_m
        return cls(centre, belief.window, prob.sum(0), prob.sum((1, 2)), seen or {}, half_m)


class WorstBeliefs:
    """The marginals of the most wrong estimates, each frame once, as they come.

    A whole volume for every frame would not fit into memory.
    """

    def __init__(self, count: int = WORST_FRAMES) -> None:
        """Room for so many frames."""
        self._count = count
        # by (index of the drive, of the frame): badness, -order, draw, marginals
        self._stored: dict[tuple[int, int], tuple[float, int, int, BeliefMarginals]] = {}
        self._offered = 0

    def offer(
        self, estimate: ScoredEstimate, belief: PoseBelief, centre: SE2, hook: AttentionHook | None = None
    ) -> None:
        """Store the marginals if the estimate is among the worst so far.

        Args:
            estimate: the answer.
            belief: that it was read from (batch of one).
            centre: of the belief's window, map frame.
            hook: where the network's attention can still be seen.
        """
        self._offered += 1
        frame = (estimate.drive_index, estimate.frame_index)
        wrong = float(badness([estimate])[0])
        if frame in self._stored:
            if wrong <= self._stored[frame][0]:
                return
        elif len(self._stored) == self._count:
            best = min(self._stored, key=lambda stored: self._stored[stored][:2])
            if wrong <= self._stored[best][0]:
                return
            del self._stored[best]
        marginals = BeliefMarginals.of(belief, centre, hook)
        self._stored[frame] = wrong, -self._offered, estimate.draw, marginals

    def of(self, estimate: ScoredEstimate) -> BeliefMarginals | None:
        """The marginals of an estimate, if they were stored."""
        stored = self._stored.get((estimate.drive_index, estimate.frame_index))
        return stored[3] if stored is not None and stored[2] == estimate.draw else None

    def items(self) -> list[tuple[int, int, float, BeliefMarginals]]:
        """(index of the frame, draw, badness, marginals) of what is stored, in the order of `restore`."""
        return [(at[1], stored[2], stored[0], stored[3]) for at, stored in self._stored.items()]

    def restore(self, frame: tuple[int, int], draw: int, wrong: float, marginals: BeliefMarginals) -> None:
        """Put back what `items` gave, under (index of the drive, of the frame)."""
        self._offered += 1
        self._stored[frame] = (wrong, -self._offered, draw, marginals)

    def add(self, other: "WorstBeliefs") -> None:
        """Take over all that another one has, of other drives."""
        self._stored |= other._stored


@dataclass(frozen=True, slots=True)
class TrafficShift:
    """How far one scan's estimate moves when its traffic changes, both found from the same prior."""

    drive: str
    frame: int
    vehicles: int | None  # inserted; None: every labelled vehicle removed
    changed: float  # share of the points that moved or went
    heading_deg: float  # absolute
    position_m: float
    hidden_only: bool = False  # what the vehicles hide is gone, and they themselves are not seen
    before: tuple[float, float, float] | None = None  # the estimate as it was (x, y in m, yaw in rad, map frame)
    after: tuple[float, float, float] | None = None  # and as it became
    map_index: int = 0


@dataclass
class DriveResult:
    """What came of one drive."""

    drive: str
    odometry: str
    estimates: list[ScoredEstimate] = field(default_factory=list)
    classical: list[ScoredEstimate] = field(default_factory=list)  # the training-free matcher's, of some of the frames
    traffic: list[TrafficShift] = field(default_factory=list)  # of some of the frames
    worst: WorstBeliefs = field(default_factory=WorstBeliefs)
    done: int = 0  # frames that were gone through, with a scan or without use
    not_covered: int = 0  # frames that no map covers
    without_truth: int = 0
    unreadable: int = 0  # frames that cannot be read
    lost: int = 0  # answers that were none
    box_deg: tuple[float, float, float, float] | None = None  # of the truth: south, west, north, east
    failed: str | None = None  # why the drive could not be evaluated

    def widen_box(self, place: GeoPose) -> None:
        """Take a true place into the box."""
        south, west, north, east = self.box_deg or (place.lat_deg, place.lon_deg, place.lat_deg, place.lon_deg)
        self.box_deg = (
            min(south, place.lat_deg),
            min(west, place.lon_deg),
            max(north, place.lat_deg),
            max(east, place.lon_deg),
        )


def all_estimates(results: Sequence[DriveResult]) -> list[ScoredEstimate]:
    """Of all drives, in order."""
    return [estimate for result in results for estimate in result.estimates]


def write_csv(path: Path, estimates: Sequence[ScoredEstimate]) -> None:
    """One row a frame and draw; columns as in `COLUMNS`."""
    errors = errors_of(estimates).by_quantity()
    with atomic_file(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i, e in enumerate(estimates):
            poses = [f"{v:.6f}" for pose in (e.prior, e.truth, e.estimate) for v in (pose.x_m, pose.y_m, pose.yaw_rad)]
            covariance = [f"{e.covariance[row, col]:.6g}" for row in range(3) for col in range(row, 3)]
            scores = [f"{value:.6f}" for value in (*(errors[key][i] for key in ERROR_COLUMNS), e.confidence)]
            names = no_formula(e.drive), no_formula(e.map_name)
            writer.writerow([names[0], e.frame, e.stamp_ns, e.draw, *poses, *covariance, *scores, names[1]])


def write_runtimes(path: Path, estimates: Sequence[ScoredEstimate]) -> None:
    """One row a frame and draw; columns as in `RUNTIME_COLUMNS`."""
    with atomic_file(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(RUNTIME_COLUMNS)
        writer.writerows([no_formula(e.drive), e.frame, e.stamp_ns, e.draw, f"{e.runtime_ms:.3f}"] for e in estimates)


@dataclass(frozen=True, slots=True)
class MapTrajectory:
    """The estimates of one drive on one map, in the order of time; of equal stamps in the order of draws."""

    file_name: str  # what files about it are called; no two trajectories have the same
    estimates: Sequence[ScoredEstimate]


def trajectories(estimates: Sequence[ScoredEstimate]) -> list[MapTrajectory]:
    """Every drive on every map that served it, in the order of first appearance."""
    groups: dict[tuple[str, int], list[ScoredEstimate]] = {}
    for estimate in estimates:
        groups.setdefault((estimate.drive, estimate.map_index), []).append(estimate)
    found: dict[str, MapTrajectory] = {}
    for (drive, map_index), group in groups.items():
        several = sum(name == drive for name, _ in groups) > 1
        name = base = f"{file_name(drive)}_map{map_index}" if several else file_name(drive)
        number = 1
        while name in found:  # names that differ only in what file names cannot hold
            number += 1
            name = f"{base}_{number}"
        found[name] = MapTrajectory(name, sorted(group, key=lambda e: (e.stamp_ns, e.draw)))
    return list(found.values())


def write_trajectories(folder: Path, estimates: Sequence[ScoredEstimate]) -> list[str]:
    """Write truth_NAME.tum and estimate_NAME.tum, and estimate_NAME_drawN.tum of further draws.

    The format is that of TUM's RGB-D benchmark, which `evo` reads: stamp in s, x y z in m, quaternion x y z w. Poses
    are those of the LiDAR in the frame of the trajectory's map, with z = 0; frames without an answer are left out.

    Args:
        folder: where to; it exists.
        estimates: what was answered.

    Returns:
        Names of the files.
    """
    names = []
    for trajectory in trajectories(estimates):
        truth = {e.stamp_ns: e.truth for e in trajectory.estimates}
        names.append(_write_tum(folder / f"truth_{trajectory.file_name}.tum", truth))
        for draw in sorted({e.draw for e in trajectory.estimates}):
            suffix = f"_draw{draw}" if draw else ""
            estimate = {e.stamp_ns: e.estimate for e in trajectory.estimates if e.draw == draw}
            names.append(_write_tum(folder / f"estimate_{trajectory.file_name}{suffix}.tum", estimate))
    return names


def _write_tum(path: Path, poses: Mapping[int, SE2]) -> str:
    """Stamp in ns -> pose, ascending; returns the file's name."""
    path.write_text("".join(_tum_lines(poses)), encoding="ascii")
    return path.name


def _tum_lines(poses: Mapping[int, SE2]) -> Iterator[str]:
    for stamp_ns, pose in poses.items():
        seconds, rest_ns = divmod(stamp_ns, 1_000_000_000)
        half_rad = 0.5 * pose.yaw_rad
        turn = f"0 0 {math.sin(half_rad):.9f} {math.cos(half_rad):.9f}"
        yield f"{seconds}.{rest_ns:09d} {pose.x_m:.6f} {pose.y_m:.6f} 0 {turn}\n"
