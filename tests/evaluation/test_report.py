"""The page that an evaluation ends with, read as text and in a browser."""

import base64
import json
import math
import re
import shutil
import subprocess
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bevfusion.evaluation import plots
from bevfusion.evaluation.report import card, flat, headline, rich_table, rows, warnings, write_report
from bevfusion.evaluation.results import (
    BeliefMarginals,
    DriveResult,
    ScoredEstimate,
    WorstBeliefs,
    trajectories,
    worst,
    write_trajectories,
)
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.pictures import legend, paint
from bevfusion.maps.schema import LAYERS
from bevfusion.structures import PoseBelief
from bevfusion.tables import number
from tests.evaluation.test_run import FakeDrive, FakeLocator, FakeMap, run

SECTIONS = (
    *("results", "protocol", "trajectory", "errors", "cumulative", "rose", "calibration", "runtime", "worst"),
    "files",
)
NASTY = '<script>alert("x")</script> & co'
WINDOW = PoseWindow(4.0, math.radians(6), 1.0, math.radians(2))


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def belief_at(offset: SE2) -> PoseBelief:
    r, y, x = (round(value) for value in WINDOW.bins_from_offset(offset))
    prob = torch.full((1, *WINDOW.shape), 0.4 / (math.prod(WINDOW.shape) - 1))
    prob[0, r, y, x] = 0.6
    return PoseBelief(prob.log(), WINDOW)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two short drives, one with a name that no page must take at its word."""
    drives = [
        FakeDrive([SE2(4.0 * i, 5.0 + i, 0.3) for i in range(12)], NASTY),
        FakeDrive([SE2(0.0, 2.0 * i, 1.0) for i in range(2)], "other"),
    ]
    answers = [SE2(4.0 * i + 0.3 * i, 5.0 + i, 0.3 + 0.05 * i) for i in range(12)]
    folder = tmp_path_factory.mktemp("report") / "out"
    run(FakeLocator(answers, belief_at(SE2(1.0, 0.0, 0.0))), drives, folder)
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


def test_every_section_says_what_it_is(page: Page, written: Path) -> None:
    assert tuple(section["id"] for section in page.all("section")) == SECTIONS
    assert {link["href"] for link in page.all("a") if link["href"].startswith("#")} == {f"#{name}" for name in SECTIONS}
    text = (written / "report.html").read_text(encoding="utf-8")
    for part in text.split("<section ")[1:]:
        assert re.search(r"<h2>[^<]+</h2>\s*<p>[A-Z“].{40,}", part, re.DOTALL), part[:200]
    assert "Not drawn" not in text
    assert text.lstrip().startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]


def test_nothing_comes_from_elsewhere(page: Page, written: Path) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "video", "audio", "base"}
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    for link in page.all("a"):
        assert link["href"].startswith("#") or (written / link["href"]).is_file()
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes)
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "http:" not in text
    assert "https:" not in text


def test_pictures_show_something_and_say_what(page: Page) -> None:
    images = page.all("img")
    statistics, of_a_drive, of_a_frame = 8, 1 + 3, 2 + 2
    assert len(images) == statistics + 2 * of_a_drive + 2 * of_a_frame  # two drives, and the two worst of 14 frames
    for image in images:
        assert len(image["alt"]) > 30
        data = base64.b64decode(image["src"].partition(",")[2], validate=True)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 5.0, image["alt"]
    assert len({image["src"] for image in images}) == len(images)


def test_names_are_shown_not_obeyed(page: Page) -> None:
    assert any(NASTY in text for text in page.text)
    assert any(NASTY in image["alt"] for image in page.all("img"))


def test_the_figures_are_those_of_metrics_json(page: Page, written: Path) -> None:
    report = json.loads((written / "metrics.json").read_text())
    found = rows(report)
    chance, removed = "chance: the prior itself", report["per_drive"][NASTY]["offset_removed"]
    shift = f"offset removed ({removed['east_m']:+.2f} m east, {removed['north_m']:+.2f} m north)"
    assert [row.name for row in found][:4] == ["all drives", chance, NASTY, f"{NASTY}, {shift}"]
    expected = [f"{report['position_m']['recall'][key]:.1f}" for key in ("1", "3", "5")]
    assert list(found[0].cells[8:11]) == expected
    assert found[0].cells[11] == f"{report['position_m']['median']:.2f}"
    assert len({len(row.cells) for row in found}) == 1
    shown = "".join(page.text)
    assert headline(report) in shown
    assert f"{report['calibration']['coverage_68']:.1f}" in shown


def test_warnings_name_frames_that_do_not_count(written: Path) -> None:
    report = json.loads((written / "metrics.json").read_text())
    assert warnings(report) == []
    report["lost"]["other"] = 3
    assert warnings(report) == [
        "other: 3 frames without an answer (the tracker was lost or not sure enough); they count in no figure."
    ]


def test_the_card_tells_all_of_the_protocol(written: Path) -> None:
    report = json.loads((written / "metrics.json").read_text())
    report["checkpoint"] = {"sha256": "abc", "training": {"seed": 3, "data": ["a", "b"]}}
    lines = dict(card(report, datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)))
    assert lines["window"].startswith("±20 m east and north, ±10° in heading")
    assert lines["checkpoint, sha256"] == "abc"
    assert lines["checkpoint, training.seed"] == "3"
    assert lines["checkpoint, training.data"] == '["a", "b"]'
    assert lines["map fake"].startswith("14 frames")
    assert lines["written"] == "2026-01-02 03:04 UTC"
    report["protocol"]["offset_deg"] = 180.0
    assert "any heading" in dict(card(report, datetime.now()))["window"]
    assert flat({"a": {"b": None}}) == [("a.b", "none")]


def test_what_is_not_known_is_a_dash(tmp_path: Path, written: Path) -> None:
    report = json.loads((written / "metrics.json").read_text())
    assert (number(None, 1), number(math.nan, 1), number(1.25, 1, sign=True)) == ("–", "–", "+1.2")  # noqa: RUF001
    report["calibration"] = dict.fromkeys(report["calibration"])
    write_report(tmp_path / "report.html", report, [prediction(0, 0, 1.0)], tmp_path / "nowhere")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "cannot be said" in text
    assert text.count("Not drawn") == 5
    assert "No answer is off by so much" in text
    assert "<img" not in text


def prediction(position: int, draw: int, error_m: float, **changes: object) -> ScoredEstimate:
    values: dict = {
        "drive_index": 0,
        "frame_index": position,
        "drive": "d",
        "frame": position,
        "stamp_ns": 1_317_384_000_000_000_001 + position * 100_000_000,
        "draw": draw,
        "map_index": 0,
        "map_name": "m",
        "prior": SE2(9.0, 9.0, 9.0),
        "truth": SE2(float(position), 0.0, 0.5),
        "estimate": SE2(float(position), error_m, 0.5 + 0.1 * draw),
        "covariance": np.eye(3),
        "confidence": 0.5,
        "runtime_ms": 1.0,
    }
    return ScoredEstimate(**(values | changes))


def test_trajectories_are_what_evo_reads(tmp_path: Path) -> None:
    predictions = [prediction(p, d, 0.25) for p in (1, 0, 2) for d in (0, 1)]
    names = write_trajectories(tmp_path, predictions)
    assert names == ["truth_d.tum", "estimate_d.tum", "estimate_d_draw1.tum"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    lines = (tmp_path / "estimate_d_draw1.tum").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"1317384000.{k}00000001" for k in range(3)]  # no digit lost
    values = np.array([[float(word) for word in line.split()] for line in lines])
    assert values.shape == (3, 8)
    np.testing.assert_allclose(values[:, 1:4], [[0, 0.25, 0], [1, 0.25, 0], [2, 0.25, 0]])
    np.testing.assert_allclose(2.0 * np.arctan2(values[:, 6], values[:, 7]), 0.6, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(values[:, 4:], axis=1), 1.0, atol=1e-8)


def test_trajectories_have_files_of_their_own() -> None:
    mixed = [
        *(prediction(0, 0, 0.0, drive="a b"), prediction(1, 0, 0.0, drive="a b", map_index=1)),
        *(prediction(0, 0, 0.0, drive="c/d"), prediction(0, 0, 0.0, drive="c d")),
    ]
    assert [one.file_name for one in trajectories(mixed)] == ["a_b_map0", "a_b_map1", "c_d", "c_d_2"]


@pytest.mark.usefixtures("_no_drawing")
def test_trajectories_of_an_earlier_run_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "b"):
        run(FakeLocator([SE2()]), [FakeDrive([SE2()], name)], out)
    assert sorted(path.name for path in out.glob("*.tum")) == ["estimate_b.tum", "truth_b.tum"]


@pytest.fixture
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_: folder.mkdir())


def test_marginals() -> None:
    found = BeliefMarginals.of(belief_at(SE2(2.0, -1.0, math.radians(4))), SE2(10.0, 20.0, 1.0))
    assert found.place.sum() == pytest.approx(1.0)
    assert found.heading.sum() == pytest.approx(1.0)
    y, x = np.unravel_index(found.place.argmax(), found.place.shape)
    shifts_m = WINDOW.shifts_m()
    assert (shifts_m[x], shifts_m[y]) == (2.0, -1.0)
    assert math.degrees(WINDOW.yaw_offsets_rad()[found.heading.argmax()]) == pytest.approx(4.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_kept_marginals_are_those_of_the_worst(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = WorstBeliefs(4)
    asked = [
        prediction(position, draw, float(rng.integers(0, 12)))  # with ties
        for draw in range(3)
        for position in rng.permutation(9).tolist()
    ]
    belief = belief_at(SE2())
    for number_, each in enumerate(asked):
        kept.offer(each, belief, SE2(float(number_)))
    chosen = worst(asked, 4)
    assert [kept.of(each).centre.x_m for each in chosen] == [asked.index(each) for each in chosen]
    assert sum(kept.of(each) is not None for each in asked) == 4


@pytest.mark.parametrize("mode", ["single", "filter", "global"])
def test_odometry_alone_is_drawn_where_it_means_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    figures = {}
    monkeypatch.setattr(plots, "save_figure", lambda figure, path, *_: figures.__setitem__(path.stem, figure))
    asked = [prediction(p, 0, 0.5) for p in range(3)]
    drive = FakeDrive([SE2(float(p), 0.0, 0.5) for p in range(3)])
    plots.write_plots(tmp_path / "plots", [DriveResult("d", "log", asked)], [drive], [FakeMap()], mode)  # type: ignore[list-item]
    (axis,) = figures["trajectory_d"].axes
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == [*(["odometry alone"] if mode == "filter" else []), "truth", "estimate"]
    assert "reliability" not in figures  # no belief was shown


def test_in_a_browser(written: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1150,9000"),
        *(f"--log-net-log={tmp_path / 'net.json'}", f"--screenshot={tmp_path / 'page.png'}"),
    ]
    address = (written / "report.html").as_uri()
    done = subprocess.run([browser, *flags, address], capture_output=True, text=True, timeout=60, check=False)
    if not (tmp_path / "page.png").is_file():
        pytest.skip(f"chromium does not run here: {done.stderr.strip()[-200:]}")
    assert "CONSOLE" not in done.stderr
    asked = re.findall(r'"url":"([a-z]+://[^/"]*)', (tmp_path / "net.json").read_text(errors="replace"))
    own = re.compile(r"https?://[\w.-]*\.(google|googleapis|gstatic)\.com$|file://$|chrome")  # of the browser itself
    assert [host for host in asked if not own.match(host)] == []
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture.shape == (9000, 1150, 3)
    for name, colour in (("truth", plots.TRUTH), ("estimate", plots.ESTIMATE), ("prior", plots.PRIOR)):
        bgr = [int(colour[i : i + 2], 16) for i in (5, 3, 1)]
        near = (np.abs(picture.astype(int) - bgr) < 12).all(axis=2)
        assert near.sum() > 500, name
        assert np.ptp(np.nonzero(near.any(axis=1))[0]) > 3000, name  # in more than one picture
    assert (picture.std(axis=(1, 2)) > 3.0).mean() > 0.5  # half of the rows have something on them


def test_the_headline_says_what_share_was_answered(written: Path) -> None:
    report = json.loads((written / "metrics.json").read_text())
    assert report["answered_percent"] == 100.0
    assert headline(report).startswith("14 frames of 2 drives: the position")
    # fourteen of twenty: recalls count the answers alone
    report["lost"]["other"], report["answered_percent"] = 6, 70.0
    shown = headline(report)
    assert shown.startswith("14 frames of 2 drives, 70.0 % of what was asked (6 without an answer count in no figure):")
    table = rich_table(report)
    assert "70.0 % of what was asked" in str(table.caption)


@pytest.mark.parametrize(("frames", "drawn"), [(1, 1), (9, 1), (12, 2), (49, 9), (500, 10)])
def test_so_many_of_the_worst_are_drawn_that_drawing_costs_less_than_asking(frames: int, drawn: int) -> None:
    asked = [prediction(number, draw, 10.0 + 0.01 * number) for number in range(frames) for draw in (0, 1)]
    assert [estimate.frame for estimate in plots.drawn_worst(asked)] == list(range(frames))[::-1][:drawn]


def test_only_bad_answers_are_drawn_and_a_flip_is_one() -> None:
    fine = [prediction(number, 0, 0.1 * number) for number in range(20)]
    assert plots.drawn_worst(fine) == []
    flipped = prediction(20, 0, 0.2, estimate=SE2(20.0, 0.2, 0.5 + math.pi))
    drawn = plots.drawn_worst([*fine, prediction(21, 0, 3.0), flipped])
    assert [estimate.frame for estimate in drawn] == [20, 21]


def test_the_page_credits_the_map_and_explains_its_colours(page: Page) -> None:
    text = " ".join(" ".join(page.text).split())
    assert "© OpenStreetMap contributors" in text
    colours = [rect["fill"] for rect in page.all("rect")]
    assert len(set(colours)) == len(colours) == len(legend())
    assert all(name in text for name, _ in legend())
    assert not re.search(
        r"(?i)\b(lateral|longitudinal)\b", text.replace("files call them lateral and longitudinal", "")
    )


def test_the_legend_has_the_colours_of_the_picture() -> None:
    planes = np.eye(len(LAYERS), dtype=np.int8)[:, None, :]  # a cell for each layer
    painted = {"#{:02x}{:02x}{:02x}".format(*cell) for cell in paint(planes)[0]}
    assert painted == {colour for _, colour in legend()}
