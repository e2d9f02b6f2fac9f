"""How sure a network may be: two numbers, fitted when training is over.

The loss shares each truth among the eight bins about it, so networks learn how truths are spread *and then blurred by a
bin*: the more exact they are, the more too modest. And what is off in a map as a whole no scan can see: there they are
too sure. The scale of the scores (temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
section 4.2) and a blur over places (`heads.blur`) are therefore fitted together, to the bins that the truths of unseen
drives lie in. The poses that are found hardly change; how far the belief reaches about them does.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.blur import REACH, gaussian_taps
from bevfusion.metrics import bin_of
from bevfusion.model import FusionNet
from bevfusion.structures import Batch

_MOST = 4.0  # times sharper or flatter: beyond, something is wrong with the drives rather than with the scale
_WIDEST_CELLS2 = 2.0
_TRIED = 33  # along each of the two
_ROUNDS = 3  # each about the best of the last

Bin = tuple[int, int, int]  # (r, y, x)


@dataclass(frozen=True, slots=True)
class Width:
    """What makes beliefs as sure as they are right."""

    sharpness: float  # the factor on the scores: above 1 they were too modest
    blur_cells2: float  # the variance along each axis that they then lack


@torch.inference_mode()
def calibrate(model: FusionNet, batches: Iterable[Batch], window: PoseWindow) -> Width:
    """Scale the network's scores and blur its beliefs so that they are as sure as they are right.

    Args:
        model: changed in place; on the device of the batches. A blur that it had is fitted anew.
        batches: with truths, of drives that trained nothing.
        window: of the beliefs.

    Raises:
        ValueError: if there is no batch, or one without truths.
    """
    model.eval()
    model.blur.set_variance(0.0)
    beliefs, truths = [], []
    for batch in batches:
        if batch.truth is None:
            raise ValueError("expected batches with truths")
        volumes = model(batch, window).volume.log_prob.float().cpu()
        for volume, truth in zip(volumes, batch.truth.tolist(), strict=True):
            place = bin_of(window, SE2(*truth))
            if place is not None:
                beliefs.append(volume)
                truths.append(place[0])
    width = best_width(beliefs, truths)
    model.pose_volume.log_scale.add_(math.log(width.sharpness))
    model.road_contrast.weight.mul_(width.sharpness)
    model.blur.set_variance(width.blur_cells2)
    return width


def best_width(log_prob: Sequence[Float[Tensor, "r y x"]], truths: Sequence[Bin]) -> Width:
    """The power, from a quarter to four, and the blur after it, up to two cells^2, that make truths likeliest.

    Args:
        log_prob: log-probabilities of beliefs over the same window.
        truths: the true bin of each.

    Raises:
        ValueError: if there is no belief.
    """
    if not log_prob:
        raise ValueError("expected at least one belief to calibrate")
    about = torch.stack([_about(belief, truth) for belief, truth in zip(log_prob, truths, strict=True)])
    powers = torch.logspace(-math.log2(_MOST), math.log2(_MOST), _TRIED, base=2.0, dtype=torch.float64)
    variances = _WIDEST_CELLS2 * torch.linspace(0.0, 1.0, _TRIED, dtype=torch.float64) ** 2
    for _ in range(_ROUNDS):
        likelihood = torch.tensor([[_likelihood(about, float(p), float(v)) for v in variances] for p in powers])
        total = torch.stack([torch.outer(powers.to(b), b.flatten()).logsumexp(1) for b in log_prob])
        likelihood = likelihood - total.double().mean(0)[:, None]
        best_p, best_v = divmod(int(likelihood.argmax()), _TRIED)
        found = Width(float(powers[best_p]), float(variances[best_v]))
        powers, variances = _between(powers, best_p), _between(variances, best_v)
    return found


def _about(belief: Float[Tensor, "r y x"], truth: Bin) -> Float[Tensor, "n n"]:
    """What is believed of the true heading as far about the true place as a blur reaches."""
    r, y, x = truth
    size = 2 * REACH + 1
    return F.pad(belief[r], [REACH] * 4, value=-math.inf)[y : y + size, x : x + size]


def _likelihood(about: Float[Tensor, "b n n"], power: float, variance: float) -> float:
    """Mean log-likelihood of the truths, up to what the powers of all bins sum to."""
    taps = gaussian_taps(variance).log()
    return float((power * about + taps[:, None] + taps).flatten(1).logsumexp(1).mean())


def _between(tried: Float[Tensor, " n"], best: int) -> Float[Tensor, " n"]:
    """As many values again, from the neighbour below the best one to the neighbour above it."""
    low, high = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    return torch.linspace(float(low), float(high), len(tried), dtype=torch.float64)
