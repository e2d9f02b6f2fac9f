import numpy as np
import pytest

from bevfusion.geometry.geodesy import LocalFrame, degrees_from_mercator


def test_mercator_is_true_at_its_origin_and_keeps_angles():
    places = degrees_from_mercator(np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]]), 49.0, 8.4)
    assert places[0] == pytest.approx([49.0, 8.4])
    frame = LocalFrame(49.0, 8.4)
    assert frame.metres_from_degrees(*places[1]) == pytest.approx((1000.0, 0.0), abs=4.0)  # a sphere for an ellipsoid
    assert frame.metres_from_degrees(*places[2]) == pytest.approx((0.0, 1000.0), abs=4.0)
