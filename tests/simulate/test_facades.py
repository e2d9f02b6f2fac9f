import numpy as np

from bevfusion.simulate.facades import Facades


def test_windows_are_set_back_and_repeat() -> None:
    facades = Facades.random(20, np.random.default_rng(0))
    along, up = np.meshgrid(np.arange(0.0, 40.0, 0.05), np.arange(0.0, 9.0, 0.05))
    for row in range(20):
        style = np.full(along.size, row)
        depth, glass = facades.relief(style, along.ravel(), up.ravel())
        assert 0.02 < glass.mean() < 0.5
        assert (depth[glass] > 0.05).all()
        assert depth.min() >= -1.2
        assert depth.max() <= 0.61
        assert (depth == 0.0).mean() > 0.3  # mostly plain wall
