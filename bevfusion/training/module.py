"""One step of training and of validation."""

import math
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bevfusion.datasets.samples import PoseSamples
from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.direction import direction_loss
from bevfusion.heads.pose_volume import negative_log_likelihood
from bevfusion.heads.read_out import read_out
from bevfusion.model import FusionNet, Prediction
from bevfusion.structures import Batch


class NonFiniteLossError(RuntimeError):
    """Training came to a loss that is no number: going on would ruin the weights."""


class TrainingModule(L.LightningModule):
    """The network, its loss (negative log-likelihood of pose and of heading), and AdamW with warm-up and cosine."""

    def __init__(
        self,
        model: FusionNet,
        window: PoseWindow,
        *,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        steps: int,
        direction_weight: float,
        auxiliary_weight: float,
        compiled: bool = False,
    ) -> None:
        """`window` is what priors are drawn from; the rate falls to zero at `steps`.

        With `compiled`, training steps run what `torch.compile` makes of the network: the same weights, and the same
        numbers but for the order of sums. Validation runs the network itself: compiling takes minutes.
        """
        super().__init__()
        self.model = model
        self._in_training = model.forward
        if compiled:
            # Not the matching: Inductor makes no code of complex numbers, and unrolls the loop over batch and headings.
            model.pose_volume.match = torch.compiler.disable(model.pose_volume.match)  # type: ignore[no-untyped-call]
            self._in_training = torch.compile(model.forward)
        self.window = window
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.steps = steps
        self.direction_weight = direction_weight
        self.auxiliary_weight = auxiliary_weight

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Prediction]:
        """Mean loss of a batch with truths, and what the network said."""
        if batch.truth is None:
            raise ValueError("expected a batch with truths")
        prediction: Prediction = (self._in_training if self.training else self.model)(batch, self.window)
        pose = negative_log_likelihood(prediction.volume, batch.truth)
        heading = direction_loss(prediction.direction, batch.truth[:, 2])
        loss = pose.mean() + self.direction_weight * heading.mean()
        for auxiliary_loss in prediction.fused.auxiliary_losses:
            loss = loss + self.auxiliary_weight * auxiliary_loss(pose.detach(), batch.truth)
        return loss, prediction

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss.

        Raises:
            NonFiniteLossError: naming the step and the samples of the batch.
        """
        loss, _ = self.loss(batch)
        if not bool(torch.isfinite(loss)):
            names = ", ".join(self._names(batch_idx, len(batch.bev)))
            raise NonFiniteLossError(f"the loss is {loss.item()} at step {self.global_step}, in the batch {names}")
        self.log("loss", loss, prog_bar=True)
        return loss

    def _names(self, batch_idx: int, size: int) -> list[str]:
        """Drive and frame of each sample of a training batch; processes take samples in turn."""
        loader = self.trainer.train_dataloader
        if loader is None:
            return []
        samples: PoseSamples = loader.dataset
        positions = [self.global_rank + self.trainer.world_size * (batch_idx * size + i) for i in range(size)]
        return [samples.describe(position) for position in positions if position < len(samples)]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and recalls on priors that are the same at every validation."""
        loss, prediction = self.loss(batch)
        errors = _errors(prediction, batch)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch.bev), sync_dist=True)
        for name, value in {
            "val_position_1m": errors[:, :2].norm(dim=1) < 1.0,
            "val_heading_1deg": errors[:, 2].abs() < math.radians(1.0),
        }.items():
            self.log(name, 100.0 * value.float().mean(), prog_bar=True, batch_size=len(batch.bev), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW without weight decay on biases, norms and scales."""
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        optimizer: Optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.learning_rate,
        )
        scheduler = LambdaLR(optimizer, lambda step: self._rate(step))  # a plain function stays out of checkpoints
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def _errors(prediction: Prediction, batch: Batch) -> Float[Tensor, "b 3"]:
    """Estimate minus truth of each sample: x, y in m, yaw in rad."""
    volume = prediction.volume
    readings = [read_out(v.numpy(), volume.window).offset for v in volume.log_prob.detach().float().cpu()]
    estimates = torch.tensor([[r.x_m, r.y_m, r.yaw_rad] for r in readings])
    assert batch.truth is not None  # the loss was computed from it
    errors = estimates - batch.truth.cpu()
    errors[:, 2] = torch.remainder(errors[:, 2] + math.pi, 2.0 * math.pi) - math.pi
    return errors
