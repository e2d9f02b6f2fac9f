"""Whether a drive as a whole can be what it says: each doubt is a warning with its number, in the drive's summary."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bevfusion.datasets.cloud import Cloud, intensity_sample
from bevfusion.datasets.tracks import GeoTrack, PoseTrack
from bevfusion.geometry.se2 import wrap_angle
from bevfusion.summary import InputSummary

MAX_STEP_S = 30.0  # between two scans: longer is told
MAX_SPEED_M_S = 70.0
NEAREST_M = 20.0  # a sensor on a vehicle sees something nearer than that
FEW_POINTS = 1000
LEAST_TURN, MOST_TURN = 0.2, 2.0  # of the time between scans, that points of one are taken in
MOVING_M = 15.0  # a way on which the middle of scans can be compared
DISAGREE_M, DISAGREE_SHARE = 0.5, 0.2  # of truth and odometry, over a second of driving
MAX_WAY_APART_M = 8.0
SIDEWAYS_RAD = np.deg2rad(15.0)
BACKWARDS_RAD = np.deg2rad(150.0)
SECOND_NS = 10**9


@dataclass(frozen=True)
class ScanFacts:
    """What a look at one scan of a drive tells.

    Args:
        points: that came back.
        nearest_m: distance of the nearest ones (1st percentile).
        middle_m: median x and y.
        spread_m: standard deviations along x, y and z of the points within 30 m.
        ground_m: height at which most points lie, within 30 m.
        intensity: a sample, as the sensor counts.
        timed: share of points with a time, None where points carry none.
        turn_s: between the first and the last of them.
    """

    points: int
    nearest_m: float
    middle_m: tuple[float, float]
    spread_m: tuple[float, float, float]
    ground_m: float
    intensity: np.ndarray
    timed: float | None
    turn_s: float = 0.0


def facts_of(cloud: Cloud) -> ScanFacts:
    """Look at a scan."""
    xyz = cloud.xyz[:: max(1, len(cloud) // 20_000)].astype(np.float64)
    range_m = np.linalg.norm(xyz, axis=1)
    near = xyz[range_m < 30.0]
    heights, edges = np.histogram(near[:, 2], bins=np.arange(-10.0, 10.25, 0.25)) if len(near) else (np.zeros(1), None)
    return ScanFacts(
        points=len(cloud),
        nearest_m=float(np.quantile(range_m, 0.01)),
        middle_m=(float(np.median(xyz[:, 0])), float(np.median(xyz[:, 1]))),
        spread_m=tuple(near.std(axis=0).tolist()) if len(near) else (0.0, 0.0, 0.0),
        ground_m=0.0 if edges is None else float(edges[int(np.argmax(heights))] + 0.125),
        intensity=intensity_sample(cloud.intensity),
        timed=None if cloud.time_s is None else float(np.isfinite(cloud.time_s).mean()),
        turn_s=_turn_s(cloud),
    )


def _turn_s(cloud: Cloud) -> float:
    if cloud.time_s is None or not np.isfinite(cloud.time_s).any():
        return 0.0
    return float(np.nanmax(cloud.time_s) - np.nanmin(cloud.time_s))


def check_stamps(stamps_ns: Int[np.ndarray, " n"], summary: InputSummary) -> None:
    """Rate and gaps of scans in order of time."""
    if len(stamps_ns) < 2:
        return
    steps_s = np.diff(stamps_ns) / 1e9
    period_s = float(np.median(steps_s))
    if period_s <= 0.0:
        summary.add("warning", "stamps", f"half of {len(stamps_ns)} scans have the stamp of the scan before")
        return
    told = f"{len(stamps_ns)} scans in {(stamps_ns[-1] - stamps_ns[0]) / 1e9:.1f} s, {1.0 / period_s:.4g} Hz"
    summary.add("used", "stamps", told, count=len(stamps_ns))
    long = steps_s > max(MAX_STEP_S, 100.0 * period_s)
    if long.any():
        told = f"{int(long.sum())} steps between scans are far longer than the usual, up to {steps_s.max():.4g} s"
        summary.add("warning", "stamps", told, count=int(long.sum()), total=len(steps_s))
    missed = int(((steps_s > 1.5 * period_s) & ~long).sum())
    if missed > 0.02 * len(steps_s):
        told = f"{missed} of {len(steps_s)} steps between scans are longer than one and a half periods: scans are lost"
        summary.add("warning", "stamps", told, count=missed, total=len(steps_s))
    if steps_s.min() < 0.0:
        back = int((steps_s < 0.0).sum())
        summary.add("warning", "stamps", f"{back} scans are stamped earlier than the scan before", count=back)


def check_scans(facts: Sequence[ScanFacts], summary: InputSummary) -> None:
    """Whether scans are about their sensor, upright, and of a LiDAR at all."""
    if not facts:
        return
    count = len(facts)
    points = float(np.median([fact.points for fact in facts]))
    if points < FEW_POINTS:
        told = f"{points:.0f} points a scan (median of {count}): pieces of a turn, or not a LiDAR of a vehicle?"
        summary.add("warning", "scans", told)
    nearest_m = float(np.median([fact.nearest_m for fact in facts]))
    if nearest_m > NEAREST_M:
        told = f"the nearest points are {nearest_m:.0f} m away (median of {count} scans): not about their sensor"
        summary.add("warning", "scans", f"{told}, perhaps in a world's frame")
    spread_m = np.median([fact.spread_m for fact in facts], axis=0)
    flattest = int(np.argmin(spread_m))
    if flattest != 2 and spread_m[flattest] < 0.5 * spread_m[2]:
        told = f"points spread {spread_m[2]:.1f} m along z, and {spread_m[flattest]:.1f} m along {'xy'[flattest]}"
        summary.add("warning", "scans", f"{told}: is {'xy'[flattest]} the axis that points up? z should be")
    else:
        ground_m = float(np.median([fact.ground_m for fact in facts]))
        if ground_m > 0.75:
            told = f"most points lie {ground_m:.1f} m above the sensor (median of {count} scans): upside down?"
            summary.add("warning", "scans", told)


def check_point_times(
    facts: Sequence[ScanFacts], stamps_ns: Sequence[int] | Int[np.ndarray, " n"], summary: InputSummary
) -> None:
    """Whether the times of points can be those of a turn.

    Args:
        facts: of some scans.
        stamps_ns: of all scans, where they are known.
        summary: is told.
    """
    timed = [fact for fact in facts if fact.timed is not None]
    if not timed:
        return
    share = float(np.mean([fact.timed for fact in timed]))
    if share == 0.0:
        told = "points carry times, but none that can be those of a turn: they are not used"
        summary.add("warning", "point times", told)
        return
    turn_s = float(np.median([fact.turn_s for fact in timed]))
    told = f"points carry times, {100.0 * share:.4g} % of them possible, over {1e3 * turn_s:.4g} ms"
    summary.add("used", "point times", told)
    period_s = float(np.median(np.diff(stamps_ns))) / 1e9 if len(stamps_ns) > 1 else 0.0
    if period_s > 0.0 and not LEAST_TURN <= turn_s / period_s <= MOST_TURN:
        told = (
            f"points of a scan are {1e3 * turn_s:.4g} ms apart, scans {1e3 * period_s:.4g} ms: times in another unit?"
        )
        summary.add("warning", "point times", told)


def check_moving_scans(
    stamps_ns: Sequence[int], facts: Sequence[ScanFacts], motion: PoseTrack | None, summary: InputSummary
) -> None:
    """Whether the middle of the scans moves along with the vehicle, as it does in the frame of a world.

    Args:
        stamps_ns: of the scans.
        facts: of the scans.
        motion: how the vehicle moves.
        summary: is told.
    """
    poses = [None if motion is None else motion.at(int(stamp_ns)) for stamp_ns in stamps_ns]
    pairs = [(pose, fact.middle_m) for pose, fact in zip(poses, facts, strict=True) if pose is not None]
    if len(pairs) < 5:
        return
    start, middle_m = pairs[0]
    way_m = np.array([np.hypot(pose.x_m - start.x_m, pose.y_m - start.y_m) for pose, _ in pairs])
    moved_m = np.array([np.hypot(x_m - middle_m[0], y_m - middle_m[1]) for _, (x_m, y_m) in pairs])
    if way_m.max() < MOVING_M or moved_m.std() == 0.0:
        return
    slope = float(way_m @ moved_m / (way_m @ way_m))
    if slope > 0.7 and float(np.corrcoef(way_m, moved_m)[0, 1]) > 0.9:
        told = f"their middle moves {moved_m.max():.0f} m while the vehicle moves {way_m.max():.0f} m: they lie in the"
        summary.add("warning", "scans", f"{told} frame of a world, not about their sensor")


def check_tracks(
    stamps_ns: Int[np.ndarray, " n"],
    truth: GeoTrack | None,
    gnss: GeoTrack | None,
    odometry: PoseTrack | None,
    summary: InputSummary,
) -> None:
    """Shares of frames with each, and whether truth and odometry move as vehicles do and agree."""
    tracks = {
        "truth": None if truth is None else truth.track,
        "GNSS": None if gnss is None else gnss.track,
        "odometry": odometry,
    }
    for part, track in tracks.items():
        if track is None:
            summary.add("used", part, f"0 of {len(stamps_ns)} frames", count=0, total=len(stamps_ns))
            continue
        known = covered(track, stamps_ns)
        summary.add(
            "used", part, f"{int(known.sum())} of {len(known)} frames", count=int(known.sum()), total=len(known)
        )
        if not known.any() and len(known):
            told = f"none at any scan: they span {_span(track.stamps_ns)}, the scans {_span(stamps_ns)}"
            summary.add("lost", part, told)
        elif part == "truth" and known.mean() < 0.5:
            told = f"{100.0 * known.mean():.0f} % of the frames have one"
            summary.add("warning", part, told, count=int(known.sum()), total=len(known))
        if part != "GNSS":
            check_motion(part, track, summary)
    if odometry is None:
        return
    if tracks["truth"] is not None:
        _check_agreement(tracks["truth"], odometry, stamps_ns, summary)
    elif tracks["GNSS"] is not None:
        _check_way(tracks["GNSS"], odometry, stamps_ns, summary)


def covered(track: PoseTrack, stamps_ns: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """At which moments a track has a pose."""
    return np.array([track.at(int(stamp_ns)) is not None for stamp_ns in stamps_ns], dtype=bool)


def _span(stamps_ns: Int[np.ndarray, " n"]) -> str:
    return f"{stamps_ns[0] / 1e9:.3f} to {stamps_ns[-1] / 1e9:.3f} s"


def check_motion(part: str, track: PoseTrack, summary: InputSummary) -> None:
    """Whether a track moves as vehicles do: not too fast, and ahead."""
    seconds = np.diff(track.stamps_ns) / 1e9
    steps_m = np.linalg.norm(np.diff(track.xy_m, axis=0), axis=1)
    fast = steps_m > MAX_SPEED_M_S * np.maximum(seconds, 0.02) + 1.0
    if fast.any():
        told = (
            f"{int(fast.sum())} of {len(fast)} steps are faster than {MAX_SPEED_M_S:.0f} m/s, up to {steps_m.max():.4g}"
        )
        told += " m"
        summary.add("warning", part, told, count=int(fast.sum()), total=len(fast))
    off_rad = _off_motion_rad(track)
    if len(off_rad) >= 10:
        backwards = float((np.abs(off_rad) > BACKWARDS_RAD).mean())
        middle = float(np.median(np.abs(off_rad)))
        if backwards > 0.5:
            told = f"moves against its heading in {100.0 * backwards:.0f} % of {len(off_rad)} steps of a metre"
            summary.add("warning", part, f"{told}: is the LiDAR turned?")
        elif middle > SIDEWAYS_RAD:
            told = f"moves {np.degrees(middle):.0f} degrees off its heading (median of {len(off_rad)} steps of a metre)"
            summary.add("warning", part, f"{told}: other axes?")


def _off_motion_rad(track: PoseTrack) -> Float[np.ndarray, " k"]:
    """Angles from the direction of travel to the heading, over steps of a metre that take at most a few seconds."""
    angles, behind = [], 0
    for here in range(1, len(track.stamps_ns)):
        moved = track.xy_m[here] - track.xy_m[behind]
        if float(np.hypot(*moved)) >= 1.0:
            if track.stamps_ns[here] - track.stamps_ns[behind] <= 3 * SECOND_NS:
                middle = (behind + here) // 2
                angles.append(wrap_angle(float(track.yaw_rad[middle] - np.arctan2(moved[1], moved[0]))))
            behind = here
    return np.array(angles)


def _check_way(gnss: PoseTrack, odometry: PoseTrack, stamps_ns: Int[np.ndarray, " n"], summary: InputSummary) -> None:
    """Whether odometry goes about as far as GNSS in ten seconds."""
    ways_m = []
    for stamp_ns in stamps_ns[:: max(1, len(stamps_ns) // 100)]:
        from_ns, to_ns = int(stamp_ns), int(stamp_ns) + 10 * SECOND_NS
        fix_from, fix_to, odom_from, odom_to = (track.at(at) for track in (gnss, odometry) for at in (from_ns, to_ns))
        if fix_from is not None and fix_to is not None and odom_from is not None and odom_to is not None:
            ways_m.append(
                [
                    np.hypot(fix_to.x_m - fix_from.x_m, fix_to.y_m - fix_from.y_m),
                    np.hypot(odom_to.x_m - odom_from.x_m, odom_to.y_m - odom_from.y_m),
                ]
            )
    if len(ways_m) < 5:
        return
    by_gnss_m, by_odometry_m = np.median(ways_m, axis=0)
    if abs(by_gnss_m - by_odometry_m) > max(MAX_WAY_APART_M, 0.3 * by_gnss_m):
        told = f"moves {by_odometry_m:.1f} m in 10 s where GNSS moves {by_gnss_m:.1f} m (median)"
        summary.add("warning", "odometry", told)


def _check_agreement(
    truth: PoseTrack, odometry: PoseTrack, stamps_ns: Int[np.ndarray, " n"], summary: InputSummary
) -> None:
    """Whether both move as far, and turn as much, from one second to the next."""
    apart_m, apart_rad = [], []
    for stamp_ns in stamps_ns[:: max(1, len(stamps_ns) // 200)]:
        from_ns, to_ns = int(stamp_ns), int(stamp_ns) + SECOND_NS
        true_from, true_to, odom_from, odom_to = (
            track.at(at) for track in (truth, odometry) for at in (from_ns, to_ns)
        )
        if true_from is None or true_to is None or odom_from is None or odom_to is None:
            continue
        true, guessed = true_from.inverse() @ true_to, odom_from.inverse() @ odom_to
        apart_m.append(np.hypot(true.x_m - guessed.x_m, true.y_m - guessed.y_m))
        apart_rad.append(abs(wrap_angle(true.yaw_rad - guessed.yaw_rad)))
    if len(apart_m) < 5:
        return
    middle_m, middle_deg = float(np.median(apart_m)), float(np.degrees(np.median(apart_rad)))
    jumps = int((np.array(apart_m) > 4 * DISAGREE_M).sum())
    if middle_m > DISAGREE_M or middle_deg > 3.0:
        told = f"truth and odometry disagree by {middle_m:.2f} m and {middle_deg:.1f} degrees over a second (median)"
        summary.add("warning", "truth", told)
    elif jumps > DISAGREE_SHARE * len(apart_m) or jumps >= 5:
        told = f"truth jumps against odometry by more than {4 * DISAGREE_M:.0f} m in {jumps} of {len(apart_m)} seconds"
        summary.add("warning", "truth", told, count=jumps, total=len(apart_m))
