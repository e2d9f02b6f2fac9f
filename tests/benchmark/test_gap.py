import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bevfusion.benchmark import gap
from bevfusion.benchmark.gap import RINGS_M, draw_gap, gap_json, gap_lines, measure_gap
from bevfusion.cli import main
from bevfusion.structures import DataError, Frame, Scan
from bevfusion.summary import InputSummary

SLICES_M = (0.3, 1.0, 2.0, 3.5, 6.0)


class Posts:
    """Level ground and posts of 3 m on it, `posts` of them, seen from the middle."""

    odometry = "none"

    def __init__(self, name: str, seed: int, posts: int = 60, strength: float = 0.3) -> None:
        self.name, self.summary = name, InputSummary(name)
        self._seed, self._posts, self._strength = seed, posts, strength

    def __len__(self) -> int:
        return 3

    def __getitem__(self, position: int) -> Frame:
        rng = np.random.default_rng([self._seed, position])
        ground = np.column_stack([rng.uniform(-45.0, 45.0, (20_000, 2)), rng.normal(-1.7, 0.02, 20_000)])
        feet = rng.uniform(-45.0, 45.0, (self._posts, 2))
        posts = np.column_stack([np.repeat(feet, 20, axis=0), np.tile(np.linspace(-1.6, 1.3, 20), self._posts)])
        xyz = np.concatenate([ground, posts]).astype(np.float32)
        intensity = np.clip(rng.normal(self._strength, 0.05, len(xyz)), 0.0, 1.0).astype(np.float32)
        return Frame(position, position, Scan(xyz, intensity))

    def __iter__(self) -> Iterator[Frame]:
        return (self[position] for position in range(len(self)))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap, "_STEPS", 60)
    monkeypatch.setattr(gap, "_CROPS", 4)
    monkeypatch.setattr(gap, "_FOLDS", 2)


def test_what_is_alike_is_not_told_apart() -> None:
    measured = measure_gap([Posts(f"r{i}", i) for i in range(4)], [Posts(f"s{i}", 10 + i) for i in range(4)], SLICES_M)
    assert measured.real == ("r0 (3)", "r1 (3)", "r2 (3)", "r3 (3)")
    assert max(value for value in measured.distances().values() if np.isfinite(value)) < 3.0
    assert measured.distances()["occupied_1_2m"] < 1.5
    assert measured.told_by_network < 0.7
    assert measured.told_by_plane["occupied_1_2m"] < 0.7


def test_more_posts_and_brighter_ground_show_where_they_are() -> None:
    real = [Posts(f"r{i}", i) for i in range(4)]
    simulated = [Posts(f"s{i}", 10 + i, posts=400, strength=0.5) for i in range(4)]
    measured = measure_gap(real, simulated, SLICES_M)
    rows = {(row.quantity, row.near_m): row for row in measured.rows}
    posts = rows[("occupied_1_2m", RINGS_M[2])]
    assert posts.simulated > 4.0 * posts.real > 0.0
    assert posts.distance > 3.0
    bright = rows[("intensity", RINGS_M[1])]
    assert bright.real == pytest.approx(0.3, abs=0.02)
    assert bright.simulated == pytest.approx(0.5, abs=0.02)
    assert measured.told_by_plane["occupied_1_2m"] > 0.95
    assert measured.told_by_plane["never_seen"] < 0.8
    assert measured.told_by_network > 0.9


def test_the_answer_as_text_json_and_picture(tmp_path: Path) -> None:
    measured = measure_gap([Posts("a", 1), Posts("b", 2)], [Posts("c", 3), Posts("d", 4)], SLICES_M, frames=2)
    text = "\n".join(gap_lines(measured))
    assert "a (2), b (2)" in text
    assert "ground contrast" in text
    assert "told by a small network" in text
    written = json.loads(json.dumps(gap_json(measured)))
    assert written["told_by_network"] == measured.told_by_network
    assert len(written["rows"]) == len(measured.rows)
    draw_gap(measured, tmp_path / "gap.png")
    assert (tmp_path / "gap.png").stat().st_size > 10_000


def test_one_drive_has_no_spread() -> None:
    with pytest.raises(DataError, match="two real and two simulated"):
        measure_gap([Posts("a", 1)], [Posts("b", 2), Posts("c", 3)], SLICES_M)


def test_what_is_neither_drive_nor_map_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main("gap", [str(tmp_path / "none"), "--against", str(tmp_path / "no.osm"), "--cache", str(tmp_path)]) == 2
    assert "none" in capsys.readouterr().err
