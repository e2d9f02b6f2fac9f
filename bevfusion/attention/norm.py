"""Batch normalization that survives a batch of one descriptor.

The papers of BAM and SK normalize a descriptor over the batch. Where one value a channel is left (batch 1 on a 1 x 1
descriptor, the usual case when training on large maps) torch raises, because one value has no spread. Here the running
statistics serve instead, as in evaluation, and stay as they are. Weights of public implementations stay loadable.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` for (B, C, *) and any further axes, also where one value a channel is left."""

    def forward(self, input: Tensor) -> Tensor:  # the name is that of the class it replaces
        """Normalizes each channel; (B, C, *) -> (B, C, *)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"expected (B, {self.num_features}, ...), got {tuple(input.shape)}")
