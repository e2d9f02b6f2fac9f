import pytest

from bevfusion.datasets.simulated import map_file, simulated_drive
from bevfusion.simulate.drive import DriveOptions
from bevfusion.structures import DataError

OPTIONS = DriveOptions(sensor="vlp16", frames=2, spacing_m=10.0, columns=128)


def test_a_drive_is_made_once_and_known_by_its_options(tmp_path):
    seen: list[int] = []
    first = simulated_drive("town:3", OPTIONS, tmp_path, lambda done, _: seen.append(done))
    again = simulated_drive("town:3", OPTIONS, tmp_path, lambda done, _: seen.append(-1))
    assert seen[-1] == 2
    assert -1 not in seen
    assert first.name == again.name
    other = simulated_drive("town:3", DriveOptions(sensor="vlp16", frames=2, seed=1, columns=128), tmp_path)
    assert other.name != first.name


@pytest.mark.parametrize(("spec", "message"), [("town:x", "town:SEED"), ("nowhere.osm", "no such map")])
def test_a_map_that_is_not_there_is_one_line(tmp_path, spec: str, message: str):
    with pytest.raises(DataError, match=message):
        map_file(spec, tmp_path)
