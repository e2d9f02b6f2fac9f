"""The search of a city against the same search written plainly: every corner, every heading, one sum each."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.heads import city_search
from bevfusion.heads.city_search import AllRound, CityIndex, CitySearch, ScanTemplate, ScoredPose
from bevfusion.heads.matching import disc, match
from bevfusion.heads.matching_reference import rotate_all
from bevfusion.structures import DataError, Scan

GRID = Grid(16, 16, 1.0)
HEADINGS = 72
FIRST = (-20, 7)  # the city does not begin in the map's origin
HEIGHT, WIDTH = 90, 120
CHANNELS = 3


class SmoothCity:
    """Features that change over a few metres, as those of a network do; more of the map than is searched."""

    margin = 40
    template_grid = GRID
    headings = HEADINGS

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        size = (HEIGHT + 2 * self.margin, WIDTH + 2 * self.margin)
        rough = torch.randn(1, CHANNELS, *size, generator=generator)
        smooth = F.avg_pool2d(F.avg_pool2d(rough, 5, 1, 2), 5, 1, 2)[0]
        self.features = smooth / smooth.std()
        self.read: list[tuple[int, int, int, int]] = []

    def map_features(self, row0: int, col0: int, height: int, width: int) -> torch.Tensor:
        self.read.append((row0, col0, height, width))
        wide = F.pad(self.features, [200] * 4)  # nothing is drawn beyond
        top, left = row0 - FIRST[0] + self.margin + 200, col0 - FIRST[1] + self.margin + 200
        return wide[:, top : top + height, left : left + width]

    def map_road(self, row0: int, col0: int, height: int, width: int) -> torch.Tensor:
        return torch.zeros(height, width)

    def scan_template(self, scan: Scan) -> ScanTemplate:
        """Of a scan that tells where it was taken: row, column and heading are its only point."""
        if not len(scan):
            raise DataError("no point in range")
        row, col, yaw_rad = (float(value) for value in scan.xyz[0])
        return self.scan(round(row), round(col), yaw_rad, noise=0.1)

    def scan(self, row: int, col: int, yaw_rad: float, noise: float) -> ScanTemplate:
        """What is seen from a corner: the map turned into the ego frame, within the disc, with noise."""
        around = self.map_features(row - 20, col - 20, 40, 40)
        centres_m = torch.from_numpy(GRID.centres_m()).float()
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        turned_m = torch.stack(
            [
                cos * centres_m[..., 0] - sin * centres_m[..., 1],
                sin * centres_m[..., 0] + cos * centres_m[..., 1],
            ],
            dim=-1,
        )
        seen = F.grid_sample(around[None], (turned_m / 20.0)[None], align_corners=False)[0]
        valid = disc(GRID)
        generator = torch.Generator().manual_seed(row * 1000 + col)
        cells = (seen + noise * torch.randn(seen.shape, generator=generator)) * valid
        return ScanTemplate(cells, float(valid.sum()), math.log(20.0))


def exhaustive(city: SmoothCity, places: torch.Tensor, scan: ScanTemplate) -> torch.Tensor:
    """Scores (R, H, W) of every corner and heading; -inf where nothing is searched."""
    yaw_rad = torch.arange(HEADINGS)[None] * (2.0 * math.pi / HEADINGS)
    templates = rotate_all(scan.cells[None], yaw_rad, GRID)[0]
    half = GRID.height // 2
    cells = city.map_features(FIRST[0] - half, FIRST[1] - half, HEIGHT - 1 + 2 * half, WIDTH - 1 + 2 * half)
    scores = F.conv2d(cells[None], templates)[0] * math.exp(scan.log_scale) / scan.count
    return scores.masked_fill(~places, -math.inf)


def streets() -> torch.Tensor:
    """Two ways across, and one up."""
    places = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    places[20:28], places[60:67], places[:, 80:88] = True, True, True
    return places


def at(scores: torch.Tensor, pose: ScoredPose) -> float:
    heading = round(pose.yaw_rad / (2.0 * math.pi / HEADINGS)) % HEADINGS
    return float(scores[heading, pose.row - FIRST[0], pose.col - FIRST[1]])


@pytest.mark.parametrize("seed", range(2))
def test_the_best_is_that_of_the_exhaustive_search_and_scores_are_its_scores(seed: int) -> None:
    city, places = SmoothCity(seed), streets()
    index = CityIndex(city, places, FIRST)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        row, col = (int(i) for i in places.nonzero()[torch.randint(int(places.sum()), (1,), generator=generator)[0]])
        yaw_rad = float(torch.rand(1, generator=generator)) * 2.0 * math.pi
        scan = city.scan(FIRST[0] + row, FIRST[1] + col, yaw_rad, noise=0.5)
        scores = exhaustive(city, places, scan)
        found = index.best(scan)
        assert found[0].score == pytest.approx(float(scores.max()), abs=2e-2)
        assert at(scores, found[0]) == pytest.approx(float(scores.max()), abs=2e-2)
        assert math.hypot(found[0].row - FIRST[0] - row, found[0].col - FIRST[1] - col) <= 1.5
        for pose in found:
            assert pose.score == pytest.approx(at(scores, pose), abs=2e-2)  # half floats are kept of the map
        assert [pose.score for pose in found] == sorted((pose.score for pose in found), reverse=True)


def test_all_that_stands_out_is_found() -> None:
    city, places = SmoothCity(9), streets()
    scan = city.scan(FIRST[0] + 24, FIRST[1] + 40, 1.0, noise=2.0)
    scores = exhaustive(city, places, scan)
    found = CityIndex(city, places, FIRST).best(scan)
    around = F.pad(torch.cat([scores[-1:], scores, scores[:1]]), [1] * 4, value=-math.inf)
    peaks = (scores == F.max_pool3d(around[None], 3, 1)[0]) & places
    assert int(peaks.sum()) > 20
    highest = sorted(((float(scores[tuple(i)]), *i.tolist()) for i in peaks.nonzero()), reverse=True)
    for score, r, y, x in highest[:10]:
        yaw_rad = r * 2.0 * math.pi / HEADINGS
        near = [
            pose.score
            for pose in found
            if math.hypot(pose.row - FIRST[0] - y, pose.col - FIRST[1] - x) <= 5.0
            and math.cos(pose.yaw_rad - yaw_rad) > math.cos(math.radians(20.0))
        ]
        assert near, (y, x, yaw_rad)  # one place, by `filters.search.is_near`
        assert max(near) >= 0.95 * score  # a better heading there may hide one that is 5 to 20 degrees off


def test_only_what_is_searched_is_found() -> None:
    city, places = SmoothCity(3), streets()
    scan = city.scan(FIRST[0] + 45, FIRST[1] + 30, 2.0, noise=0.0)  # between the streets
    found = CityIndex(city, places, FIRST).best(scan)
    assert found
    assert all(bool(places[pose.row - FIRST[0], pose.col - FIRST[1]]) for pose in found)
    everywhere = CityIndex(city, torch.ones(HEIGHT, WIDTH, dtype=torch.bool), FIRST).best(scan)[0]
    assert (everywhere.row - FIRST[0], everywhere.col - FIRST[1]) == (45, 30)
    assert math.cos(everywhere.yaw_rad - 2.0) > math.cos(math.radians(5.0))


@pytest.mark.parametrize("corner", [(0, 0), (0, WIDTH - 1), (HEIGHT - 1, 0), (HEIGHT - 1, WIDTH - 1)])
def test_the_border_is_searched_too(corner: tuple[int, int]) -> None:
    city = SmoothCity(5)
    scan = city.scan(FIRST[0] + corner[0], FIRST[1] + corner[1], -0.7, noise=0.2)
    best = CityIndex(city, torch.ones(HEIGHT, WIDTH, dtype=torch.bool), FIRST).best(scan)[0]
    assert (best.row - FIRST[0], best.col - FIRST[1]) == corner


def test_many_blocks_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    city, places = SmoothCity(6), streets()
    scan = city.scan(FIRST[0] + 62, FIRST[1] + 100, 0.3, noise=1.0)
    before = CityIndex(city, places, FIRST).best(scan, kept=40)
    monkeypatch.setattr(city_search, "fast_length", lambda least: least // 2)  # blocks of a few places
    city.read.clear()
    after = CityIndex(city, places, FIRST).best(scan, kept=40)
    assert len(city.read) > 10
    assert [pose[:3] for pose in after] == [pose[:3] for pose in before]


def test_what_lies_far_from_all_places_is_not_read_and_what_was_read_is_kept() -> None:
    city = SmoothCity(7)
    places = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    scan = city.scan(FIRST[0] + 3, FIRST[1] + 4, 1.0, 0.0)
    city.read.clear()
    assert CityIndex(city, places, FIRST).best(scan) == []
    assert city.read == []
    places[3, 4] = True
    index = CityIndex(city, places, FIRST)
    found = index.best(scan)
    assert {pose[:2] for pose in found} == {(FIRST[0] + 3, FIRST[1] + 4)}
    assert len(city.read) == 1
    assert index.best(scan) == found
    assert len(city.read) == 1


def test_steps_are_counted() -> None:
    city, places = SmoothCity(8), streets()
    index = CityIndex(city, places, FIRST)
    counts = []
    for _ in range(2):
        seen: list[tuple[int, int]] = []
        counts.append(len(index))
        index.best(city.scan(0, 90, 0.0, 0.0), on_step=lambda done, count, seen=seen: seen.append((done, count)))
        assert seen == [(i + 1, counts[-1]) for i in range(counts[-1])]
    assert counts[0] > counts[1]  # the map is read once


def test_a_search_that_was_stopped_goes_on() -> None:
    city, places = SmoothCity(8), streets()
    scan = city.scan(FIRST[0] + 24, FIRST[1] + 33, 0.9, noise=0.3)
    expected = CityIndex(city, places, FIRST).best(scan)

    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    index = CityIndex(city, places, FIRST)
    with pytest.raises(KeyboardInterrupt):
        index.best(scan, on_step=stop)
    assert index.best(scan) == expected


class Area:
    """Streets along the rows and columns of `streets`, in metres."""

    def __init__(self, bounds_m: tuple[float, float, float, float]) -> None:
        self.bounds_m = bounds_m

    def near_road(self, grid: Grid, centre: SE2) -> np.ndarray:
        xy_m = centre.apply(grid.centres_m())
        on_street: np.ndarray = (np.abs(xy_m[..., 1]) < 4.5) | (np.abs(xy_m[..., 0] - 30.0) < 3.5)
        return on_street


def test_poses_are_those_of_the_map_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    city, area = SmoothCity(4), Area((7.3, -19.5, 126.0, 69.9))
    rows, cols = np.meshgrid(np.arange(HEIGHT) + FIRST[0], np.arange(WIDTH) + FIRST[1], indexing="ij")
    places = torch.from_numpy((np.abs(rows) < 4.5) | (np.abs(cols - 30) < 3.5))
    search = CitySearch(city, area)
    for row, col, yaw_rad in [(2, 90, 2.5), (60, 31, -1.0), (-3, 8, -3.0)]:
        scan = Scan(np.array([[row, col, yaw_rad]], np.float32), np.zeros(1, np.float32))
        scores = exhaustive(city, places, city.scan_template(scan))
        r, y, x = (int(i) for i in torch.unravel_index(scores.argmax(), scores.shape))
        best = search.candidates(scan)[0]
        assert (best.pose.x_m, best.pose.y_m) == (x + FIRST[1], y + FIRST[0])
        assert abs(wrap_angle(best.pose.yaw_rad - r * 2.0 * math.pi / HEADINGS)) < 1e-6
        assert -math.pi <= best.pose.yaw_rad <= math.pi
        assert best.score == pytest.approx(float(scores.max()), abs=2e-2)
    monkeypatch.setattr(city_search, "_DRAWN_AT_ONCE", 37)
    assert CitySearch(city, area).candidates(scan) == search.candidates(scan)


def test_a_scan_that_says_nothing_has_no_candidates() -> None:
    search = CitySearch(SmoothCity(4), Area((10.0, -10.0, 50.0, 40.0)))
    assert search.candidates(Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))) == []


def test_a_city_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(city_search, "MAX_CELLS", 1000)
    with pytest.raises(DataError, match="cut out the part"):
        CitySearch(SmoothCity(4), Area((7.0, -20.0, 126.0, 70.0)))


@pytest.mark.parametrize("headings", [72, 50])
def test_templates_turned_all_round_are_those_turned_one_by_one(headings: int) -> None:
    template = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    yaw_rad = torch.arange(headings)[None] * (2.0 * math.pi / headings)
    torch.testing.assert_close(
        AllRound(template, headings, GRID)[range(headings)],
        rotate_all(template[None], yaw_rad, GRID)[0],
        atol=1e-5,
        rtol=1e-4,
    )


def test_scores_are_those_of_the_pose_volume() -> None:
    # same lattice, same headings, same sign of a turn: the window of a prior holds what the search says of a pose
    city, places = SmoothCity(2), streets()
    scan = city.scan(FIRST[0] + 24, FIRST[1] + 33, 0.9, noise=0.3)
    pose = CityIndex(city, places, FIRST).best(scan)[0]
    half = GRID.height // 2 + 4
    window = city.map_features(pose.row - half, pose.col - half, 2 * half, 2 * half)
    yaw_rad = torch.tensor([[pose.yaw_rad - 0.1, pose.yaw_rad]])
    volume = match(scan.cells[None], window[None], yaw_rad, GRID, 4)[0] * math.exp(scan.log_scale) / scan.count
    assert float(volume[1, 4, 4]) == pytest.approx(pose.score, abs=2e-2)
