"""`locate --route`, `--to` and `--draw`: the way on from where a scan was found."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import PoseEstimate, Scan
from tests.maps.osm_text import CENTRE, OsmText

NEAR = ",".join(f"{degrees:.8f}" for degrees in CENTRE.degrees_from_metres(-20.0, -1.5))


class AtThePrior:
    """Finds every scan exactly where it was said to be."""

    model = None
    map_error_m = 0.0

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        return PoseEstimate(prior, np.diag([0.04, 0.04, 1e-4]), 0.01, 0.9, prior)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A scan of a few points, and a crossing with a one-way street that leads in from the south."""
    monkeypatch.setattr("bevfusion.localizer.open_locator", lambda checkpoint, source, *computing: AtThePrior())
    text = OsmText()
    middle = text.node(0.0, 0.0)
    for x_m, y_m, tags in ((-150, 0, {}), (150, 0, {}), (0, 150, {}), (0, -150, {"oneway": "-1"})):
        text.way([middle, text.node(x_m, y_m)], {"highway": "residential", **tags})
    (tmp_path / "town.osm").write_text(str(text))
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-20.0, 20.0, (400, 3)) * [1.0, 1.0, 0.05], rng.random((400, 1))], axis=1)
    points.astype("<f4").tofile(tmp_path / "scan.bin")
    return str(tmp_path / "scan.bin"), str(tmp_path / "town.osm")


def located(files: tuple[str, str], capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    scan, town = files
    assert main("locate", ["c", scan, "--map", town, f"--near={NEAR},0", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def goal(x_m: float, y_m: float) -> str:
    lat, lon = CENTRE.degrees_from_metres(x_m, y_m)
    return f"--to={lat:.8f},{lon:.8f}"


def test_every_branch_is_told(files: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    answer = located(files, capsys)
    turns = sorted(path["turn_deg"][-1] for path in answer["paths"])
    assert turns == pytest.approx([0.0, 90.0], abs=6.0)  # the street to the south is one-way against us
    assert sum(path["probability"] for path in answer["paths"]) == pytest.approx(1.0)
    assert answer["way"].startswith("+0.")


def test_the_way_to_a_goal(files: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    (path,) = located(files, capsys, goal(0.0, 120.0))["paths"]
    assert path["turn_deg"][-1] == pytest.approx(90.0, abs=6.0)
    assert len(path["points_m"]) == len(path["lat_lon"]) == 20


def test_along_a_file(files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path):
    line = [CENTRE.degrees_from_metres(x_m, y_m)[::-1] for x_m, y_m in ((-60.0, 0.0), (0.0, 0.0), (0.0, -60.0))]
    (tmp_path / "route.geojson").write_text(json.dumps({"type": "LineString", "coordinates": line}))
    (path,) = located(files, capsys, "--route", str(tmp_path / "route.geojson"))["paths"]
    assert path["turn_deg"][-1] == pytest.approx(-90.0, abs=6.0)  # whoever draws a route knows why


def test_a_picture_is_drawn_and_not_overwritten(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    pytest.importorskip("matplotlib")
    located(files, capsys, "--draw", str(tmp_path / "pictures"))
    assert (tmp_path / "pictures/scan_way.png").stat().st_size > 10_000
    scan, town = files
    again = ["c", scan, "--map", town, f"--near={NEAR},0", "--draw", str(tmp_path / "pictures")]
    assert main("locate", again) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (goal(0.0, -120.0), "no way on the roads of town leads from the pose"),
        (goal(5000.0, 0.0), "outside of the map town"),
        ("--to=49,8.4,90", "without a heading"),
        ("--to=north", "--to expects LAT,LON"),
    ],
)
def test_what_leads_nowhere_is_said_in_one_line(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], option: str, message: str
):
    scan, town = files
    assert main("locate", ["c", scan, "--map", town, f"--near={NEAR},0", option]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_heading_against_a_oneway_street_has_no_way(files: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    scan, town = files
    lat, lon = CENTRE.degrees_from_metres(0.0, -100.0)
    assert main("locate", ["c", scan, "--map", town, f"--near={lat},{lon},-90", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["paths"] == []
    assert "only against its heading" in answer["no_path"]
    assert math.isclose(answer["heading_deg"], -90.0, abs_tol=0.1)
