"""Mechanisms side by side: means, spread, gains and their tables."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from bevfusion.attention import ATTENTION
from bevfusion.fusion.fuse import JOINS
from bevfusion.training.ablation_table import markdown, row_of, write_tables


def test_means_and_spread():
    row = row_of("fusion", "se", [{"a": 1.0, "b": 5.0}, {"a": 3.0, "c": math.nan}])
    assert (row.runs, row.mean["a"], row.mean["b"]) == (2, 2.0, 5.0)
    assert row.spread["a"] == pytest.approx(math.sqrt(2.0))
    assert math.isnan(row.spread["b"])
    assert math.isnan(row.mean["c"])


def test_gains_are_paired_by_seed():
    """Against SciPy: ttest_rel([5, 7, 12], [1, 4, 6]) has the 95 % interval 4.333 -+ 3.795."""
    runs, bare = (
        [{"heading_1deg": value, "other": 1.0} for value in values] for values in ((5.0, 7.0, 12.0), (1.0, 4.0, 6.0))
    )
    row = row_of("fusion", "se", runs, list(zip(runs, bare, strict=True)))
    mean, half = row.gain["heading_1deg"]
    assert mean == pytest.approx(13 / 3)
    assert half == pytest.approx(3.795, abs=0.005)
    text = markdown([row], {}, "About.")
    assert "What it brings over `none` in the fusion slot" in text
    assert "| `se` | - | **+4.33 (+0.54 to +8.13)** |" in text
    assert row_of("fusion", "se", runs[:1], [(runs[0], bare[0])]).gain == {}, "one seed says nothing of chance"


def test_tables(tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = [
        row_of(
            slot,
            name,
            [
                {
                    "position_1m": rng.uniform(20, 80),
                    "heading_1deg": rng.uniform(40, 90),
                    "shift_heading_p95_deg": rng.uniform(0, 2),
                    f"{slot}_roadside_lift": rng.uniform(0.8, 1.5),
                    f"{slot}_parameters": 12345.0,
                }
                for _ in range(3)
            ],
        )
        for slot, names in (("fusion", [*ATTENTION, *JOINS]), ("refine", ATTENTION))
        for name in names
    ]
    write_tables(tmp_path, rows, {"x": "broke"}, "About.")
    assert {path.name for path in tmp_path.iterdir()} == {"ablation.md", "ablation.csv", "ablation.png"}
    table = list(csv.DictReader((tmp_path / "ablation.csv").open()))
    assert len(table) == len(rows)
    fusion = [float(row["position_1m_mean"]) for row in table if row["slot"] == "fusion"]
    assert fusion == sorted(fusion, reverse=True)
    assert table[0]["refine_roadside_lift_mean"] == ""
    text = (tmp_path / "ablation.md").read_text()
    assert "12,345 |" in text
    assert "- x: broke" in text


def test_a_table_without_rows():
    assert "Not in the table" in markdown([], {"x": "broke"}, "About.")
