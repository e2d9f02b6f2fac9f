import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from bevfusion.attention import SLOT_CHOICES
from bevfusion.cli import main
from bevfusion.config import AttentionConfig, Config, ConfigError
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.simulated import map_file
from bevfusion.evaluation import trained as trained_runs
from bevfusion.evaluation.trained import on_maps
from bevfusion.fusion.fuse import JOINS
from bevfusion.lidar.packed import pack_scan, read_packed_scan
from bevfusion.maps.source import open_map
from bevfusion.structures import DataError
from bevfusion.training import ablation
from bevfusion.training.ablation import AblationRun, Scoring, plan_runs, variant
from bevfusion.training.drives import Drives


def small(cache: Path) -> Config:
    encoder = {"width": 4, "levels": 2}
    return Config.model_validate(
        {
            "bev": {"range_m": 16.0, "cell_m": 1.0},
            "model": {
                "channels": 4,
                "lidar": encoder,
                "map": encoder,
                "fusion": {"attention": "cam", "options": {"reduction": 2}},
                "refine": {"attention": "none"},
            },
            "search": {"offset_m": 4.0, "offset_deg": 6.0},
            "simulation": {
                "train": ["town:1"],
                "val": ["town:1"],
                "test": ["town:1"],
                "frames": 4,
                "eval_frames": 4,
                "spacing_m": 8.0,
                "sensors": ["vlp16"],
                "columns": 1024,
                "cache": str(cache),
            },
            "train": {"steps": 2, "validate_every": 2, "batch_size": 2, "warmup_steps": 1, "workers": 0},
        }
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were trained; nothing is, and each measures the length of its mechanisms' names."""
    done: list[str] = []

    def train(config: Config, folder: Path, *, evaluate: object) -> Path:
        done.append(folder.name)
        if config.model.fusion.attention == "eca":
            raise RuntimeError("the loss is nan\nat step 3")
        (folder / "evaluation").mkdir(parents=True)
        (folder / "checkpoints").mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        (folder / "evaluation/metrics.json").write_text("{}")
        return folder

    def measure(config: Config, folder: Path) -> dict[str, float]:
        score = len(config.model.fusion.attention) + 10.0 * config.seed
        return {"position_1m": score, "fusion_vehicles_lift": math.nan, "parameters": 1000.0}

    monkeypatch.setattr(ablation, "train", train)
    scoring = replace(trained_runs.ABLATION_SCORING, measure=measure)
    monkeypatch.setattr(trained_runs, "ABLATION_SCORING", scoring)
    return done


def ablate(
    config: Config, attention: str, slots: list[str], seeds: list[int], output: Path, logs: Drives = ()
) -> dict[str, str]:
    """As the command runs it, with whatever `trained` has put in place of the real scoring."""
    scoring: Scoring = trained_runs.ABLATION_SCORING
    return ablation.ablate(config, attention, slots, seeds, output, scoring, logs)


def test_all_are_all(tmp_path: Path):
    plan = plan_runs(small(tmp_path), "all", ["fusion", "refine"], [0, 1, 2])
    assert {name for slot, name in plan if slot == "fusion"} == {*SLOT_CHOICES, *JOINS}
    assert {name for slot, name in plan if slot == "refine"} == set(SLOT_CHOICES)
    assert plan["refine", "sam"] == [AblationRun("cam", "sam", seed) for seed in (0, 1, 2)]
    # the configuration itself is in both slots, and one run
    assert plan["fusion", "cam"] == plan["refine", "none"]


def test_the_blocks_of_the_encoders_are_a_slot(tmp_path: Path):
    plan = plan_runs(small(tmp_path), "own,se", ["blocks"], [0, 1])
    assert list(plan) == [("blocks", "none"), ("blocks", "se")]
    assert [run.name for run in plan["blocks", "se"]] == ["cam+none+se-seed0", "cam+none+se-seed1"]
    assert plan["blocks", "none"][0].name == "cam+none-seed0"  # the same run as in the other slots


def test_a_join_counts_where_there_is_something_to_join(tmp_path: Path):
    assert list(plan_runs(small(tmp_path), "concat, se", ["fusion", "refine"], [0])) == [
        ("fusion", "concat"),
        ("fusion", "se"),
        ("refine", "se"),
    ]


@pytest.mark.parametrize(
    ("attention", "slots", "seeds", "message"),
    [
        ("cbma", ["fusion"], [0], "cbam"),
        ("concat", ["refine"], [0], "concat"),
        ("se", ["fuse"], [0], "fusion"),
        ("se", ["fusion"], [], "seeds"),
        ("se", ["fusion"], [-1], "seeds"),
        ("", ["fusion"], [0], "mechanism ''"),
    ],
)
def test_what_does_not_exist_is_refused(tmp_path: Path, attention: str, slots: list, seeds: list, message: str):
    with pytest.raises(ConfigError, match=message):
        plan_runs(small(tmp_path), attention, slots, seeds)


def test_options_stay_with_their_mechanism(tmp_path: Path):
    config = small(tmp_path)
    own, other = (variant(config, AblationRun(name, "sam", 3, "eca")) for name in ("cam", "se"))
    assert own.model.fusion.options == {"reduction": 2}
    assert other.model.fusion == AttentionConfig(attention="se")
    assert (other.model.refine.attention, other.model.blocks.attention, other.seed) == ("sam", "eca", 3)
    assert other.name == "fusion-se-sam-eca"
    assert other.train == config.train


def test_finished_runs_are_not_repeated(tmp_path: Path, trained: list[str]):
    config = small(tmp_path)
    assert ablate(config, "se,cam", ["fusion"], [0], tmp_path) == {}
    assert trained == ["se+none-seed0", "cam+none-seed0"]
    assert not (tmp_path / "runs/se+none-seed0/checkpoints").exists()
    table = (tmp_path / "ablation.md").read_text()
    (tmp_path / "ablation.md").unlink()
    ablate(config, "se,cam", ["fusion"], [0], tmp_path)
    assert len(trained) == 2
    assert (tmp_path / "ablation.md").read_text() == table
    ablate(config, "se,cam", ["fusion"], [0, 1], tmp_path)
    assert trained[2:] == ["se+none-seed1", "cam+none-seed1"]


def test_unfinished_runs_are_done_again(tmp_path: Path, trained: list[str]):
    config = small(tmp_path)
    ablate(config, "se", ["fusion"], [0], tmp_path)
    folder = tmp_path / "runs/se+none-seed0"
    (folder / "result.json").unlink()
    ablate(config, "se", ["fusion"], [0], tmp_path)
    assert len(trained) == 1  # trained and evaluated: only measured again
    (folder / "result.json").unlink()
    (folder / "evaluation/metrics.json").unlink()
    ablate(config, "se", ["fusion"], [0], tmp_path)
    assert len(trained) == 2
    assert json.loads((folder / "result.json").read_text()) == {"position_1m": 2.0, "parameters": 1000.0}


def test_runs_of_another_configuration_are_not_mixed_in(tmp_path: Path, trained: list[str]):
    config = small(tmp_path)
    ablate(config, "se", ["fusion"], [0], tmp_path)
    other = config.model_copy(update={"search": config.search.model_copy(update={"offset_m": 9.0})})
    with pytest.raises(DataError, match="another configuration"):
        ablate(other, "se", ["fusion"], [0], tmp_path)
    assert len(trained) == 1


def test_a_failure_does_not_end_the_rest(tmp_path: Path, trained: list[str], caplog: pytest.LogCaptureFixture):
    failed = ablate(small(tmp_path), "eca,se", ["fusion"], [0, 1], tmp_path)
    assert failed == dict.fromkeys(("eca+none-seed0", "eca+none-seed1"), "the loss is nan at step 3")
    assert trained == [f"{name}+none-seed{seed}" for seed in (0, 1) for name in ("eca", "se")]
    table = (tmp_path / "ablation.md").read_text()
    assert "| `se` | 7.0 ± 7.1 |" in table
    assert "eca+none-seed0: the loss is nan at step 3" in table
    assert "eca+none-seed0 failed: the loss is nan at step 3" in caplog.text


def test_what_a_slot_refuses_is_told_and_the_rest_is_trained(tmp_path: Path, trained: list[str]):
    assert ablate(small(tmp_path), "roadside,se", ["blocks"], [0], tmp_path) == {}
    assert trained == ["cam+none+se-seed0"]
    needs = "'roadside' needs the direction of the mapped road, which it is not told there"
    assert f"`roadside` in the blocks slot: model.blocks: {needs}" in (tmp_path / "ablation.md").read_text()


def test_nothing_that_can_be_built_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="roadside"):
        ablate(small(tmp_path), "roadside", ["blocks"], [0], tmp_path)


def test_what_moves_cells_is_offered_in_no_slot(tmp_path: Path):
    with pytest.raises(ConfigError, match="no mechanism 'stn'"):
        ablate(small(tmp_path), "stn", ["fusion", "refine", "blocks"], [0], tmp_path)


def test_own_is_what_the_configuration_has(tmp_path: Path, trained: list[str]):
    config = small(tmp_path)
    assert list(plan_runs(config, "own,none", ["fusion", "refine"], [0])) == [
        ("fusion", "cam"),
        ("fusion", "none"),
        ("refine", "none"),
    ]
    ablate(config, "own,none", ["fusion"], [0, 1], tmp_path)
    text = (tmp_path / "ablation.md").read_text()
    assert "What it brings over `none`" not in text, "nothing in it was measured of both"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny convolutions on two threads of a busy machine mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_three_mechanisms_are_trained_and_compared(tmp_path: Path, town_drive):
    config = small(tmp_path / "cache")
    assert ablate(config, "sam,roadside,select", ["fusion"], [0], tmp_path / "out", [town_drive]) == {}
    rows = list(csv.DictReader((tmp_path / "out/ablation.csv").open()))
    assert {(row["slot"], row["mechanism"]) for row in rows} == {
        ("fusion", "sam"),
        ("fusion", "roadside"),
        ("fusion", "select"),
    }
    for row in rows:
        assert 0.0 <= float(row["position_5m_mean"]) <= 100.0
        assert float(row["shift_heading_p95_deg_mean"]) >= float(row["shift_heading_median_deg_mean"]) >= 0.0
        assert float(row["shift_removed_heading_median_deg_mean"]) >= 0.0
        assert float(row["fusion_roadside_lift_mean"]) > 0.0
        assert float(row["saliency_roadside_attention_percent_mean"]) > 0.0
        assert float(row["logged_shift_removed_heading_p95_deg_mean"]) >= 0.0
        assert float(row["logged_saliency_roadside_lift_mean"]) > 0.0
        assert float(row["saliency_vehicles_cells_percent_mean"]) > 0.0
        assert float(row["latency_ms_mean"]) > 0.0
        assert 0.0 <= float(row["thinned_longitudinal_5m_mean"]) <= 100.0
    assert (tmp_path / "out/ablation.png").is_file()


def test_logs_are_measured_after_the_fact(
    tmp_path: Path, trained: list[str], town_drive, monkeypatch: pytest.MonkeyPatch
):
    """A run that is finished is not trained anew for a drive that comes later."""
    config, measured = small(tmp_path), []

    def measure_logs(config: Config, folder: Path, logs: list) -> dict[str, float]:
        measured.append(folder.name)
        return {"logged_saliency_roadside_lift": 1.25}

    scoring = replace(trained_runs.ABLATION_SCORING, measure_logs=measure_logs)
    monkeypatch.setattr(trained_runs, "ABLATION_SCORING", scoring)
    ablate(config, "se,cam", ["fusion"], [0], tmp_path)
    assert "logged" not in (tmp_path / "ablation.csv").read_text()
    for _ in range(2):
        ablate(config, "se,cam", ["fusion"], [0], tmp_path, [town_drive])
    assert sorted(measured) == sorted(trained) == ["cam+none-seed0", "se+none-seed0"]
    assert "1.25" in (tmp_path / "ablation.md").read_text()
    assert town_drive[0].name in (tmp_path / "ablation.md").read_text()


def test_a_drive_takes_the_first_map_that_covers_it(town_drive, tmp_path: Path):
    drive, source = town_drive
    elsewhere = open_map(map_file("town:8", tmp_path))
    assert on_maps([drive], [elsewhere, source]) == [(drive, source)]
    with pytest.raises(DataError, match="no map covers"):
        on_maps([drive], [elsewhere])


def test_a_drive_without_labels_is_refused(town_drive, tmp_path: Path):
    drive, source = town_drive
    bare = shutil.copytree(drive._path, tmp_path / "bare")
    for path in (bare / "velodyne_points" / "data").iterdir():
        path.write_bytes(pack_scan(replace(read_packed_scan(path), labels=None)))
    with pytest.raises(DataError, match="labels"):
        on_maps([KittiRawDrive(bare)], [source])


def config_file(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small(tmp_path).model_dump(mode="json")))
    return str(path)


def test_the_command(tmp_path: Path, trained: list[str], capsys: pytest.CaptureFixture[str]):
    options = ["--attention", "se", "--slots", "fusion", "--seeds", "0, 2", "--output", str(tmp_path / "out")]
    assert main("ablate", [config_file(tmp_path), *options, "--set", "search.offset_deg=5"]) == 0
    assert trained == ["se+none-seed0", "se+none-seed2"]
    assert "5 degrees" in (tmp_path / "out/ablation.md").read_text()
    assert str(tmp_path / "out") in capsys.readouterr().out.replace("\n", "")
    assert main("ablate", [config_file(tmp_path), "--attention", "eca", "--output", str(tmp_path / "failing")]) == 1


@pytest.mark.parametrize("options", [["--seeds", "0,x"], ["--attention", "cbma"], ["--slots", "fuse"]])
def test_bad_usage_is_one_line(tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]):
    assert main("ablate", [config_file(tmp_path), *options, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tool", ["ablate", "benchmark"])
def test_help_imports_no_torch(tool: str):
    path = Path(__file__).resolve().parents[1] / "tools" / f"{tool}.py"
    code = (
        f"import runpy, sys; sys.argv = ['{tool}.py', '--help']\n"
        f"try: runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Usage: tools/{tool}.py" in done.stdout
