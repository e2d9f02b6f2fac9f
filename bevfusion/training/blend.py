"""Weights between those that training began with and those that it ended with.

What is learned last fits what it was learned from most closely, simulation here. Part of the way back, networks that
began with good weights keep most of what they learned, and are more at ease with what is unlike it: Wortsman et al.,
Robust Fine-Tuning of Zero-Shot Models, CVPR 2022, equation 1.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


@torch.no_grad()
def blend(model: nn.Module, begun: Mapping[str, Tensor], share: float) -> None:
    """Take a trained network part of the way back.

    Args:
        model: trained; changed in place.
        begun: its weights before training, of the same names and shapes.
        share: of what training changed that stays: 1 leaves the network as it is, 0 undoes training. Counters stay.
    """
    for name, trained in model.state_dict().items():
        if trained.is_floating_point():
            trained.lerp_(begun[name].to(trained), 1.0 - share)
