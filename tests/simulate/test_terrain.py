import numpy as np

from bevfusion.simulate.terrain import Terrain


def test_gradient_is_the_slope_of_the_height() -> None:
    terrain = Terrain.random(np.random.default_rng(3))
    places = np.random.default_rng(0).uniform(-500.0, 500.0, (50, 2))
    step = 1e-3
    for axis in (0, 1):
        shift = step * np.eye(2)[axis]
        slope = (terrain.height_m(places + shift) - terrain.height_m(places - shift)) / (2.0 * step)
        np.testing.assert_allclose(terrain.gradient(places)[:, axis], slope, atol=1e-6)


def test_slopes_are_gentle() -> None:
    places = np.random.default_rng(0).uniform(-2000.0, 2000.0, (2000, 2))
    for seed in range(5):
        slope = np.hypot(*Terrain.random(np.random.default_rng(seed)).gradient(places).T)
        assert slope.max() < 0.08


def test_mesh_lies_on_the_land_and_faces_up() -> None:
    terrain = Terrain.random(np.random.default_rng(1))
    quads = terrain.mesh(np.array([100.0, -50.0]), 30.0)
    np.testing.assert_allclose(quads[..., 2], terrain.height_m(quads[..., :2]))
    assert (np.cross(quads[:, 1] - quads[:, 0], quads[:, 2] - quads[:, 0])[:, 2] > 0).all()
    assert np.ptp(quads[..., 0]) >= 60.0
    assert not Terrain.flat().height_m(np.ones((3, 2))).any()
