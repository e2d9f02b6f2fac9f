import numpy as np
import pytest

from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import open_localizer
from bevfusion.ros.visualization import (
    FREE,
    OCCUPIED,
    UNKNOWN,
    attention_picture,
    belief_slice,
    colour_of,
    map_segments_m,
    occupancy_of_map,
)
from tests.ros.fakes import FakeMap, estimate


def test_occupancy_lies_where_the_map_does():
    occupancy = occupancy_of_map(FakeMap(), 0.5)
    assert occupancy.cells.shape == (800, 800)  # more than one block

    def at(x_m: float, y_m: float) -> int:
        row, col = int((y_m - occupancy.origin.y_m) / 0.5), int((x_m - occupancy.origin.x_m) / 0.5)
        return int(occupancy.cells[row, col])

    for x_m in (-199.0, 55.0, 57.0, 199.0):
        assert at(x_m, 0.2) == FREE
        assert at(x_m, 20.2) == OCCUPIED
        assert at(x_m, -50.0) == UNKNOWN


def test_a_huge_map_gets_coarser_cells():
    occupancy = occupancy_of_map(FakeMap(), 0.01)
    assert occupancy.cells.size <= 26_000_000
    assert occupancy.cell_m == pytest.approx(0.08)


def test_segments_of_a_map_with_and_without_vectors(town_drive):
    _, source = town_drive
    segments_m = map_segments_m(source)
    assert {"road", "building"} <= set(segments_m)
    occupancy = occupancy_of_map(source, 0.5)
    for kind, value in (("road", FREE), ("building", OCCUPIED)):
        assert len(colour_of(kind)) == 3
        ends_m = segments_m[kind]
        middles_m = ends_m.mean(axis=1)[(np.abs(ends_m) < 590.0).all(axis=(1, 2))]
        cols, rows = ((middles_m - (occupancy.origin.x_m, occupancy.origin.y_m)) / 0.5).astype(int).T
        assert (occupancy.cells[rows, cols] == value).mean() > 0.9
    road = map_segments_m(FakeMap())["road"].reshape(-1, 2)
    assert np.abs(road[:, 1]).max() == pytest.approx(3.0, abs=0.6)


def test_the_belief_peaks_at_the_pose_of_the_volume():
    found = belief_slice(estimate(SE2()))
    row, col = np.unravel_index(int(found.cells.argmax()), found.cells.shape)
    # bin y 6, x 3 of 9: shifts of 1.0 and -0.5 m from the prior at (10, 20)
    assert found.origin.x_m + (col + 0.5) * found.cell_m == pytest.approx(9.5)
    assert found.origin.y_m + (row + 0.5) * found.cell_m == pytest.approx(21.0)
    assert found.cells.max() == OCCUPIED


def test_the_picture_of_the_attention_has_ahead_up(town_drive):
    drive, source = town_drive
    locator = open_localizer("default", source)
    truth = source.frame.map_from_ego(drive[0].truth)
    scan = drive[0].scan
    ahead = scan.select((scan.xyz[:, 0] > 0) & (np.abs(scan.xyz[:, 1]) < 10.0))
    picture = attention_picture(locator, ahead, locator.locate(ahead, truth, 5.0, 0.2))
    height = len(picture)
    bright = picture.astype(int).sum(axis=2)
    assert bright[: height // 2].sum() > 3 * bright[height // 2 :].sum()
