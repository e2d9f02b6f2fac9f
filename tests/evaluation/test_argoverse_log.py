"""The real Argoverse 2 log through the whole command, on a map picture drawn from the log's own vector map."""

import json
from pathlib import Path

import cv2
import numpy as np
import pyproj
import pytest

from bevfusion.cli import main
from bevfusion.datasets.argoverse2 import CITIES

CELL_M = 0.5


def draw_map(log: Path, folder: Path) -> Path:
    """Drivable areas as road and crossings as paths, in the log's UTM zone."""
    (archive,) = (log / "map").glob("log_map_archive_*.json")
    content = json.loads(archive.read_text())
    zone, lat, lon = CITIES[archive.stem.split("____")[1].split("_")[0]]
    east, north = pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:{32600 + zone}", always_xy=True).transform(lon, lat)
    areas = [np.array([(p["x"], p["y"]) for p in a["area_boundary"]]) for a in content["drivable_areas"].values()]
    low, high = np.min([a.min(0) for a in areas], 0) - 50.0, np.max([a.max(0) for a in areas], 0) + 50.0
    width, height = np.ceil((high - low) / CELL_M).astype(int).tolist()
    picture = np.zeros((height, width), np.uint8)
    for area in areas:  # one at a time: overlapping polygons cancel out
        pixels = np.round(np.stack([area[:, 0] - low[0], high[1] - area[:, 1]], 1) / CELL_M).astype(np.int32)
        cv2.fillPoly(picture, [pixels], 255)
    cv2.imwrite(str(folder / "city.png"), picture)
    values = (CELL_M, 0.0, 0.0, -CELL_M, east + low[0] + 0.5 * CELL_M, north + high[1] - 0.5 * CELL_M)
    (folder / "city.pgw").write_text("\n".join(f"{value:.6f}" for value in values))
    (folder / "city.json").write_text(json.dumps({"crs": f"EPSG:{32600 + zone}", "legend": {"255": "road"}}))
    return folder / "city.png"


@pytest.mark.parametrize("mode", ["single", "filter"])
def test_an_argoverse2_log(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    pytest.importorskip("pyarrow", reason="extra argoverse2 is not installed")
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())
    (log,) = (shared_data / "formats/argoverse2").iterdir()
    words = ["evaluate", "default", log, "--map", draw_map(log, tmp_path), "--output", tmp_path / "out"]
    assert main(None, [*map(str, words), "--mode", mode, "--offset-m", "10"]) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["frames"] == 2
    assert metrics["not_covered"] == {log.name: 0}
    # roads are all that this map has, of a sensor that no training has seen
    assert metrics["position_m"]["median"] < 3.0
    assert metrics["heading_deg"]["median"] < 5.0
