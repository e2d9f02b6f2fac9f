import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bevfusion.attention import ATTENTION, SLOT_CHOICES, make_attention
from bevfusion.build import bev_grid, build_model, search_window, tile_grid
from bevfusion.config import AttentionConfig, Config, ConfigError, EncoderConfig, ModelConfig, load_config
from bevfusion.fusion.attend import needs_of
from bevfusion.fusion.fuse import JOINS
from bevfusion.heads.pose_volume import negative_log_likelihood
from bevfusion.lidar.rasterize import bev_channels
from bevfusion.maps.schema import LAYERS
from bevfusion.nn import ResidualBlock
from bevfusion.structures import Batch

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
SMALL = EncoderConfig(width=8, levels=2)


def small(fusion: str = "se", refine: str = "sam", blocks: str = "none") -> Config:
    base = Config()
    model = ModelConfig(
        channels=8,
        lidar=SMALL,
        map=SMALL,
        fusion=AttentionConfig(attention=fusion),
        refine=AttentionConfig(attention=refine),
        blocks=AttentionConfig(attention=blocks),
    )
    return base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 10.0}), "model": model})


def random_batch(config: Config, size: int, offset_m: float) -> Batch:
    torch.manual_seed(0)
    bev, tile = bev_grid(config), tile_grid(config, offset_m)
    return Batch(
        torch.rand(size, len(bev_channels(config.bev.slices_m)), bev.height, bev.width),
        torch.rand(size, len(LAYERS), tile.height, tile.width),
        torch.linspace(-3.0, 3.0, size),
        torch.tensor([[1.0, -2.0, 0.05]]).expand(size, 3),
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_in_the_repository_builds(path: Path):
    config = load_config(path)
    with torch.device("meta"):
        model = build_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1000


@pytest.mark.parametrize("name", ["none", *JOINS, *(name for name in SLOT_CHOICES if name != "none")])
def test_every_mechanism_trains_in_its_slots(name: str):
    config = small(name, "none" if name in JOINS else name)
    model = build_model(config)
    batch = random_batch(config, 2, 3.0)
    prediction = model(batch, search_window(config, 3.0, math.radians(6.0)))
    assert batch.truth is not None
    pose = negative_log_likelihood(prediction.volume, batch.truth)
    (pose + prediction.check.log_odds + prediction.check.residual.sum(1)).mean().backward()
    trained = [p for name, p in model.named_parameters() if p.grad is not None]
    assert len(trained) > 20
    assert all(bool(torch.isfinite(p.grad).all()) for p in trained if p.grad is not None)
    assert model.pose_volume.template.weight.grad.abs().sum() > 0
    assert next(model.map_encoder.parameters()).grad.abs().sum() > 0


MORE_THAN_FEATURES = [name for name in SLOT_CHOICES if needs_of(make_attention(name, 8))]
NOT_IN_BLOCKS = ("stn", *MORE_THAN_FEATURES)


@pytest.mark.parametrize("name", [name for name in ATTENTION if name not in (*NOT_IN_BLOCKS, "none")])
def test_every_other_mechanism_trains_in_the_blocks_of_the_lidar_encoder(name: str):
    config = small("none", "none", name)
    model = build_model(config)
    batch = random_batch(config, 2, 3.0)
    assert batch.truth is not None
    prediction = model(batch, search_window(config, 3.0, math.radians(6.0)))
    negative_log_likelihood(prediction.volume, batch.truth).mean().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    held = [block.attention for block in model.lidar_encoder.modules() if isinstance(block, ResidualBlock)]
    assert {type(mechanism) for mechanism in held} == {ATTENTION[name]}
    own = [p for mechanism in held for p in mechanism.parameters()]
    assert all(p.grad is not None for p in own)
    assert name == "simam" or any(bool(p.grad.any()) for p in own if p.grad is not None)
    of_map = [block.attention for block in model.map_encoder.modules() if isinstance(block, ResidualBlock)]
    assert {type(mechanism) for mechanism in of_map} == {torch.nn.Identity}


@pytest.mark.parametrize("name", NOT_IN_BLOCKS)
def test_what_needs_more_than_features_is_refused_in_blocks(name: str):
    assert set(NOT_IN_BLOCKS) == {"stn", "hard", "dynamic_capacity", "roadside"}
    with pytest.raises(ConfigError, match=rf"model\.blocks.*{name}"):
        build_model(small("none", "none", name))


def test_pooling_over_seen_cells_is_refused_in_blocks():
    config = small()
    section = AttentionConfig(attention="se", options={"occupancy": True})
    config = config.model_copy(update={"model": config.model.model_copy(update={"blocks": section})})
    with pytest.raises(ConfigError, match=r"model\.blocks: 'se' needs the cells that the scan reached"):
        build_model(config)


def test_the_blocks_of_the_sparse_encoder_have_it_too():
    config = small("none", "none", "eca")
    config = config.model_copy(update={"model": config.model.model_copy(update={"encoder": "sparse"})})
    encoder = build_model(config).lidar_encoder
    assert [type(b.attention) for b in encoder.modules() if isinstance(b, ResidualBlock)] == [ATTENTION["eca"]] * 2


def test_attention_in_a_block_works_on_what_is_added():
    """Where it lets nothing pass the block is x itself, where it lets all pass that without attention."""

    class Shut(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    torch.manual_seed(0)
    x = torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(ResidualBlock(8, lambda _: Shut())(x), x)
    torch.manual_seed(1)
    bare = ResidualBlock(8)
    torch.manual_seed(1)
    torch.testing.assert_close(ResidualBlock(8, torch.nn.Identity)(x), bare(x))
    assert not list(bare.attention.parameters())


@pytest.mark.parametrize("name", ["se", "cbam", "sk"])
def test_pooling_over_seen_cells_works_in_the_other_slots(name: str):
    config = small()
    section = AttentionConfig(attention=name, options={"occupancy": True})
    config = config.model_copy(update={"model": config.model.model_copy(update={"fusion": section, "refine": section})})
    prediction = build_model(config)(random_batch(config, 2, 3.0), search_window(config, 3.0, math.radians(6.0)))
    assert bool(prediction.volume.log_prob.isfinite().all())


def test_a_mechanism_that_moves_geometry_is_refused():
    assert set(ATTENTION) - set(SLOT_CHOICES) == {"stn"}
    with pytest.raises(ConfigError, match=r"model\.refine.*stn"):
        build_model(small("none", "stn"))


@pytest.mark.parametrize(
    ("fusion", "options", "message"), [("cbma", {}, "cbam"), ("se", {"reductoin": 4}, "reduction")]
)
def test_an_unknown_mechanism_or_option_names_the_nearest(fusion: str, options: dict, message: str):
    config = small()
    section = AttentionConfig(attention=fusion, options=options)
    config = config.model_copy(update={"model": config.model.model_copy(update={"fusion": section})})
    with pytest.raises(ConfigError, match=message):
        build_model(config)


@pytest.mark.parametrize("offset_m", [3.0, 20.0, 33.3])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_tiles_hold_the_template_at_every_shift(path: Path, offset_m: float):
    config = load_config(path)
    stride = config.model.stride
    template, tile = bev_grid(config).height // stride, tile_grid(config, offset_m).height // stride
    reach = search_window(config, offset_m, math.pi).reach
    assert tile >= template + 2 * reach
    assert (tile - template) % 2 == 0


def test_nothing_behind_fusion_reaches_into_the_towers():
    config = small("cbam", "coordinate")
    model, batch = build_model(config), random_batch(config, 2, 3.0)
    check = model(batch, search_window(config, 3.0, math.radians(6.0))).check
    (check.log_odds.sum() + check.residual.sum() + check.covariance.sum()).backward()
    learns = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learns == {"fusion", "pose_check"}


def test_the_towers_see_neither_each_other_nor_the_prior():
    config = small("cbam", "coordinate")
    model, batch = build_model(config).eval(), random_batch(config, 2, 3.0)
    window = search_window(config, 3.0, math.radians(6.0))
    first = model(batch, window)
    elsewhere = replace(batch, tile=batch.tile.flip(-1), prior_yaw_rad=batch.prior_yaw_rad + 1.0)
    torch.testing.assert_close(model(elsewhere, window).scan.lidar, first.scan.lidar, rtol=0, atol=0)
    other_scan = replace(batch, bev=batch.bev.flip(-1), prior_yaw_rad=batch.prior_yaw_rad + 1.0)
    torch.testing.assert_close(model(other_scan, window).map_features, first.map_features, rtol=0, atol=0)


@pytest.mark.parametrize(("key", "name"), [("scan", "roadside"), ("blocks", "roadside")])
def test_the_road_of_the_map_is_unknown_to_the_lidar_tower(key: str, name: str):
    model = small().model.model_copy(update={key: AttentionConfig(attention=name)})
    with pytest.raises(ConfigError, match=rf"model\.{key}: '{name}' needs the direction of the mapped road"):
        build_model(small().model_copy(update={"model": model}))


def test_samples_of_a_batch_do_not_see_each_other():
    config = small("cbam", "coordinate")
    model = build_model(config).eval()
    batch = random_batch(config, 3, 3.0)
    window = search_window(config, 3.0, math.radians(6.0))
    alone = Batch(batch.bev[1:2], batch.tile[1:2], batch.prior_yaw_rad[1:2])
    together = model(batch, window).volume.log_prob[1:2]
    torch.testing.assert_close(model(alone, window).volume.log_prob, together, atol=1e-4, rtol=1e-4)


def test_half_precision_around_the_network_keeps_the_poses_apart():
    config = small("cbam", "coordinate")
    model, batch = build_model(config), random_batch(config, 2, 3.0)
    window = search_window(config, 3.0, math.radians(6.0))
    for _ in range(20):
        model(batch, window)  # the statistics of batch norm
    exact = model.eval()(batch, window).volume.log_prob
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(batch, window).volume.log_prob
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.std()


def test_beliefs_are_blurred_when_asked_and_not_when_trained():
    config = small()
    model, batch = build_model(config).eval(), random_batch(config, 2, 3.0)
    window = search_window(config, 3.0, math.radians(6.0))
    before = model(batch, window).volume
    trained = model.train()(batch, window).volume
    model.blur.set_variance(0.8)
    torch.testing.assert_close(model(batch, window).volume.log_prob, trained.log_prob)
    after = model.eval()(batch, window).volume.log_prob
    assert (after - before.log_prob).abs().max() > 0.01
    # training moved the means of the normalisation
    model.blur.set_variance(0.0)
    same = model(batch, window).volume
    model.blur.set_variance(0.8)
    torch.testing.assert_close(after, model.blur(same).log_prob)
