import json

import numpy as np
import pytest
import torch

from bevfusion.attention import ATTENTION
from bevfusion.benchmark import attention as bench
from bevfusion.benchmark import matching, measuring, step, tiles
from bevfusion.benchmark import run as suites_of
from bevfusion.benchmark.run import Suite
from bevfusion.benchmark.tiles import shown_centres
from bevfusion.build import build_model
from bevfusion.cli import main
from bevfusion.config import Config
from bevfusion.filters.search import RoadArea
from bevfusion.fusion.fuse import JOINS
from bevfusion.localizer import NetworkLocator
from bevfusion.maps.render import OsmRenderer
from bevfusion.maps.schema import layer_index
from bevfusion.maps.tiled import TiledMap
from bevfusion.maps.tiles import TileStore
from bevfusion.model import FusionNet
from bevfusion.structures import DataError
from tests.maps.osm_text import OsmText

CPU = torch.device("cpu")
TINY = (2, 16, 16, 16)
EVERY = [("attention", name) for name in ATTENTION] + [("join", name) for name in JOINS]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_LEAST_S", 0.0)
    monkeypatch.setattr(measuring, "_LEAST_RUNS", 2)
    monkeypatch.setattr(measuring, "_WARM_UPS", 1)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_mechanism_is_measured(kind: str, name: str):
    row = bench.measure(kind, name, TINY, CPU)
    assert row.training.median_ms > 0
    assert row.forward.low_ms <= row.forward.median_ms <= row.forward.high_ms
    # at the least, the gradients of the inputs
    assert row.peak_training_mb * 1e6 >= (2 if kind == "join" else 1) * 2 * 16**3 * 4
    assert row.training_over_floor > 0


def test_parameters_are_those_of_the_module():
    assert bench.measure("attention", "se", TINY, CPU).parameters == sum(
        p.numel() for p in ATTENTION["se"](TINY[1]).parameters()
    )


def test_peak_memory_counts_what_lives_at_once():
    x = torch.ones(1000)
    assert measuring.peak_mb(lambda: (x + 1) + (x + 2), CPU) == pytest.approx(3 * 4e-3)
    assert measuring.peak_mb(lambda: (x + 1).add_(1).view(10, 100), CPU) == pytest.approx(4e-3)
    assert measuring.peak_mb(lambda: [x + 1 for _ in range(5)], CPU) == pytest.approx(5 * 4e-3)


def test_peak_memory_counts_what_backward_keeps():
    x = torch.ones(1000, requires_grad=True)

    def run() -> None:
        y = x.exp().exp().exp()  # three results kept for backward, though two have no name
        y.backward(torch.ones_like(y))

    # three results, the gradient that comes, and one or two on the way down
    assert 5 * 4e-3 <= measuring.peak_mb(run, CPU) <= 6 * 4e-3


def test_a_larger_copy_takes_longer():
    assert measuring.copy_ms(2**27, CPU) > measuring.copy_ms(2**16, CPU)


def test_what_is_compared_does_its_work(monkeypatch: pytest.MonkeyPatch):
    """A step that has not started, or is lost, returns at once: its time would be no time of a step."""
    calls = []
    forward = FusionNet.forward
    monkeypatch.setattr(FusionNet, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    monkeypatch.setattr(measuring, "peak_mb", lambda run, device: 0.0)
    monkeypatch.setattr(step, "DRIVE_STEPS", 3)
    rows = step.step_rows(CPU)
    tasks = list(dict.fromkeys(row.task for row in rows))
    assert [task.split(",")[0] for task in tasks] == [
        "raster with ground", "LiDAR tower", "matching", "fusion and heads", "map of a first window", "locate",
        "step of a drive",
    ]  # fmt: skip
    whole = [row for row in rows if row.task == tasks[-2]]
    drives = [row for row in rows if row.task == tasks[-1]]
    assert [row.timed.runs for row in drives] == [3] * len(drives)
    # one that counts the operations; then each method's first run and those that are timed; every step of the drives
    assert len(calls) == 1 + sum(1 + row.timed.runs for row in whole) + 4 * len(drives)
    parts_ms = sum(row.timed.best_ms for row in rows if row.task in tasks[:4] and row.method == whole[0].method)
    assert 0.5 * parts_ms < whole[0].timed.best_ms < 2.0 * parts_ms


def test_tiles_that_are_timed_show_something(town_drive):
    source = town_drive[1]
    centres = shown_centres(source)
    assert centres
    assert all(source.draw(tiles.GRID, centre).any() for centre in centres)


def test_a_drive_that_is_timed_leaves_its_blocks(town_drive, monkeypatch: pytest.MonkeyPatch):
    """Views of one place alone would flatter: the drive must copy blocks on the way, and the mean must hold them."""
    monkeypatch.setattr(tiles, "_DRIVES", 2)
    monkeypatch.setattr(tiles, "DRIVE_TILES", 300)
    stitched = []
    stitch = TileStore._stitched
    monkeypatch.setattr(TileStore, "_stitched", lambda *arguments: stitched.append(1) or stitch(*arguments))
    each, mean, *_ = tiles.drive_rows(TileStore(town_drive[1], tiles.GRID))
    drives = 2 * (1 + 2)  # two uses, each once to warm up
    assert len(stitched) >= 3 * drives
    assert each.timed.runs == 2 * tiles.DRIVE_TILES
    assert mean.timed.best_ms > each.timed.best_ms


def test_tiles_that_are_timed_from_disk_are_those_drawn(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Both on whole cells, where they are equal: off them, reading is another and slower thing."""
    text = OsmText(half_m=100.0)
    text.line([(-90, -80), (90, 70)], {"highway": "residential"})
    (tmp_path / "street.osm").write_text(str(text), encoding="utf-8")
    asked: dict[type, list[np.ndarray]] = {OsmRenderer: [], TiledMap: []}
    for kind, found in asked.items():
        draw = kind.draw
        monkeypatch.setattr(
            kind, "draw", lambda *a, draw=draw, found=found: found.append(draw(*a)) or found[-1], raising=True
        )
    rows = tiles.disk_rows(tmp_path / "street.osm", tmp_path / "street.tiles")
    assert [row.method for row in rows][-2:] == ["drawn", "from disk"]
    for drawn, read in zip(asked[OsmRenderer][-3:], asked[TiledMap][-3:], strict=True):
        assert any((read == other).all() for other in asked[OsmRenderer] if other.shape == read.shape)
        assert drawn.any()
        assert read.any()


def test_matching_is_timed_on_one_problem():
    """Both methods, before anything is said of their speed."""
    template, features = matching.problem(1, 0, CPU)
    yaws = matching.circle_rad(1, matching.HEADINGS, CPU)[:, :3]
    expected = matching.baseline(template, features, yaws, 6)
    torch.testing.assert_close(matching.ours(template, features, yaws, 6, circle=False), expected, atol=1e-2, rtol=1e-4)


def test_searches_are_timed_with_the_map_at_hand(town_drive, monkeypatch: pytest.MonkeyPatch):
    drive, source = town_drive
    place = source.frame.map_from_ego(drive[0].truth)
    monkeypatch.setattr(measuring, "peak_mb", lambda run, device: 0.0)
    monkeypatch.setattr(matching, "WINDOW_M", 12.0)
    monkeypatch.setattr(matching, "dense_scan", lambda seed: drive[0].scan)
    bounds_m = (place.x_m - 20.0, place.y_m - 20.0, place.x_m + 20.0, place.y_m + 20.0)
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    config = base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 16.0}), "model": model})
    encoded, answered = [], []
    for name, calls in (("_encode", encoded), ("predict", answered)):
        method = getattr(NetworkLocator, name)
        monkeypatch.setattr(
            NetworkLocator, name, lambda *a, method=method, calls=calls: calls.append(len(timed)) or method(*a)
        )
    locator = NetworkLocator(build_model(config), config, source)
    timed: list[float] = []
    once = measuring._once_ms
    monkeypatch.setattr(measuring, "_once_ms", lambda *a: timed.append(0.0) or once(*a))
    by_windows, at_once = matching.compared_searches(locator, RoadArea(source.draw, bounds_m, layer_index("road")), CPU)
    assert (by_windows.method, at_once.method) == ("window by window", "at once")
    assert set(encoded) == {0}  # before anything was timed
    windows = sum(when == 0 for when in answered)
    assert 0 < windows <= 4
    assert f"{windows} windows" in by_windows.task
    assert len(answered) == windows * (2 + by_windows.timed.runs)


def test_a_report_becomes_tables_and_json(monkeypatch: pytest.MonkeyPatch, tmp_path):
    rows = [bench.measure("attention", "se", TINY, CPU), bench.measure("join", "concat", TINY, CPU)]
    monkeypatch.setattr(suites_of, "SUITES", {"attention": Suite(lambda device: rows, bench.attention_table)})
    report = suites_of.benchmark([], "cpu")
    suites_of.write_json(tmp_path / "new" / "report.json", report)
    kept = json.loads((tmp_path / "new" / "report.json").read_text())
    assert [row["name"] for row in kept["suites"]["attention"]["cpu"]] == ["se", "concat"]
    assert kept["hardware"]["threads"] >= 1
    assert kept["versions"]["torch"] == torch.__version__
    (table,) = suites_of.rich_tables(report)
    assert table.row_count == 2


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]):
    rows = [bench.measure("attention", "se", TINY, CPU)]
    monkeypatch.setattr(suites_of, "SUITES", {"attention": Suite(lambda device: rows, bench.attention_table)})
    assert main("benchmark", ["attention", "--device", "cpu", "--json", str(tmp_path / "report.json")]) == 0
    assert "2x16x16x16" in capsys.readouterr().out
    assert (tmp_path / "report.json").is_file()
    assert main("benchmark", ["attnetion"]) == 2
    assert capsys.readouterr().err.startswith("error: no benchmark is called 'attnetion'")


@pytest.mark.parametrize(("suites", "device", "message"), [(["attnetion"], None, "attention"), ([], "tpu", "cpu")])
def test_what_does_not_exist_is_refused(suites: list[str], device: str | None, message: str):
    with pytest.raises(DataError, match=message):
        suites_of.benchmark(suites, device)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    row = bench.measure("attention", "se", TINY, torch.device("cuda"))
    assert row.peak_training_mb > 0
