"""How sure a network may be: one number, fitted when training is over.

The loss shares each truth among the eight bins about it, so networks learn how truths are spread *and then blurred by a
bin*: the more exact they are, the more too modest. The scale of the scores is therefore fitted once more, to the bins
that the truths of unseen drives lie in (temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML
2017, section 4.2). The best pose of a belief stays the best; only how much it stands out changes.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.metrics import bin_of
from bevfusion.model import FusionNet
from bevfusion.structures import Batch

_MOST = 4.0  # times sharper or flatter: beyond, something is wrong with the drives rather than with the scale
_HALVINGS = 24


@torch.inference_mode()
def calibrate(model: FusionNet, batches: Iterable[Batch], window: PoseWindow) -> float:
    """Scale the network's scores so that its beliefs are as sure as they are right.

    Args:
        model: changed in place; on the device of the batches.
        batches: with truths, of drives that trained nothing.
        window: of the beliefs.

    Returns:
        The factor on the scores: above 1 they were too modest.

    Raises:
        ValueError: if there is no batch, or one without truths.
    """
    model.eval()
    beliefs, at_truth = [], []
    for batch in batches:
        if batch.truth is None:
            raise ValueError("expected batches with truths")
        volumes = model(batch, window).volume.log_prob.float().cpu()
        for volume, truth in zip(volumes, batch.truth.tolist(), strict=True):
            place = bin_of(window, SE2(*truth))
            if place is not None:
                beliefs.append(volume.flatten())
                at_truth.append(float(volume[place[0]]))
    sharpness = best_sharpness(beliefs, at_truth)
    model.pose_volume.log_scale.add_(math.log(sharpness))
    return sharpness


def best_sharpness(log_prob: Sequence[Float[Tensor, " n"]], at_truth: Sequence[float]) -> float:
    """The power, from a quarter to four, that makes the truths likeliest when beliefs are raised to it.

    Args:
        log_prob: log-probabilities of beliefs, each over bins of one size.
        at_truth: the one of the true bin of each.

    Raises:
        ValueError: if there is no belief.
    """
    if not log_prob:
        raise ValueError("expected at least one belief to calibrate")
    low, high = -math.log(_MOST), math.log(_MOST)
    for _ in range(_HALVINGS):  # the likelihood is concave in the power: halve where its slope changes sign
        middle = 0.5 * (low + high)
        power = math.exp(middle)
        slope = sum(
            truth - float((torch.softmax(power * belief, 0) * belief).sum())
            for belief, truth in zip(log_prob, at_truth, strict=True)
        )
        low, high = (middle, high) if slope > 0.0 else (low, middle)
    return math.exp(0.5 * (low + high))
