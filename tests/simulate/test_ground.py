import numpy as np

from bevfusion.maps.features import Area
from bevfusion.simulate.ground import KERB_M, draw_ground, sidewalk_m
from bevfusion.simulate.surfaces import PARKING, ROAD, SIDEWALK, TERRAIN
from bevfusion.simulate.terrain import Terrain
from tests.simulate.scenes import box, road

STREET = road([(-100.0, 0.0), (100.0, 0.0)], [1, 2])  # 6.5 m wide along x
EDGE_M = 3.25


def resolve(rays: np.ndarray, range_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    patch = draw_ground(
        np.zeros(2), 50.0, [STREET], [Area("parking", box(-10.0, 20.0, 10.0, 30.0))], [], Terrain.flat()
    )
    return patch.resolve(rays.astype(np.float32), range_m.astype(np.float32), np.random.default_rng(0))


def straight_down(y: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rays = np.zeros((len(y), 6))
    rays[:, 1], rays[:, 2], rays[:, 5] = y, 2.0, -1.0
    return resolve(rays, np.full(len(y), 2.0))


def test_classes_across_a_street() -> None:
    walk = sidewalk_m(STREET)
    range_m, label, reflectance = straight_down([0.0, EDGE_M - 0.5, EDGE_M + 0.5 * walk, EDGE_M + walk + 1.0, 25.0])
    assert label.tolist() == [ROAD, ROAD, SIDEWALK, TERRAIN, PARKING]
    np.testing.assert_allclose(range_m[[0, 1, 4]], 2.0, atol=0.03)
    np.testing.assert_allclose(range_m[2], 2.0 - KERB_M, atol=0.03)
    assert ((reflectance > 0.0) & (reflectance < 1.0)).all()


def test_a_flat_ray_ends_on_the_face_of_the_kerb() -> None:
    # from the middle of the road towards +y, reaching the road's height 0.5 m beyond the kerb's edge
    reach = EDGE_M + 0.5
    height = 0.25
    length = np.hypot(reach, height)
    ray = np.array([[0.0, 0.0, height, 0.0, reach / length, -height / length]])
    range_m, label, _ = resolve(ray, np.array([length]))
    y = range_m[0] * reach / length
    assert label[0] == SIDEWALK
    assert abs(y - EDGE_M) < 0.25  # a cell of the raster
    assert 0.0 < height - range_m[0] * height / length < KERB_M


def test_streets_without_pavement_kind_have_none() -> None:
    assert sidewalk_m(road([(0.0, 0.0), (1.0, 0.0)], [1, 2], kind="service")) == 0.0
