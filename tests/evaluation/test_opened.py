from bevfusion.classical.locator import ClassicalLocator
from bevfusion.evaluation.scoring import one_locator_per_map
from bevfusion.maps.source import MapSource, open_map


def test_a_map_is_opened_once_and_its_twin_is_another(town_drive):
    drive, source = town_drive
    opened = []

    def make(one: MapSource) -> ClassicalLocator:
        opened.append(one)
        return ClassicalLocator(one)

    locator_on = one_locator_per_map(make)
    twin = open_map(next(drive._path.parent.glob("*.osm.gz")))
    assert locator_on(source) is locator_on(source)
    assert locator_on(twin) is not locator_on(source)
    assert [one is source for one in opened] == [True, False]
