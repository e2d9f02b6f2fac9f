"""Features that are kept, and the head that learns from them: the same as what the whole network says."""

import math

import numpy as np
import pytest
import torch

from bevfusion.build import build_model
from bevfusion.config import Config
from bevfusion.datasets.directions import way_tensors
from bevfusion.direction.road_graph import road_graph_of
from bevfusion.direction.targets import AS_MATCHED, Asking, DrivenWay, Ways
from bevfusion.fusion.attend import Scene as Surroundings
from bevfusion.geometry.grid import Grid
from bevfusion.lidar.voxelize import scan_input
from bevfusion.maps.tiles import TileStore
from bevfusion.structures import Batch, DirectionSample, FieldTruth
from bevfusion.training.direction_features import Changes, DirectionFeatures, FeatureFolder, Scene, write_features
from bevfusion.training.direction_head import HeadTraining, dropped, read_out, train_direction_head, truth_of, way_of


@pytest.fixture(scope="module")
def config() -> Config:
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate(
        {"channels": 8, "lidar": small, "map": {"width": 8, "levels": 3}, "heads": {"direction": True}}
    )
    return base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 16.0}), "model": model})


@pytest.fixture(scope="module")
def made(town_drive, config, tmp_path_factory):
    """A network, the ways of a drive, and its features."""
    drive, source = town_drive
    torch.manual_seed(0)
    model = build_model(config).eval()
    poses = [source.frame.map_from_ego(frame.truth) for frame in drive]
    ahead = poses[-1]
    # a drive of few frames goes on straight, so that there is a way to learn
    more = [
        type(ahead)(ahead.x_m + d * math.cos(ahead.yaw_rad), ahead.y_m + d * math.sin(ahead.yaw_rad), ahead.yaw_rad)
        for d in (10.0, 20.0, 30.0)
    ]
    way = DrivenWay.through([*poses, *more])
    ways = Ways(way, road_graph_of(source))
    scenes = [Scene(frame.scan, pose, way.index_of(pose)) for frame, pose in zip(drive, poses, strict=True)]
    folder = tmp_path_factory.mktemp("features")
    features = DirectionFeatures(model, source, config.bev.slices_m)
    grid, channels = model.feature_grid, config.model.channels
    maker = iter([("town", features, ways, iter(scenes))])
    write_features(folder, maker, Asking(), Changes(traffic=0.0, sparse_map=0.0, questions=3), 2, grid, channels)
    return model, ways, scenes, FeatureFolder(folder)


def test_what_is_kept_of_a_sample_is_what_the_network_makes_of_it(made, config, town_drive):
    """The towers ran in bfloat16 and numbers are kept in half precision: that is all that differs."""
    model, ways, scenes, _ = made
    torch.nn.init.normal_(model.direction.tell.weight, std=0.1)
    rng = np.random.default_rng(4)
    question = ways.ask(scenes[0].map_from_ego, scenes[0].index, AS_MATCHED, rng)
    asked = scenes[0].map_from_ego @ question.ego_from_asked
    maker = DirectionFeatures(model, town_drive[1], config.bev.slices_m)
    lidar, seen = maker.scan(scenes[0].scan)
    seen_map, road = maker.map(asked)
    with torch.inference_mode():
        fused = model.fusion(lidar[None], seen_map[None], Surroundings(seen[None], road[None]))
        kept = model.direction(fused.joint, seen[None], way_tensors(question, model.feature_grid))
        bev, _ = scan_input(scenes[0].scan, model.bev_grid, config.bev.slices_m, None)
        tile_grid = Grid.square(64.0, config.bev.cell_m)
        tile = TileStore(town_drive[1], tile_grid).tile(scenes[0].map_from_ego)
        here = tile.map_from_tile.inverse() @ asked
        layers = torch.from_numpy(tile.layers[None].astype(np.float32) / 127.0)
        sample = DirectionSample(
            torch.tensor([[here.x_m, here.y_m, 0.0]]), way_tensors(question, model.feature_grid), nothing(model)
        )
        batch = Batch(bev[None], layers, torch.tensor([here.yaw_rad], dtype=torch.float32), direction=sample)
        whole, _ = model.direction_field(model.encode_scan(batch), batch, model.map_encoder(layers))
    away = torch.rad2deg(kept.direction_rad - whole.direction_rad).abs()
    moved = torch.rad2deg(whole.direction_rad - way_tensors(question, model.feature_grid).direction_rad).abs()
    assert float(moved.mean()) > 1.0
    assert float(away.mean()) < 0.1 * float(moved.mean())


def nothing(model) -> FieldTruth:
    plane = torch.zeros(1, model.feature_grid.height, model.feature_grid.width)
    return FieldTruth(plane, plane, plane, plane, torch.zeros(1, 20, 2), torch.zeros(1))


def test_training_lowers_the_loss_and_leaves_fusion_as_it_is(made):
    model, _, _, features = made
    assert len(features) == 6
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = HeadTraining(steps=30, batch_size=4, warmup_steps=2, learning_rate=5e-3, bfloat16=False)
    network = train_direction_head(model.fusion, model.direction, features, options)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name  # copies have learned
    for name, value in network.fusion.state_dict().items():
        assert torch.equal(value, before[f"fusion.{name}"]), name
    batch = features.batch(range(6))
    fresh = train_direction_head(model.fusion, model.direction, features, HeadTraining(steps=0))
    known = batch["path"][:, :6]

    def away(trained) -> float:
        return float((read_out(trained, batch)[:, :6] - known).norm(dim=2).mean())

    assert away(network) < away(fresh)


def test_fusion_learns_where_it_is_to(made):
    model, _, _, features = made
    network = train_direction_head(
        model.fusion, model.direction, features, HeadTraining(steps=2, batch_size=2, warmup_steps=1, fusion_learns=True)
    )
    changed = [n for n, v in network.fusion.state_dict().items() if not torch.equal(v, model.fusion.state_dict()[n])]
    assert changed


def test_samples_are_read_back_as_they_were_asked(made):
    _, _, _, features = made
    batch = features.batch([0, 5])
    way, truth = way_of(batch), truth_of(batch)
    assert batch["lidar"].shape == (2, 8, 32, 32)
    assert truth.points.tolist() == [float((row != 0).any(1).sum()) for row in batch["path"]]
    assert set(way.position_std_m.tolist()) <= {0.5, 5.0}
    assert not torch.equal(batch["lidar"][0], batch["lidar"][1])  # of the first and of the last scan
    assert set(batch["drivable"].unique().tolist()) == {-1.0}  # this drive does not say which roads there are


def test_each_alone_is_left_out_of_some_samples():
    batch = {name: torch.ones(400, 1, 1, 1) for name in ("lidar", "seen", "map", "road")}
    left = dropped(batch, np.random.default_rng(0))
    gone = [float((left[name] == 0).float().mean()) for name in ("lidar", "seen", "map", "road")]
    assert gone == pytest.approx([0.05] * 4, abs=0.03)
    assert not bool(((left["lidar"] == 0) & (left["map"] == 0)).any())
