"""How well the way the road goes is known: paths ahead against the path that was driven then, for metrics.json.

The route is the road of the map that was driven, found by matching the true track onto the road graph: what is scored
is not which way to choose but where it lies from here. Scored is the route moved to the vehicle at the pose that was
found. Beside it are baselines: straight on, the route as the map draws it, at the prior and at the pose that was found,
and the route moved to the vehicle at the prior (`map_alone`: what is known without the scan). Distances are means over
frames in metres, `hit` is a share from 0 to 1 as in the tables of the field; recalls and the share of right branches
are percent, as everywhere here.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.drive import Drive, readable_frames, truths_of
from bevfusion.direction import metrics
from bevfusion.direction.branches import paths_ahead
from bevfusion.direction.driven import DrivenTrack
from bevfusion.direction.matching import Stretch, matched
from bevfusion.direction.path import NEAR_POINTS, PathAhead, path_along, path_as_drawn, straight_on
from bevfusion.direction.road_graph import RoadGraph, road_graph_of
from bevfusion.evaluation.results import DriveResult, ScoredEstimate, TrafficShift
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

BASELINES = ("straight_on", "map_at_prior", "map_at_found_pose", "map_alone")
PATH_AT = NEAR_POINTS - 1
"""Point of a path whose direction other traffic should not move: 16 m ahead."""
RECALLS_DEG = (5.0, 10.0)
_LOOK_BACK_M = 30.0  # a prior may lie so far behind the true place
_APART_M = 4.0  # branches that are nearer to each other at their ends are one
_PRIOR_STD = np.array([5.0, 5.0, np.radians(5.0)])  # of a prior, as of GNSS alone
_AT_TRUTH = np.diag([0.25, 0.25, 1e-4])

Section = dict[str, object]
Row = tuple[float, float, bool, float]  # final and average displacement, hit, Hausdorff


@dataclass
class Tally:
    """What was counted, frame by frame."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in ("", *BASELINES)})
    turning: list[bool] = field(default_factory=list)
    errors_deg: dict[str, list[float]] = field(default_factory=dict)  # by stretch of the path
    right_branch: list[bool] = field(default_factory=list)  # of the path along the route
    right_guess: list[bool] = field(default_factory=list)  # of the likeliest branch without a route
    left_out: dict[str, int] = field(default_factory=dict)  # frames, by the reason
    traffic_deg: list[float] = field(default_factory=list)  # change of direction as vehicles come and go

    def leave_out(self, reason: str) -> None:
        """Count a frame that cannot be scored."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def add(self, paths: Mapping[str, PathAhead], driven: PathAhead) -> None:
        """Count a frame: the path ("") and the baselines against what was driven."""
        near = driven.xy_m[:NEAR_POINTS]
        for name, path in paths.items():
            self.rows[name].append(scores(path.extended(NEAR_POINTS), near))
        self.turning.append(metrics.is_turning(driven.yaw_rad[:NEAR_POINTS]))
        for index, error in enumerate(metrics.direction_errors_deg(paths[""].yaw_rad, driven.yaw_rad).tolist()):
            part = metrics.bin_of_point(index)
            if part is not None:
                self.errors_deg.setdefault(part, []).append(error)

    def section(self) -> Section | None:
        """For metrics.json; None if nothing was counted."""
        if not self.turning:
            return None
        turning = np.array(self.turning)
        return {
            "frames": len(turning),
            "left_out": self.left_out,
            "path_16m": _means(self.rows[""]),
            "turning": {"frames": int(turning.sum()), **_means(self.rows[""], turning)},
            "along_path_deg": {name: _errors(np.array(values)) for name, values in self.errors_deg.items()},
            "junctions": {
                "count": len(self.right_branch),
                "right_branch": _percent(self.right_branch),
                "right_branch_without_route": _percent(self.right_guess),
            },
            "baselines": {
                name: {"path_16m": _means(self.rows[name]), "turning": _means(self.rows[name], turning)}
                for name in BASELINES
            },
            "traffic": _change(np.array(self.traffic_deg)) if self.traffic_deg else None,
        }


def scores(path: Float[np.ndarray, "n 2"], driven: Float[np.ndarray, "n 2"]) -> Row:
    """The four numbers of one path."""
    return (
        metrics.final_displacement_m(path, driven),
        metrics.average_displacement_m(path, driven),
        metrics.is_hit(path, driven),
        metrics.hausdorff_m(path, driven),
    )


def direction_section(
    results: Sequence[DriveResult], drives: Sequence[Drive | None], maps: Sequence[MapSource]
) -> Section | None:
    """The section `direction` of metrics.json; None if no frame can be scored.

    Args:
        results: of the drives.
        drives: that they are of; None where one could not be opened.
        maps: that the drives lie on; those without a road graph are left out.
    """
    tally = Tally()
    graphs = [_graph(source) for source in maps]
    for result, drive in zip(results, drives, strict=True):
        for map_index in sorted({estimate.map_index for estimate in result.estimates}):
            estimates = [estimate for estimate in result.estimates if estimate.map_index == map_index]
            graph = graphs[map_index]
            if graph is None:
                for _ in estimates:
                    tally.leave_out("no road graph")
                continue
            track, index_of = scored_track(estimates, drive, maps[map_index].frame)
            count_drive(tally, graph, estimates, track, index_of)
            shifts = [shift for shift in result.traffic if shift.map_index == map_index]
            _count_traffic(tally, shifts, matched(graph, track.poses) if shifts else [], index_of)
    if not tally.turning and tally.left_out:
        reasons = ", ".join(f"{count} frames: {reason}" for reason, count in tally.left_out.items())
        log.info("direction is not scored (%s)", reasons)
    return tally.section()


def count_drive(
    tally: Tally,
    graph: RoadGraph,
    estimates: Sequence[ScoredEstimate],
    track: DrivenTrack,
    index_of: Mapping[int, int],
) -> None:
    """Count the frames of one drive on one map.

    Args:
        tally: where to.
        graph: the roads.
        estimates: of the drive.
        track: the whole drive.
        index_of: the pose of the track by `ScoredEstimate.frame`.
    """
    stretches = matched(graph, track.poses)
    for estimate in estimates:
        index = index_of[estimate.frame]
        driven = track.path_from(estimate.truth, index)
        if driven is None:
            tally.leave_out("less than 16 m known of the path driven")
            continue
        stretch = next((each for each in stretches if each.first <= index <= each.last), None)
        if stretch is None:
            tally.leave_out("off the roads of the map")
            continue
        paths = paths_of(stretch, index, estimate.estimate, estimate.covariance, estimate.prior)
        tally.add(paths, driven)
        _count_junction(tally, graph, estimate, paths[""], driven)


def _count_traffic(
    tally: Tally, shifts: Sequence[TrafficShift], stretches: Sequence[Stretch], index_of: Mapping[int, int]
) -> None:
    """How far the direction of the path 16 m ahead turns as vehicles come and go: about the map, not the vehicle."""
    covariance = np.diag([0.25, 0.25, np.radians(1.0) ** 2])
    for shift in shifts:
        index = index_of.get(shift.frame)
        stretch = next((s for s in stretches if index is not None and s.first <= index <= s.last), None)
        if index is None or stretch is None or shift.before is None or shift.after is None or shift.vehicles == 0:
            continue
        from_m = max(float(stretch.along_m[index - stretch.first]) - _LOOK_BACK_M, 0.0)
        directions_rad = []
        for pose in (SE2(*shift.before), SE2(*shift.after)):
            path = path_along(stretch.route, pose, covariance, along_m=stretch.route.place_of(pose, from_m)[0])
            if len(path.yaw_rad) > PATH_AT:
                directions_rad.append(pose.yaw_rad + float(path.yaw_rad[PATH_AT]))
        if len(directions_rad) == 2:
            tally.traffic_deg.append(abs(np.degrees(wrap_angle(directions_rad[1] - directions_rad[0]))))


def paths_of(
    stretch: Stretch, index: int, found: SE2, covariance: Float[np.ndarray, "3 3"], prior: SE2
) -> dict[str, PathAhead]:
    """The path (under the name "") and the baselines of one frame.

    Args:
        stretch: of the drive, as a route.
        index: of the pose of the track.
        found: the pose that was found.
        covariance: of it.
        prior: the pose that was given.
    """
    route, true_m = stretch.route, float(stretch.along_m[index - stretch.first])
    found_m, prior_m = (route.place_of(pose, max(true_m - _LOOK_BACK_M, 0.0))[0] for pose in (found, prior))
    return {
        "": path_along(route, found, covariance, along_m=found_m),
        "straight_on": straight_on(),
        "map_at_prior": path_as_drawn(route, prior, along_m=prior_m),
        "map_at_found_pose": path_as_drawn(route, found, along_m=found_m),
        "map_alone": path_along(route, prior, np.diag(_PRIOR_STD**2), along_m=prior_m),
    }


def _count_junction(
    tally: Tally, graph: RoadGraph, estimate: ScoredEstimate, path: PathAhead, driven: PathAhead
) -> None:
    """Whether the path takes the branch that was driven, where the road of the map branches within 40 m."""
    try:
        branches = _distinct(paths_ahead(graph, estimate.truth, _AT_TRUTH, with_spread=False))
    except DataError:
        return
    if len(branches) < 2:
        return
    taken = metrics.nearest_branch(driven.xy_m, branches)
    tally.right_branch.append(metrics.nearest_branch(path.xy_m, branches) == taken)
    try:
        guess = paths_ahead(graph, estimate.estimate, estimate.covariance, with_spread=False)[0]
        tally.right_guess.append(metrics.nearest_branch(guess.xy_m, branches) == taken)
    except DataError:
        tally.right_guess.append(False)


def _distinct(paths: Sequence[PathAhead]) -> list[Float[np.ndarray, "_ 2"]]:
    """The points of branches that part within the path; those with fewer than 16 m to go are none."""
    found: list[Float[np.ndarray, "_ 2"]] = []
    for path in paths:
        apart = all(metrics.final_displacement_m(path.xy_m, other) > _APART_M for other in found)
        if len(path.xy_m) >= NEAR_POINTS and apart:
            found.append(path.xy_m)
    return found


def scored_track(
    estimates: Sequence[ScoredEstimate], drive: Drive | None, frame: LocalFrame
) -> tuple[DrivenTrack, dict[int, int]]:
    """The whole drive by all true poses that are known, and the pose of the track at each frame's number.

    Args:
        estimates: of one drive on one map; their truths are the track where the log tells no more.
        drive: that they are of.
        frame: of the map.
    """
    poses = {number: frame.map_from_ego(place) for number, place in (truths_of(drive) if drive else {}).items()}
    scored = {e.frame: e.truth for e in sorted(estimates, key=lambda e: e.frame_index)}
    return _track_of(poses if scored.keys() <= poses.keys() else scored)


def driven_track(drive: Drive, frame: LocalFrame) -> tuple[DrivenTrack, dict[int, int]]:
    """The whole drive by all true poses of its log, and the pose of the track at each frame's number.

    Args:
        drive: where it tells no more true poses than those of its scans, all scans are read.
        frame: of the map.
    """
    truths = truths_of(drive) or {each.index: each.truth for each in readable_frames(drive) if each.truth is not None}
    return _track_of({number: frame.map_from_ego(place) for number, place in truths.items()})


def _track_of(poses: Mapping[int, SE2]) -> tuple[DrivenTrack, dict[int, int]]:
    track = DrivenTrack.of(list(poses.values()))
    return track, dict(zip(poses, track.index_of, strict=True))


def _graph(source: MapSource) -> RoadGraph | None:
    try:
        return road_graph_of(source)
    except DataError:
        return None


def _means(rows: Sequence[Row], chosen: "np.ndarray | None" = None) -> Section:
    values = np.array(rows, float) if chosen is None else np.array(rows, float)[chosen]
    means = values.mean(axis=0).tolist() if len(values) else [float("nan")] * 4
    return dict(zip(("fde_m", "ade_m", "hit", "hausdorff_m"), means, strict=True))


def _errors(errors_deg: Float[np.ndarray, " n"]) -> Section:
    recall = {f"{limit:g}": 100.0 * float((errors_deg < limit).mean()) for limit in RECALLS_DEG}
    return {"median": float(np.median(errors_deg)), "recall": recall}


def _change(turns_deg: Float[np.ndarray, " n"]) -> Section:
    return {
        "count": len(turns_deg),
        "median_deg": float(np.median(turns_deg)),
        "p95_deg": float(np.percentile(turns_deg, 95)),
    }


def _percent(hits: Sequence[bool]) -> float:
    return 100.0 * float(np.mean(hits)) if hits else float("nan")
