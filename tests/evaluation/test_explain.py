import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion.build import build_model
from bevfusion.checkpoint import save_checkpoint
from bevfusion.cli import main
from bevfusion.config import AttentionConfig, Config
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.simulated import map_file
from bevfusion.evaluation.explain import attention_report, attention_shares, class_cells, explain
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.run import evaluate
from bevfusion.geometry.grid import Grid
from bevfusion.heads.pose_volume import PoseVolumeHead
from bevfusion.introspection import (
    SLOTS,
    AttentionHook,
    introspect,
    layer_weights,
    matching_saliency,
    spatial_attention,
)
from bevfusion.localizer import NetworkLocator
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.maps.source import open_map
from bevfusion.structures import Scan
from bevfusion.summary import InputSummary
from tests.evaluation.test_run import FakeMap, straight_drive

PROTOCOL = Protocol(offset_m=4.0, offset_deg=6.0)


def tiny_localizer(source, fusion: str = "se", refine: str = "sam", precision="float32") -> NetworkLocator:
    torch.manual_seed(0)
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    slots = {"fusion": AttentionConfig(attention=fusion), "refine": AttentionConfig(attention=refine)}
    model = model.model_copy(update=slots)
    config = base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 24.0}), "model": model})
    return NetworkLocator(build_model(config), config, source, precision=precision)


def seen_from(drive, source, locator):
    truth = source.frame.map_from_ego(drive[0].truth)
    return introspect(locator, drive[0].scan, truth, PROTOCOL.offset_m, math.radians(PROTOCOL.offset_deg))


def test_spatial_attention_of_a_gate_is_the_gate():
    before = torch.randn(3, 8, 9, 7)
    gate = torch.rand(3, 1, 9, 7)
    torch.testing.assert_close(spatial_attention(before, before * gate), gate)


def test_spatial_attention_where_there_was_nothing():
    before = torch.ones(1, 4, 2, 2)
    before[..., 0, :] = 0.0
    after = before.clone()
    assert torch.equal(spatial_attention(before, after), torch.ones(1, 1, 2, 2))
    after[..., 0, 0] = 0.5  # put where nothing was: more, and finite
    found = spatial_attention(before, after)
    assert found[0, 0, 0, 0] == pytest.approx(100.0)
    assert found[0, 0, 0, 1] == 1.0
    assert torch.isfinite(spatial_attention(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))).all()


def test_saliency_of_features_in_half_precision_is_about_the_same():
    """A network may compute in bfloat16; the weights of its matching stay as they are."""
    torch.manual_seed(0)
    head, seen = PoseVolumeHead(4, 4, Grid.square(4.0, 1.0)), torch.ones(1, 1, 8, 8)
    lidar = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        half, full = (matching_saliency(head, features, seen) for features in (lidar.bfloat16(), lidar))
    torch.testing.assert_close(half, full, rtol=0.03, atol=0.01)


def test_channel_mechanism_shows_its_gates(town_drive):
    """SE gates both branches of a scan by one number a channel: it is found again."""
    drive, source = town_drive
    locator = tiny_localizer(source, "se", "none")
    gates = []
    handle = locator.model.fusion.attention.register_forward_hook(
        lambda module, inputs, output: gates.append(module.gate(inputs[0]).flatten())
    )
    introspection = seen_from(drive, source, locator)
    handle.remove()
    expected = gates[0].numpy()
    there = introspection.lidar_gate != 1.0  # a channel that is empty counts 1
    assert there.sum() > 4
    np.testing.assert_allclose(introspection.lidar_gate[there], expected[:8][there], rtol=1e-4)
    np.testing.assert_allclose(introspection.attention["refine"], 1.0)
    assert introspection.grid.height == introspection.attention["saliency"].shape[0]
    assert np.all(introspection.attention["saliency"][~introspection.seen] == 0.0)


def test_spatial_mechanism_shows_its_gate(town_drive):
    drive, source = town_drive
    locator = tiny_localizer(source, "none", "sam")
    gates, magnitudes = [], []

    def keep(module, inputs, output):
        gates.append(module.gate(inputs[0])[0, 0].numpy())
        magnitudes.append(inputs[0][0].abs().mean(0).numpy())

    handle = locator.model.fusion.refinement.register_forward_hook(keep)
    introspection = seen_from(drive, source, locator)
    handle.remove()
    filled = magnitudes[0] > 0.02 * magnitudes[0].mean()  # a cell with next to nothing in it counts 1
    assert filled.mean() > 0.5
    np.testing.assert_allclose(introspection.attention["refine"][filled], gates[0][filled], rtol=1e-3)
    np.testing.assert_allclose(introspection.attention["fusion"], 1.0)


def test_looking_leaves_no_trace(town_drive):
    drive, source = town_drive
    locator = tiny_localizer(source)
    introspection = seen_from(drive, source, locator)
    assert not locator.model._forward_hooks
    assert not locator.model.fusion._forward_hooks
    truth = source.frame.map_from_ego(drive[0].truth)
    again = locator.locate(drive[0].scan, truth, PROTOCOL.offset_m, math.radians(PROTOCOL.offset_deg))
    assert again.map_from_ego == introspection.estimate.map_from_ego


def test_watching_sees_what_looking_sees_and_leaves_no_trace(town_drive):
    drive, source = town_drive
    locator = tiny_localizer(source)
    introspection = seen_from(drive, source, locator)
    watch = AttentionHook(locator)
    assert watch.attention() is None  # nothing was asked yet
    truth = source.frame.map_from_ego(drive[0].truth)
    locator.locate(drive[0].scan, truth, PROTOCOL.offset_m, math.radians(PROTOCOL.offset_deg))
    seen = watch.attention()
    assert list(seen) == list(SLOTS)
    for slot, weight in seen.items():
        np.testing.assert_array_equal(np.isfinite(weight), introspection.seen)
        np.testing.assert_allclose(
            weight[introspection.seen], introspection.attention[slot][introspection.seen], rtol=1e-5
        )
    assert watch.half_extent_m == introspection.grid.half_extent_m[0]
    watch.close()
    assert not any(module._forward_hooks for module in locator.model.modules())
    assert watch.attention() is None


def test_a_locator_that_computes_in_bfloat16_is_watched_and_explained(town_drive, tmp_path: Path):
    drive, source = town_drive
    locator, plain = (tiny_localizer(source, precision=precision) for precision in ("bfloat16", "float32"))
    truth = source.frame.map_from_ego(drive[0].truth)
    watch = AttentionHook(locator)
    locator.locate(drive[0].scan, truth, PROTOCOL.offset_m, math.radians(PROTOCOL.offset_deg))
    seen = watch.attention()
    expected = seen_from(drive, source, plain)
    for slot, weight in seen.items():
        assert np.corrcoef(weight[expected.seen], expected.attention[slot][expected.seen])[0, 1] > 0.9, slot
    watch.close()
    explain(locator, drive[0].scan, truth, 4.0, 0.1, tmp_path / "new", "scan")
    assert (tmp_path / "new/scan_explain.json").is_file()


def test_an_evaluation_leaves_no_hooks(town_drive, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())
    drive, source = town_drive
    locator = tiny_localizer(source)
    evaluate(lambda _: locator, [drive, drive], [source], PROTOCOL, tmp_path / "out", {})
    assert not any(module._forward_hooks for module in locator.model.modules())


def test_layers_that_are_not_there_do_not_count(town_drive):
    drive, source = town_drive
    locator = tiny_localizer(source)
    introspection = seen_from(drive, source, locator)
    weights = layer_weights(locator.model, introspection)
    there = {name for name, plane in zip(LAYER_NAMES, introspection.batch.tile[0], strict=True) if bool(plane.any())}
    assert set(weights) == there
    assert {"road", "building"} <= there
    low, high = introspection.map_gate.min(), introspection.map_gate.max()
    assert all(low - 1e-6 <= weight.gate <= high + 1e-6 for weight in weights.values())
    assert all(0.0 <= weight.moved <= 1.0 for weight in weights.values())
    assert weights["building"].moved > 0.0


def test_a_layer_that_the_encoder_ignores_moves_nothing(town_drive):
    drive, source = town_drive
    locator = tiny_localizer(source)
    first = next(p for p in locator.model.map_encoder.parameters() if p.ndim == 4)
    with torch.no_grad():
        first[:, LAYER_NAMES.index("building")] = 0.0
    weights = layer_weights(locator.model, seen_from(drive, source, locator))
    assert weights["building"].moved == 0.0
    assert weights["building"].gate == 0.0  # it writes nowhere
    assert weights["road"].moved > 0.0


def labelled(points: list[tuple[float, float, int]]) -> Scan:
    xyz = np.array([(x, y, 0.0) for x, y, _ in points], np.float32)
    return Scan(xyz, np.zeros(len(points), np.float32), np.array([c for _, _, c in points], np.uint32))


GRID = Grid(4, 4, 1.0)


def test_cells_by_class():
    scan = labelled(
        [
            (0.5, 0.5, 40),
            (0.5, 0.5, 40),
            (0.5, 0.5, 80),  # a pole in the road: roadside
            (1.5, 0.5, 40),  # road alone
            (-0.5, 0.5, 10),
            (-0.5, 0.5, 252 | 7 << 16),  # a car, parked and moving (with an instance): vehicles
            (-0.5, 0.5, 50),
            (0.5, -1.5, 10),
            (0.5, -1.5, 71),  # as many: roadside
            (1.5, 1.5, 0),  # unlabelled: not counted
            (9.0, 0.0, 50),  # outside
        ]
    )
    occupied, cells = class_cells(scan, GRID)
    assert np.argwhere(occupied).tolist() == [[0, 2], [2, 1], [2, 2], [2, 3]]
    assert np.argwhere(cells["roadside"]).tolist() == [[0, 2], [2, 2]]
    assert np.argwhere(cells["vehicles"]).tolist() == [[2, 1]]
    with pytest.raises(ValueError, match="labels"):
        class_cells(replace(scan, labels=None), GRID)


def test_shares():
    occupied = np.array([[True, True], [True, False]])
    cells = {"roadside": np.array([[True, False], [False, True]]), "vehicles": np.zeros((2, 2), bool)}
    weight = np.array([[6.0, 1.0], [1.0, 50.0]])
    found = attention_shares(weight, occupied, cells)
    assert (found["roadside"].attention, found["roadside"].cells) == pytest.approx((0.75, 1 / 3))
    assert (found["vehicles"].attention, found["vehicles"].cells) == (0.0, 0.0)
    even = attention_shares(np.full((2, 2), 0.3), occupied, cells)
    assert even["roadside"].attention == pytest.approx(even["roadside"].cells)
    nothing = attention_shares(np.zeros((2, 2)), np.zeros((2, 2), bool), cells)
    assert nothing["roadside"].attention == nothing["roadside"].cells == 0.0


def test_report_without_attention_has_no_preference(town_drive):
    drive, source = town_drive
    done = []
    found = attention_report(
        tiny_localizer(source, "none", "none"),
        drive,
        source,
        frames=2,
        protocol=PROTOCOL,
        on_frame=lambda *count: done.append(count),
    )
    assert done == [(1, 2), (2, 2)]
    assert set(found) == set(SLOTS)
    for slot in ("fusion", "refine"):
        assert found[slot]["roadside"]["lift"] == pytest.approx(1.0, abs=1e-6)
    assert 0.0 < found["saliency"]["roadside"]["cells_percent"] < 100.0


def test_report_needs_labels(town_drive):
    _, source = town_drive

    class Unlabelled:
        name, odometry, summary = "unlabelled", "none", InputSummary("unlabelled")

        def __init__(self, drive):
            self.drive = drive

        def __len__(self):
            return 2

        def __getitem__(self, position):
            frame = self.drive[position]
            return replace(frame, scan=replace(frame.scan, labels=None))

        def __iter__(self):
            return iter([self[0], self[1]])

    assert attention_report(tiny_localizer(source), Unlabelled(town_drive[0]), source, protocol=PROTOCOL) == {}


def test_explain_writes_pictures_and_numbers(town_drive, tmp_path):
    drive, source = town_drive
    truth = source.frame.map_from_ego(drive[0].truth)
    explain(tiny_localizer(source), drive[0].scan, truth, 4.0, 0.1, tmp_path / "new", "scan")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *(f"scan_{kind}.png" for kind in ("spatial", "layers", "belief")),
        "scan_explain.json",
    }
    values = json.loads((tmp_path / "new/scan_explain.json").read_text())
    assert (values["fusion"], values["refine"]) == ("se", "sam")
    assert set(values["shares"]) == set(SLOTS)
    assert len(values["channels"]["map"]) == 8


def test_real_labels(shared_data: Path):
    drive = KittiRawDrive(shared_data / "kitti_raw/2011_10_03/2011_10_03_drive_0027_sync")
    source = open_map(shared_data / "maps/kitti_00.osm.bz2")
    found = attention_report(tiny_localizer(source), drive, source, frames=1, protocol=PROTOCOL)
    cells = {name: found["refine"][name]["cells_percent"] for name in ("roadside", "vehicles")}
    assert 20.0 < cells["roadside"] < 90.0
    assert 0.0 < cells["vehicles"] < 30.0


def test_the_command(town_drive, tmp_path, monkeypatch: pytest.MonkeyPatch):
    drive, source = town_drive
    calls: list[tuple] = []
    monkeypatch.setattr("bevfusion.evaluation.explain.explain", lambda *arguments: calls.append(arguments))
    locator = tiny_localizer(source)
    save_checkpoint(tmp_path / "model.safetensors", locator.model, locator.config, {})
    scan, place = tmp_path / "000012.bin", drive[0].truth
    np.column_stack([drive[0].scan.xyz, drive[0].scan.intensity]).astype("<f4").tofile(scan)
    town = map_file("town:7", tmp_path)
    near = f"--near={place.lat_deg},{place.lon_deg},{math.degrees(place.yaw_rad)}"
    arguments = [str(tmp_path / "model.safetensors"), str(scan), "--map", str(town), near]
    assert main("locate", [*arguments, "--json"]) == 0
    assert not calls
    assert main("locate", [*arguments, "--json", "--explain", str(tmp_path / "pictures")]) == 0
    ((_, seen, prior, offset_m, offset_rad, folder, name),) = calls
    assert len(seen) == len(drive[0].scan)
    assert prior.yaw_rad == pytest.approx(source.frame.map_from_ego(place).yaw_rad)
    assert (offset_m, offset_rad) == (20.0, math.radians(10.0))
    assert (folder, name) == (tmp_path / "pictures", "000012")
    assert (tmp_path / "pictures" / "000012_way.png").stat().st_size > 10_000  # field and paths over scan and map
    (tmp_path / "pictures" / "000012_belief.png").write_bytes(b"of an earlier run")
    assert main("locate", [*arguments, "--explain", str(tmp_path / "pictures")]) == 2  # before any work
    assert len(calls) == 1
    assert main("locate", [*arguments, "--explain", str(tmp_path / "pictures"), "--overwrite"]) == 0
    assert len(calls) == 2


def test_attention_is_reported_without_the_frames_that_cannot_be_read() -> None:
    drive, source = straight_drive(20, broken=0), FakeMap()
    asked: list[int] = []
    found = attention_report(
        tiny_localizer(source), drive, source, frames=10, protocol=PROTOCOL, on_frame=lambda done, _: asked.append(done)
    )
    assert found == {}  # no labels, but no error either
    assert len(asked) == 9
    (note,) = drive.summary.of_kind("lost")
    assert note.text.startswith("1 of 20 frames cannot be read")


def test_features_of_bfloat16_are_looked_at_as_well(town_drive):
    drive, source = town_drive
    locator = tiny_localizer(source, precision="bfloat16")
    seen = seen_from(drive, source, locator)
    assert list(seen.attention) == list(SLOTS)
    assert all(np.isfinite(weight).all() for weight in seen.attention.values())
