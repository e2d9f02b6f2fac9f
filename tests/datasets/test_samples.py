import math

import numpy as np
import pytest
import torch

from bevfusion.datasets.samples import PoseSamples, Variation, collate
from bevfusion.geometry.grid import Grid
from bevfusion.lidar.ground import height_above_ground
from bevfusion.lidar.rasterize import bev_channels
from bevfusion.maps.schema import layer_index
from bevfusion.structures import DataError

BEV, TILE = Grid(80, 80, 0.5), Grid(160, 160, 0.5)
SLICES = (0.5, 1.5, 4.0)


def samples(town_drive, variation: Variation, seed: int = 0, offset_m: float = 10.0) -> PoseSamples:
    return PoseSamples(
        [town_drive],
        bev_grid=BEV,
        tile_grid=TILE,
        slices_m=SLICES,
        offset_m=offset_m,
        offset_rad=math.radians(10.0),
        variation=variation,
        seed=seed,
    )


ALL = Variation(True, True, 0.3, 0.3, 0.5, 5, 0.5, 0.5, 3)


def test_a_sample_depends_on_seed_and_number_alone(town_drive):
    first, second = samples(town_drive, ALL).spanning(range(100)), samples(town_drive, ALL).spanning(range(40, 50))
    for field in ("bev", "tile", "prior_yaw_rad", "truth"):
        torch.testing.assert_close(getattr(first[43], field), getattr(second[3], field), rtol=0, atol=0)
    other = samples(town_drive, ALL, seed=1).spanning(range(100))[43]
    assert (other.tile - first[43].tile).abs().max() > 0


def test_the_contrast_of_the_ground_comes_with_a_sample_that_is_asked_for_it(town_drive):
    plain = samples(town_drive, Variation())
    asked = PoseSamples(
        [town_drive],
        bev_grid=BEV,
        tile_grid=TILE,
        slices_m=SLICES,
        offset_m=10.0,
        offset_rad=math.radians(10.0),
        variation=Variation(),
        seed=0,
        contrast_stride=2,
    )
    assert plain[0].contrast is None
    batch = collate([asked[0], asked[1]])
    assert batch.contrast is not None
    assert tuple(batch.contrast.shape) == (2, 3, BEV.height // 2, BEV.width // 2)
    assert float(batch.contrast[:, 0].mean()) > 0.05  # ground was seen
    assert batch.to("cpu").contrast is batch.contrast


def test_every_pass_takes_every_frame_once(town_drive):
    drive, _ = town_drive
    epochs = samples(town_drive, ALL).spanning(range(3 * len(drive)))
    names = [epochs.describe(i) for i in range(len(epochs))]
    for start in range(0, len(names), len(drive)):
        assert len(set(names[start : start + len(drive)])) == len(drive)
    assert names[: len(drive)] != names[len(drive) : 2 * len(drive)]


@pytest.mark.parametrize("variation", [Variation(), Variation(turn=True), Variation(mirror=True), ALL])
def test_the_truth_puts_the_scan_s_road_on_the_map_s_road(town_drive, variation: Variation):
    """Whatever the turn, mirror and offset, low points land on drawn road at the stated truth, and not beside it."""
    drawn = samples(town_drive, variation).spanning(range(12))
    on_road, beside = [], []
    for number in range(12):
        sample = drawn[number]
        assert sample.truth is not None
        x_m, y_m, yaw_off_rad = sample.truth[0].tolist()
        yaw_rad = float(sample.prior_yaw_rad) + yaw_off_rad
        # The cells right ahead of and behind the vehicle are road, wherever the drive goes straight.
        ahead_m = np.array([[d, 0.0] for d in (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)])
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        for shift_m, hits in ((0.0, on_road), (15.0, beside)):
            points_m = ahead_m @ np.array([[c, s], [-s, c]]) + np.array([x_m - s * shift_m, y_m + c * shift_m])
            rows, cols = np.round(TILE.cells_from_metres(points_m)).astype(int).T
            hits.extend((sample.tile[0, layer_index("road"), rows, cols] > 0).tolist())
    assert np.mean(on_road) > 0.9
    assert np.mean(beside) < 0.6


def test_offsets_fill_the_window(town_drive):
    truths = torch.cat(
        [s.truth for s in map(samples(town_drive, Variation()).spanning(range(60)).__getitem__, range(60))]
    )
    assert truths[:, :2].abs().max() <= 10.0
    assert truths[:, :2].abs().max(0).values.min() > 7.0
    assert math.radians(7.0) < truths[:, 2].abs().max() <= math.radians(10.0)
    assert (truths.mean(0)[:2].abs() < 2.5).all()


def test_without_reflectance_the_intensity_planes_are_empty(town_drive):
    sample = samples(town_drive, Variation(intensity_dropout=1.0))[0]
    planes = dict(zip(bev_channels(SLICES), sample.bev[0], strict=True))
    assert planes["intensity"].abs().sum() == 0.0
    assert planes["ground_intensity"].abs().sum() == 0.0
    assert planes["ground"].sum() > 0.0


def test_every_other_sample_is_of_several_scans(town_drive):
    """Each adds points of its own; a frame at the start of its drive has few before it, or none."""
    drive, _ = town_drive
    one, more = (samples(town_drive, Variation(scans=scans)).spanning(range(4 * len(drive))) for scans in (1, 3))
    single = np.array([float(one[k].bev[:, 0].sum()) for k in range(len(one))])
    several = np.array([float(more[k].bev[:, 0].sum()) for k in range(len(more))])
    assert (several >= single - 1e-3).all()
    assert 0.3 < (several > single + 1.0).mean() < 0.6


def test_dropped_kinds_leave_the_streets_of_the_tile(town_drive):
    whole = samples(town_drive, Variation()).spanning(range(20))
    sparse = samples(town_drive, Variation(map_dropout=1.0)).spanning(range(20))
    road, house = layer_index("road"), layer_index("building")
    roads = [torch.equal(whole[i].tile[:, road], sparse[i].tile[:, road]) for i in range(20)]
    houses = [float(sparse[i].tile[:, house].sum() / whole[i].tile[:, house].sum()) for i in range(20)]
    assert all(roads)
    assert set(houses) == {0.0, 1.0}  # on some tiles gone, on the others whole


def test_collate_stacks(town_drive):
    drawn = samples(town_drive, Variation())
    batch = collate([drawn[0], drawn[1]])
    assert batch.bev.shape == (2, len(bev_channels(SLICES)), 80, 80)
    assert batch.tile.shape[0] == 2
    assert batch.tile.abs().max() <= 1.0
    assert batch.truth is not None
    assert batch.truth.shape == (2, 3)


def test_no_drive_at_all_is_refused():
    with pytest.raises(DataError, match="at least one frame"):
        PoseSamples(
            [],
            bev_grid=BEV,
            tile_grid=TILE,
            slices_m=SLICES,
            offset_m=1.0,
            offset_rad=0.1,
            variation=Variation(),
            seed=0,
        )


def test_simulated_ground_is_found(town_drive):
    drive, _ = town_drive
    for frame in drive:
        road = (frame.scan.labels & 0xFFFF) == 40
        near = np.hypot(frame.scan.xyz[:, 0], frame.scan.xyz[:, 1]) < 25.0
        assert np.median(np.abs(height_above_ground(frame.scan.xyz)[road & near])) < 0.15
