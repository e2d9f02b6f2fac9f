"""Two runs side by side: the statistics against slow references, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.cli import main
from bevfusion.evaluation import comparison as comparison_module
from bevfusion.evaluation.comparison import (
    ComparedFigure,
    compare_runs,
    compared_figures,
    markdown,
    read_run,
    rich_table,
    write_comparison,
)
from bevfusion.evaluation.results import QUANTITY_KEYS, ScoredEstimate, write_csv
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOCOL = {"mode": "single", "offset_m": 20.0, "offset_deg": 10.0, "draws": 1, "seed": 0}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), min_size=1, max_size=120),
    st.floats(1.0, 50.0),
    st.integers(0, 99),
)
def test_blocks_are_stretches_of_one_drive(answers: list[tuple[str, int]], length_m: float, seed: int) -> None:
    drives, frames = [drive for drive, _ in answers], np.array([frame for _, frame in answers])
    steps_m = np.random.default_rng(seed).choice([0.0, 0.3, 2.0, 500.0], 61, p=[0.2, 0.3, 0.45, 0.05])
    way_m = np.cumsum(steps_m)
    block = comparison_module.blocks(drives, frames, np.stack([way_m, -way_m], axis=1)[frames], length_m)
    assert sorted(set(block.tolist())) == list(range(block.max() + 1))
    for drive in set(drives):
        of_frame: dict[int, set[int]] = {}
        for (name, frame), number in zip(answers, block.tolist(), strict=True):
            if name == drive:
                of_frame.setdefault(frame, set()).add(number)
        in_order = [of_frame[frame] for frame in sorted(of_frame)]
        assert all(len(numbers) == 1 for numbers in in_order)  # all draws of a frame together
        sequence = [numbers.pop() for numbers in in_order]
        assert sequence == sorted(sequence)
        seen = way_m[sorted(of_frame)]
        for number in set(sequence):
            mine = seen[np.array(sequence) == number]
            hops_m = np.minimum(np.sqrt(2.0) * np.diff(mine), length_m)
            assert hops_m.sum() < 2.0 * length_m + 1e-6
        others = {number for (name, _), number in zip(answers, block.tolist(), strict=True) if name != drive}
        assert not others & set(sequence)


def test_blocks_go_by_the_way_and_not_by_the_frames() -> None:
    """A frame every 5 m, and the same way with a frame every metre: the same stretches; standing still adds none."""

    def stretches(x_m: np.ndarray) -> list[tuple[float, float]]:
        block = comparison_module.blocks(["d"] * len(x_m), np.arange(len(x_m)), np.stack([x_m, 0.0 * x_m], axis=1))
        return [(float(x_m[block == k].min()), float(x_m[block == k].max())) for k in range(block.max() + 1)]

    sparse, dense = stretches(np.arange(0.0, 2000.0, 5.0)), stretches(np.arange(2000.0))
    assert sparse == [(100.0 * k, 100.0 * k + 95.0) for k in range(20)]
    assert dense == [(100.0 * k, 100.0 * k + 99.0) for k in range(20)]
    assert len(stretches(np.zeros(5000))) == 1
    assert len(stretches(np.array([7.0]))) == 1
    assert len(stretches(np.array([0.0, 1.0, 9000.0, 9001.0]))) == 1, "a jump is no way of 9 km"


@pytest.mark.parametrize("seed", range(4))
def test_resampled_differences_against_writing_every_resample_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.round(rng.exponential(2.0, (2, 83)), 1)  # with ties
    block = np.sort(rng.integers(0, 7, 83))
    block = np.unique(block, return_inverse=True)[1].reshape(-1)
    number = int(block.max()) + 1
    counts = comparison_module.drawn_counts(number, 40, seed)
    assert counts.shape == (40, number)
    assert (counts.sum(axis=1) == number).all()
    recall = comparison_module.recall_differences(a < 1.0, b < 1.0, block, counts)
    median = comparison_module.median_differences(a, b, block, counts)
    for i, drawn in enumerate(counts):
        rows = np.concatenate([np.flatnonzero(block == k) for k in range(number) for _ in range(drawn[k])])
        assert recall[i] == pytest.approx(100.0 * (np.mean(b[rows] < 1.0) - np.mean(a[rows] < 1.0)))
        assert median[i] == pytest.approx(np.median(b[rows]) - np.median(a[rows]))


def coverage(size: int) -> float:
    """How often the interval holds the true difference (none) of two runs whose errors stay alike for 40 frames."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(150):
        hits = np.repeat(rng.random((2, 50)) < 0.5, 40, axis=1)
        way_m = np.stack([np.arange(2000.0), np.zeros(2000)], axis=1)
        block = comparison_module.blocks(["d"] * 2000, np.arange(2000), way_m, float(size))
        counts = comparison_module.drawn_counts(int(block.max()) + 1, 200, trial)
        low, high = comparison_module.interval_95(comparison_module.recall_differences(hits[0], hits[1], block, counts))
        held += low <= 0.0 <= high
    return held / 150


def test_intervals_hold_the_truth_where_neighbours_are_alike() -> None:
    assert coverage(100) > 0.85
    assert coverage(1) < 0.5  # single frames as if independent: far too sure


def write_run(folder: Path, errors_m: dict[str, np.ndarray], protocol: dict | None = None, **content: object) -> Path:
    """A run with the given lateral errors; headings are off by a tenth of that in radians."""
    folder.mkdir()
    predictions = [
        ScoredEstimate(
            drive_index=index,
            frame_index=i,
            drive=drive,
            frame=i,
            stamp_ns=i,
            draw=0,
            map_index=0,
            map_name="m",
            prior=SE2(1.0, 1.0, 0.1),
            truth=SE2(float(i), 0.0, 0.0),
            estimate=SE2(float(i), float(error), 0.1 * float(error)),
            covariance=np.eye(3),
            confidence=0.5,
            runtime_ms=1.0,
        )
        for index, (drive, errors) in enumerate(errors_m.items())
        for i, error in enumerate(errors)
    ]
    write_csv(folder / "predictions.csv", predictions)
    report = {"frames": len(predictions), "protocol": PROTOCOL | (protocol or {}), "lost": {}} | content
    (folder / "metrics.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """B is clearly better on 1200 frames of two drives."""
    rng = np.random.default_rng(0)
    worse = {drive: rng.exponential(2.0, 600) for drive in ("first", "second")}
    return write_run(tmp_path / "run_a", worse), write_run(
        tmp_path / "run_b", {drive: 0.5 * errors for drive, errors in worse.items()}
    )


def test_the_better_run_is_found(runs: tuple[Path, Path]) -> None:
    found = compare_runs(*map(read_run, runs), resamples=300)
    assert (found.pairs, found.frames, found.blocks) == (1200, 1200, 12)
    assert [line.quantity for line in found.figures[::4]] == list(QUANTITY_KEYS)
    line = found.figures[0]
    assert line.statistic == "<1"
    assert line.a == pytest.approx(100.0 * np.mean(found.errors_a["lateral_m"] < 1.0))
    low, high = line.interval
    assert low < line.difference < high
    assert line.verdict == "B"
    median = found.figures[3]
    assert median.b == pytest.approx(0.5 * median.a, rel=1e-4)
    assert (median.statistic, median.verdict) == ("median", "B")
    assert found.figures[4].interval == (0.0, 0.0)  # along the road both are exact
    assert found.figures[4].verdict == ""
    assert set(found.per_drive) == {"first", "second"}
    assert "12 blocks only" in found.notes[0]
    np.testing.assert_allclose(found.errors_a["position_m"], found.errors_a["lateral_m"])
    back = compare_runs(*map(read_run, runs[::-1]), resamples=300).figures[0]
    assert back.verdict == "A"
    assert back.interval == pytest.approx((-high, -low))


def test_a_run_equals_itself(runs: tuple[Path, Path]) -> None:
    found = compare_runs(read_run(runs[0]), read_run(runs[0]), resamples=50)
    assert all(line.interval == (0.0, 0.0) and not line.verdict for line in found.figures)


def test_few_blocks_give_no_interval(tmp_path: Path) -> None:
    errors = {"d": np.full(499, 0.5)}
    a, b = write_run(tmp_path / "a", errors), write_run(tmp_path / "b", {"d": np.full(499, 2.0)})
    found = compare_runs(read_run(a), read_run(b))
    assert found.blocks == 4
    assert all(line.interval is None and not line.verdict for line in found.figures)
    assert found.notes == [
        "No intervals: the way makes 4 blocks of 100 m, and fewer than 5 say too little about chance."
    ]
    assert "Intervals" not in markdown(found)
    assert found.figures[0] == ComparedFigure("lateral_m", "<1", 100.0, 0.0, None)


def test_a_drives_own_interval_rests_on_its_own_blocks() -> None:
    block = np.repeat([3, 5, 9], 10)
    errors = {"position_m": np.arange(30.0)}
    assert compared_figures(errors, errors, block, 20, 0)[0].interval is None
    block = np.repeat([3, 5, 9, 11, 12, 40], 5)
    assert compared_figures(errors, errors, block, 20, 0)[0].interval == (0.0, 0.0)


def test_only_shared_frames_count_and_the_rest_is_told(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"d": np.ones(30), "only_a": np.ones(5)}, lost={"d": 2})
    b = write_run(tmp_path / "b", {"d": np.ones(20)}, {"seed": 1})
    found = compare_runs(read_run(a), read_run(b))
    assert found.pairs == 20
    assert found.notes[:3] == [
        "15 answers of A have no partner in the other run and do not count here.",
        "A gave no answer in 2 frames (lost): they do not count here.",
        "The protocols differ in seed: 0 in A, 1 in B.",
    ]


def test_other_truths_and_priors_are_told(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, {"d": np.ones(3)}) for name in "ab")
    table = b / "predictions.csv"
    table.write_text(table.read_text().replace(",1.000000,1.000000,0.100000,", ",1.000000,1.500000,0.100000,", 1))
    notes = compare_runs(read_run(a), read_run(b)).notes
    assert notes[0] == "The priors differ in 1 of 3 pairs (another map, or another start)."
    assert len(notes) == 2


def test_runs_without_shared_frames_are_refused(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", {"x": np.ones(3)}), write_run(tmp_path / "b", {"y": np.ones(3)})
    with pytest.raises(DataError, match="runs a and b share no frames: a has x, b has y"):
        compare_runs(read_run(a), read_run(b))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        ("metrics.json", '{"frames": 1}'),
        ("metrics.json", '{"frames": 1, "protocol": {}, "lost": 3}'),
        ("predictions.csv", "drive,frame\nd,0\n"),
        ("predictions.csv", "cut"),
        ("predictions.csv", "nan"),
        ("predictions.csv", "twice"),
        ("predictions.csv", "binary"),
    ],
)
def test_broken_runs_are_one_clear_line(tmp_path: Path, name: str, content: str) -> None:
    folder = write_run(tmp_path / "a", {"d": np.ones(3)})
    text = (folder / name).read_text()
    last = text.splitlines()[-1]
    changed = {
        "cut": text[: len(text) - len(last) // 2],
        "nan": text.replace("1.000000", "nan"),
        "twice": text + last + "\n",
        "binary": "\x00\udcff" * 9,
    }.get(content, content)
    (folder / name).write_bytes(changed.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match="not what evaluate writes"):
        read_run(folder)


def test_files_and_tables(runs: tuple[Path, Path], tmp_path: Path) -> None:
    found = compare_runs(*map(read_run, runs), resamples=50)
    write_comparison(tmp_path / "deep" / "out", found)
    names = {path.name for path in (tmp_path / "deep/out").iterdir()}
    assert names == {"comparison.md", "comparison.png"}
    assert (tmp_path / "deep/out/comparison.png").stat().st_size > 20_000
    text = markdown(found)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 3 * (2 + 16)
    assert {line.replace("\\|", "").count("|") for line in tables} == {7}
    assert "run\\_a" in text
    assert rich_table(found).row_count == 16


def test_the_command(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("compare", [*map(str, runs), "--output", str(tmp_path / "out")]) == 0
    assert main("compare", [*map(str, runs), "--output", str(tmp_path / "out")]) == 2  # nothing is replaced unasked
    assert main("compare", [*map(str, runs), "--output", str(tmp_path / "out"), "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "95 % interval" in out
    assert "12 stretches" in out
    assert (tmp_path / "out/comparison.md").is_file()
    (tmp_path / "empty").mkdir()
    assert main("compare", [str(runs[0]), str(tmp_path / "empty")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "metrics.json" in captured.err


def test_help_is_light() -> None:
    code = (
        "import runpy, sys; sys.argv = ['compare.py', '--help']\n"
        f"try: runpy.run_path({str(REPOSITORY / 'tools/compare.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: tools/compare.py [OPTIONS]" in done.stdout
