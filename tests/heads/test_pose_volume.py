import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import wrap_angle
from bevfusion.heads.matching_reference import rotate_all
from bevfusion.heads.pose_volume import (
    PoseVolumeHead,
    belief_of,
    best_pose,
    best_pose_elsewhere,
    negative_log_likelihood,
)
from bevfusion.structures import PoseBelief
from tests.heads.direct import correlate_direct

WINDOW = PoseWindow(5.0, math.radians(10.0), 1.0, math.radians(2.0))
CIRCLE = PoseWindow(3.0, math.pi, 1.0, math.radians(10.0))


def belief(window: PoseWindow, batch: int = 1) -> PoseBelief:
    logits = torch.randn(batch, *window.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return PoseBelief(logits.flatten(1).log_softmax(1).view_as(logits), window)


def test_on_a_bin_the_loss_is_minus_its_log_probability():
    volume = belief(WINDOW)
    truth = torch.tensor([[2.0, -3.0, math.radians(4.0)]], dtype=torch.float64)
    loss = negative_log_likelihood(volume, truth)
    assert loss.item() == pytest.approx(-volume.log_prob[0, 7, 2, 7].item(), abs=1e-9)


def test_between_bins_the_loss_is_their_trilinear_mix():
    volume = belief(WINDOW)
    truth = torch.tensor([[2.25, -3.0, math.radians(5.0)]], dtype=torch.float64)
    v = volume.log_prob[0]
    expected = -(0.5 * (0.75 * v[7, 2, 7] + 0.25 * v[7, 2, 8]) + 0.5 * (0.75 * v[8, 2, 7] + 0.25 * v[8, 2, 8]))
    assert negative_log_likelihood(volume, truth).item() == pytest.approx(expected.item(), abs=1e-9)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-10.0, 10.0))
def test_the_loss_is_finite_for_any_truth(x_m: float, y_m: float, yaw_rad: float):
    for window in (WINDOW, CIRCLE):
        assert torch.isfinite(negative_log_likelihood(belief(window), torch.tensor([[x_m, y_m, yaw_rad]]))).all()


def test_outside_the_window_counts_as_the_nearest_pose_inside():
    volume = belief(WINDOW)
    far = negative_log_likelihood(volume, torch.tensor([[99.0, 1.0, 0.0]]))
    torch.testing.assert_close(far, negative_log_likelihood(volume, torch.tensor([[5.0, 1.0, 0.0]])))


def test_on_a_full_circle_yaw_wraps_between_the_last_bin_and_the_first():
    volume = belief(CIRCLE)
    middle = math.pi - math.radians(5.0)
    expected = -0.5 * (volume.log_prob[0, -1, 3, 3] + volume.log_prob[0, 0, 3, 3])
    loss = negative_log_likelihood(volume, torch.tensor([[0.0, 0.0, middle]], dtype=torch.float64))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_loss_differentiates_into_the_volume():
    logits = torch.randn(1, *WINDOW.shape, dtype=torch.float64, requires_grad=True)

    def loss(values: torch.Tensor) -> torch.Tensor:
        log_prob = values.flatten(1).log_softmax(1).view_as(values)
        return negative_log_likelihood(PoseBelief(log_prob, WINDOW), torch.tensor([[0.3, -1.7, 0.01]]))

    assert torch.autograd.gradcheck(loss, logits, fast_mode=True)


def head_and_inputs() -> tuple[PoseVolumeHead, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    head = PoseVolumeHead(6, 4, Grid(16, 16, 1.0))
    inputs = {
        "lidar": torch.randn(2, 6, 16, 16),
        "seen": torch.ones(2, 1, 16, 16),
        "map_features": torch.randn(2, 6, 28, 28),
        "prior_yaw_rad": torch.tensor([0.3, -2.0]),
    }
    return head, inputs


def test_the_volume_is_a_distribution():
    head, inputs = head_and_inputs()
    volume = belief_of(head(**inputs, window=WINDOW), WINDOW).log_prob
    assert volume.shape == (2, *WINDOW.shape)
    torch.testing.assert_close(volume.exp().sum((1, 2, 3)), torch.ones(2))


def test_what_was_never_seen_does_not_count():
    head, inputs = head_and_inputs()
    inputs["seen"] = torch.zeros(2, 1, 16, 16)
    inputs["seen"][:, :, :, 8:] = 1.0
    before = belief_of(head(**inputs, window=WINDOW), WINDOW).log_prob
    inputs["lidar"] = torch.where(inputs["seen"] > 0, inputs["lidar"], 9.0)
    torch.testing.assert_close(belief_of(head(**inputs, window=WINDOW), WINDOW).log_prob, before)


def test_confidence_weighs_each_cell_s_template():
    """Between nothing and all of it; a head without confidence takes all."""
    head, inputs = head_and_inputs()
    assert head.confidence is not None
    template, weighted = head.template(inputs["lidar"]), head.weighted_template(inputs["lidar"])
    share = weighted / template
    assert ((share > 0.0) & (share < 1.0)).all()
    torch.testing.assert_close(share, share[:, :1].expand_as(share), msg="the channels of a cell share one")
    with torch.no_grad():
        head.confidence.bias += 30.0
    sure = belief_of(head(**inputs, window=WINDOW), WINDOW).log_prob
    plain = PoseVolumeHead(6, 4, Grid(16, 16, 1.0), confidence=False)
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("confidence")})
    torch.testing.assert_close(belief_of(plain(**inputs, window=WINDOW), WINDOW).log_prob, sure)


def test_nothing_seen_gives_a_flat_volume():
    head, inputs = head_and_inputs()
    inputs["seen"] = torch.zeros(2, 1, 16, 16)
    volume = belief_of(head(**inputs, window=WINDOW), WINDOW).log_prob
    torch.testing.assert_close(volume, torch.full_like(volume, -math.log(volume[0].numel())))


def test_a_pose_has_the_same_score_in_any_window():
    head, inputs = head_and_inputs()
    wide = head(**inputs, window=WINDOW)
    narrow = head(**inputs, window=PoseWindow(3.0, math.radians(4.0), 1.0, math.radians(2.0)))
    torch.testing.assert_close(narrow, wide[:, 3:8, 2:9, 2:9], atol=1e-4, rtol=1e-4)


def test_a_full_circle_done_in_portions_is_the_whole():
    head, inputs = head_and_inputs()
    window = PoseWindow(3.0, math.pi, 1.0, math.radians(5.0))
    volume = head(**inputs, window=window)
    valid = inputs["seen"] * head.footprint
    weighted = head.weighted_template(inputs["lidar"]) * valid
    yaws = inputs["prior_yaw_rad"][:, None] + torch.from_numpy(window.yaw_offsets_rad()).float()
    scores = correlate_direct(rotate_all(weighted, yaws, head.grid), head.map(inputs["map_features"]), 3)
    logits = head.log_scale.exp() * scores / valid.sum((1, 2, 3))[:, None, None, None]
    torch.testing.assert_close(volume, logits, atol=1e-4, rtol=1e-4)


def test_cells_of_another_size_are_refused():
    head, inputs = head_and_inputs()
    with pytest.raises(ValueError, match="does not fit"):
        head(**inputs, window=PoseWindow(5.0, 0.2, 0.5, 0.1))


@pytest.mark.parametrize("window", [WINDOW, CIRCLE])
def test_the_best_pose_is_the_bin_with_the_highest_score(window: PoseWindow):
    scores = torch.randn(3, *window.shape, generator=torch.Generator().manual_seed(2))
    poses, score = best_pose(scores, window)
    for sample in range(3):
        r, y, x = (float(i) for i in (scores[sample] == scores[sample].max()).nonzero()[0])
        offset = window.offset_from_bins(r, y, x)
        assert poses[sample].tolist() == pytest.approx([offset.x_m, offset.y_m, offset.yaw_rad], abs=1e-6)
        assert score[sample] == scores[sample].max()


@pytest.mark.parametrize("window", [WINDOW, CIRCLE])
def test_the_best_pose_elsewhere_is_far_from_the_truth_in_place_or_heading(window: PoseWindow):
    scores = torch.randn(4, *window.shape, generator=torch.Generator().manual_seed(3))
    truth = torch.tensor([[0.3, -1.2, 0.1], [2.0, 2.0, -0.1], [-3.0, 0.0, 3.1], [0.0, 0.0, -3.1]])
    poses, score = best_pose_elsewhere(scores, window, truth, 2.0, math.radians(4.0))
    for sample, (x_m, y_m, yaw_rad) in enumerate(truth.tolist()):
        best = -math.inf
        for r, y, x in itertools.product(*(range(size) for size in window.shape)):
            offset = window.offset_from_bins(float(r), float(y), float(x))
            turned = abs(wrap_angle(offset.yaw_rad - yaw_rad)) > math.radians(4.0)
            if turned or math.hypot(offset.x_m - x_m, offset.y_m - y_m) > 2.0:
                best = max(best, float(scores[sample, r, y, x]))
        assert float(score[sample]) == pytest.approx(best)
    assert poses.shape == (4, 3)
