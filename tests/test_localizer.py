import math

import numpy as np
import pytest
import torch

from bevfusion.build import build_model
from bevfusion.checkpoint import save_checkpoint
from bevfusion.config import Config, ConfigError
from bevfusion.direction.guide import Guide
from bevfusion.filters.search import RoadArea
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.localizer import CHECKPOINT_NAME, NetworkLocator, describe_checkpoint, filter_config, open_locator
from bevfusion.maps.schema import layer_index
from bevfusion.sequence import sequence_localizer
from bevfusion.structures import DataError, Scan


@pytest.fixture(scope="module")
def config() -> Config:
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    return base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 16.0}), "model": model})


@pytest.fixture
def checkpoint(tmp_path, config) -> str:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / CHECKPOINT_NAME, build_model(config), config, {"commit": "abc"})
    return str(tmp_path)


def test_the_estimate_lies_in_the_window_of_the_prior(town_drive, checkpoint):
    drive, source = town_drive
    truth = source.frame.map_from_ego(drive[0].truth)
    prior = SE2(truth.x_m + 3.3, truth.y_m - 2.2, truth.yaw_rad + 0.05)
    estimate = open_locator(checkpoint, source).locate(drive[0].scan, prior, 5.0, math.radians(10.0))
    assert abs(estimate.map_from_ego.x_m - prior.x_m) <= 7.5
    assert abs(estimate.map_from_ego.y_m - prior.y_m) <= 7.5
    assert abs(estimate.prior.x_m - prior.x_m) <= 0.5 + 1e-6
    assert estimate.belief is not None
    assert float(estimate.belief.log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    assert np.linalg.eigvalsh(estimate.covariance).min() > 0.0
    assert 0.0 <= estimate.confidence <= 1.0


def test_an_offline_pose_does_not_depend_on_what_came_before(town_drive, checkpoint):
    drive, source = town_drive
    truth = [source.frame.map_from_ego(frame.truth) for frame in drive]
    locator = open_locator(checkpoint, source)
    for frame, pose in zip(drive, truth, strict=True):
        locator.locate(frame.scan, pose, 5.0, 0.1)
    again = locator.locate(drive[0].scan, truth[0], 5.0, 0.1).map_from_ego
    assert again == open_locator(checkpoint, source).locate(drive[0].scan, truth[0], 5.0, 0.1).map_from_ego


def test_any_heading_covers_the_circle(town_drive, checkpoint):
    drive, source = town_drive
    truth = source.frame.map_from_ego(drive[0].truth)
    belief = open_locator(checkpoint, source).locate(drive[0].scan, truth, 3.0, math.pi).belief
    assert belief is not None
    assert belief.log_prob.shape[1] == 180


@pytest.mark.parametrize("xyz", [np.zeros((0, 3)), np.full((5, 3), 500.0)])
def test_a_scan_with_nothing_in_range_is_one_line(town_drive, checkpoint, xyz):
    _, source = town_drive
    scan = Scan(xyz.astype(np.float32), np.zeros(len(xyz), np.float32))
    with pytest.raises(DataError, match="points lies within"):
        open_locator(checkpoint, source).locate(scan, SE2(), 5.0, 0.1)


def test_a_checkpoint_describes_itself(checkpoint):
    described = describe_checkpoint(checkpoint)
    assert described["commit"] == "abc"
    assert len(described["sha256"]) == 64


def test_a_missing_checkpoint_is_named(town_drive, tmp_path):
    with pytest.raises(DataError, match="no such checkpoint"):
        open_locator(str(tmp_path / "none.safetensors"), town_drive[1])


def test_weights_of_another_network_are_refused(town_drive, config, tmp_path):
    path = tmp_path / CHECKPOINT_NAME
    save_checkpoint(path, torch.nn.Linear(2, 2), config, {})
    with pytest.raises(DataError, match="another architecture"):
        open_locator(str(path), town_drive[1])


def test_a_map_is_encoded_once(town_drive, config):
    drive, source = town_drive
    torch.manual_seed(0)
    localizer = NetworkLocator(build_model(config), config, source)
    calls = []
    localizer.model.map_encoder.register_forward_hook(lambda *_: calls.append(1))
    truth = source.frame.map_from_ego(drive[0].truth)
    sequence = sequence_localizer(localizer, source)
    sequence.start(truth, 5.0, 0.1)
    for _ in range(3):
        sequence.step(drive[0])
    localizer.locate(drive[0].scan, truth, 5.0, 0.1)
    assert len(calls) == 1


def scores_at(localizer: NetworkLocator, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> dict:
    """Score of the matching by pose of the map frame, in whole centimetres and milliradians."""
    prediction, centre = localizer.predict(scan, prior, offset_m, offset_rad)
    window = prediction.volume.window
    found = {}
    for r, yaw_rad in enumerate(window.yaw_offsets_rad()):
        for y, y_m in enumerate(window.shifts_m()):
            for x, x_m in enumerate(window.shifts_m()):
                place = (round(100 * (centre.x_m + x_m)), round(100 * (centre.y_m + y_m)))
                turn = round(1000 * wrap_angle(centre.yaw_rad + yaw_rad))
                found[(*place, turn)] = float(prediction.scores[0, r, y, x])
    return found


def test_a_pose_has_one_score_whatever_the_window_the_cache_and_what_was_asked_before(town_drive, config):
    drive, source = town_drive
    torch.manual_seed(0)
    model = build_model(config)
    model.map_encoder.apply(  # fresh statistics are 0 and 1, which would hide what a tile's border does
        lambda part: part.running_mean.normal_() if isinstance(part, torch.nn.BatchNorm2d) else None
    )
    truth = source.frame.map_from_ego(drive[0].truth)
    step_rad = math.radians(2.0)
    first = scores_at(NetworkLocator(model, config, source), drive[0].scan, truth, 5.0, 3 * step_rad)
    busy = NetworkLocator(model, config, source)
    for away_m, turned, offset_m in ((3.3, 0, 5.0), (-6.8, 1, 8.0), (40.0, -2, 5.0), (1.0, 2, 11.0)):
        prior = SE2(truth.x_m + away_m, truth.y_m - 0.5 * away_m, truth.yaw_rad + turned * step_rad)
        again = scores_at(busy, drive[0].scan, prior, offset_m, 3 * step_rad)
        shared = first.keys() & again.keys()
        assert len(shared) > 100 or away_m > 20.0
        assert all(again[pose] == pytest.approx(first[pose], abs=1e-4) for pose in shared)


def test_a_search_of_the_whole_map_says_of_a_pose_what_a_window_says(town_drive, config):
    drive, source = town_drive
    truth = source.frame.map_from_ego(drive[0].truth)
    torch.manual_seed(0)
    locator = NetworkLocator(build_model(config), config, source)
    bounds_m = (truth.x_m - 70.0, truth.y_m - 40.0, truth.x_m + 30.0, truth.y_m + 50.0)
    search = locator.map_search(RoadArea(source.draw, bounds_m, layer_index("road")))
    found = search.candidates(drive[0].scan)
    assert len(found) > 20
    assert max(candidate.score for candidate in found) == found[0].score
    for candidate in (found[0], found[-1]):
        pose = candidate.pose
        prediction, centre = locator.predict(drive[0].scan, pose, 3.0, math.pi)
        window = prediction.volume.window
        r, y, x = window.bins_from_offset(SE2(pose.x_m - centre.x_m, pose.y_m - centre.y_m, 0.0))
        assert (y, x) == (round(y), round(x))  # on the same lattice
        scores = prediction.scores[0]
        # the search keeps the map in half floats
        assert float(scores[round(r), round(y), round(x)]) == pytest.approx(
            candidate.score, abs=2e-3 * float(scores.abs().max())
        )
        assert bounds_m[0] - 1.0 <= pose.x_m <= bounds_m[2] + 1.0
        assert bounds_m[1] - 1.0 <= pose.y_m <= bounds_m[3] + 1.0
    assert search.candidates(Scan(np.full((5, 3), 900.0, np.float32), np.zeros(5, np.float32))) == []


def test_the_estimate_tells_how_likely_its_place_is(town_drive, config):
    drive, source = town_drive
    torch.manual_seed(0)
    localizer = NetworkLocator(build_model(config), config, source)
    truth = source.frame.map_from_ego(drive[0].truth)
    prediction, _ = localizer.predict(drive[0].scan, truth, 5.0, 0.1)
    estimate = localizer.locate(drive[0].scan, truth, 5.0, 0.1)
    assert estimate.probability_here == pytest.approx(float(prediction.here.sigmoid()))
    assert 0.0 < estimate.probability_here < 1.0


def test_a_sequence_is_followed_as_the_checkpoint_says_or_as_told(tmp_path, config):
    told = config.model_validate(config.model_dump() | {"filter": {"limits": {"speak": 0.7}}})
    save_checkpoint(tmp_path / CHECKPOINT_NAME, build_model(told), told, {})
    assert filter_config(str(tmp_path)).changes() == {"limits.speak": 0.7}
    both = filter_config(str(tmp_path), ["filter.noise.floor_m=0.5"])
    assert both.changes() == {"noise.floor_m": 0.5, "limits.speak": 0.7}
    assert filter_config("classical", ["filter.evidence.hazard=0.01"]).evidence.hazard == 0.01


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("filter.limits.spaek=0.7", "did you mean 'filter.limits.speak'"),
        ("filter.limits.speak=1.5", "filter.limits.speak: .*less than 1"),
        ("filter.noise.floor_m=a", "filter.noise.floor_m"),
        ("train.steps=3", "expected filter.SECTION.KEY=VALUE"),
        ("filter.limits", "expected key.sub=value"),
    ],
)
def test_settings_of_the_filter_that_make_no_sense_are_named(override, message):
    with pytest.raises(ConfigError, match=message):
        filter_config("classical", [override])


def test_an_estimate_can_be_asked_for_the_direction_where_the_checkpoint_has_learned_it(town_drive, config, tmp_path):
    """The pose is the same with the head and without; a fresh head gives the map's way back."""
    drive, source = town_drive
    heads = config.model.heads.model_copy(update={"direction": True})
    with_head = config.model_copy(update={"model": config.model.model_copy(update={"heads": heads})})
    torch.manual_seed(0)
    model = build_model(with_head)
    truth = source.frame.map_from_ego(drive[0].truth)
    found = NetworkLocator(model, with_head, source).locate(drive[0].scan, truth, 5.0, 0.1)
    model.direction = None
    plain = NetworkLocator(model, config, source).locate(drive[0].scan, truth, 5.0, 0.1)
    assert found.map_from_ego == plain.map_from_ego
    assert plain.direction is None
    assert found.direction is not None
    ahead = np.stack([np.arange(2.0, 14.0, 2.0), np.zeros(6)], axis=1)
    way = found.direction.follow(ahead, np.zeros(6), 0.5, 0.02)
    assert way.xy_m == pytest.approx(ahead, abs=1e-4)
    assert Guide(source).paths(truth, found.covariance, found.direction)[0].std_rad[0] == pytest.approx(math.exp(-2.0))
