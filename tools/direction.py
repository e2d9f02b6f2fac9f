"""Print how far paths ahead lie from what was driven then, over whole KITTI raw drives: no scans, no network.

    python tools/direction.py DRIVE... --map MAP... [--route kitti_05_hmi.csv] [--every 10]

The pose is the true one, moved at random: as our matching finds it (1 m, 1 degree, normal), and as GNSS alone
(5 m, 5 degrees). The route is the road of the map that was driven, or that of a file of latitudes and longitudes (in
columns 2 and 3). With scans `bevfusion evaluate` measures the same with poses that were found: `direction` in its
metrics.json. `docs/direction.md` quotes the numbers.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.direction.driven import DrivenTrack
from bevfusion.direction.matching import Stretch, matched
from bevfusion.direction.road_graph import RoadGraph
from bevfusion.direction.route import Route
from bevfusion.evaluation.direction import Tally, count_drive, paths_of
from bevfusion.evaluation.results import ScoredEstimate
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm import read_osm
from bevfusion.structures import DataError

FOUND, PRIOR = (1.0, 1.0), (5.0, 5.0)  # m along each axis, degrees


def estimates(poses: dict[int, SE2], every: int, rng: np.random.Generator) -> list[ScoredEstimate]:
    """Every so many poses, as if they had been found."""
    sizes = [np.array([m, m, np.radians(deg)]) for m, deg in (FOUND, PRIOR)]
    made = []
    for index, (frame, pose) in enumerate(poses.items()):
        found, prior = (pose.moved_by(SE2(*(rng.normal(size=3) * size).tolist())) for size in sizes)
        covariance = np.diag(sizes[0] ** 2)
        if index % every == 0:
            made.append(ScoredEstimate(0, index, "", frame, index, 0, 0, "", prior, pose, found, covariance, 1.0, 0.0))
    return made


def along_file(path: Path, frame: LocalFrame, track: DrivenTrack) -> list[Stretch]:
    """The route of a file, as driven."""
    rows = list(csv.reader(path.open()))
    route = Route.through(frame.many_metres_from_degrees(np.array([(float(row[1]), float(row[2])) for row in rows])))
    along_m, reached_m = [], 0.0
    for pose in track.poses:
        reached_m = route.place_of(pose, reached_m)[0]
        along_m.append(reached_m)
    near = [index for index, pose in enumerate(track.poses) if route.place_of(pose, along_m[index])[1] < 15.0]
    return [Stretch(near[0], near[-1], (), route, np.array(along_m[near[0] : near[-1] + 1]))]


def print_drive(drive: Path, osm: OsmMap, route: Path | None, every: int) -> None:
    """Print the rows of one drive."""
    poses = {number: osm.frame.map_from_ego(place) for number, place in KittiRawDrive(drive).truths().items()}
    track = DrivenTrack.of(list(poses.values()))
    index_of = dict(zip(poses, track.index_of, strict=True))
    asked = estimates(poses, every, np.random.default_rng(0))
    graph = RoadGraph.of(osm)
    by_map = Tally()
    count_drive(by_map, graph, asked, track, index_of)
    print_rows(f"{drive.name}, road of {osm.name}", by_map)
    exact = Tally()
    for stretch in matched(graph, track.poses):
        count_exact(exact, [stretch], asked, track, index_of)
    print_rows("  the same at the true pose", exact, baselines=False)
    if route is not None:
        by_file = Tally()
        count_exact(by_file, along_file(route, osm.frame, track), asked, track, index_of)
        print_rows(f"  route {route.name} at the true pose", by_file)


def count_exact(
    tally: Tally,
    stretches: list[Stretch],
    asked: list[ScoredEstimate],
    track: DrivenTrack,
    index_of: dict[int, int],
) -> None:
    """Count frames at their true poses."""
    for stretch in stretches:
        for estimate in asked:
            index = index_of[estimate.frame]
            driven = track.path_from(estimate.truth, index)
            if driven is not None and stretch.first <= index <= stretch.last:
                exact = estimate.truth
                tally.add(paths_of(stretch, index, exact, np.diag([0.01, 0.01, 1e-5]), exact), driven)


def print_rows(title: str, tally: Tally, *, baselines: bool = True) -> None:
    """Final, average displacement, hit and Hausdorff of the first 16 m; of turning frames after the bar."""
    section = tally.section()
    if section is None:
        print(f"{title}: nothing to score ({tally.left_out})")  # noqa: T201
        return
    rows = {"moved to the vehicle": section}
    if baselines:
        rows |= section["baselines"]  # type: ignore[operator]
    print(f"{title}: {section['frames']} frames, {section['turning']['frames']} turning")  # type: ignore[index] # noqa: T201
    for name, each in rows.items():
        near, turning = each["path_16m"], each["turning"]  # type: ignore[index]
        cells = [f"{near[key]:.2f}" for key in ("fde_m", "ade_m", "hit", "hausdorff_m")]
        print(f"    {name:22} {' / '.join(cells)} | {turning['fde_m']:.2f}, {turning['hit']:.2f}")  # noqa: T201
    if baselines and section["junctions"]["count"]:  # type: ignore[index]
        print(f"    junctions {section['junctions']}; {section['along_path_deg']}")  # type: ignore[index] # noqa: T201


def main() -> None:
    """Print the rows of each drive on the first map that covers its beginning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drives", nargs="+", type=Path, metavar="DRIVE")
    parser.add_argument("--map", action="append", required=True, type=Path, dest="maps")
    parser.add_argument("--route", type=Path)
    parser.add_argument("--every", type=int, default=10)
    words = parser.parse_args()
    maps = [read_osm(path) for path in words.maps]
    for drive in words.drives:
        first = next(iter(KittiRawDrive(drive).truths().values()))
        for osm in maps:
            x_m, y_m = osm.frame.metres_from_degrees(first.lat_deg, first.lon_deg)
            west_m, south_m, east_m, north_m = osm.bounds_m
            if west_m <= x_m <= east_m and south_m <= y_m <= north_m:
                print_drive(drive, osm, words.route, words.every)
                break
        else:
            raise DataError(f"{drive} lies on none of the maps")


if __name__ == "__main__":
    try:
        main()
    except DataError as error:
        sys.exit(f"error: {error}")
