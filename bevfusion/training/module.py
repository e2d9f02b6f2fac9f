"""One step of training and of validation."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bevfusion.datasets.samples import PoseSamples
from bevfusion.fusion.align import wrapped
from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.direction_field import field_loss
from bevfusion.heads.pose_check import is_right, residual_loss
from bevfusion.heads.pose_volume import best_pose, best_pose_elsewhere, negative_log_likelihood
from bevfusion.heads.read_out import read_out
from bevfusion.model import FusionNet, Prediction
from bevfusion.structures import Batch

WRONG_M, WRONG_RAD = 4.0, math.radians(8.0)  # what is so far off is wrong without a doubt


class NonFiniteLossError(RuntimeError):
    """Training came to a loss that is no number: going on would ruin the weights."""


class TrainingModule(L.LightningModule):
    """The network, its losses, and AdamW with warm-up and cosine.

    The towers learn from the matching: the negative log-likelihood of the true pose. What lies behind fusion learns
    from the residual at the best pose of the volume, and to tell it from two kinds of wrong ones: the best pose on this
    map that is another place, and the best one on the map of another sample of the batch.
    """

    def __init__(
        self,
        model: FusionNet,
        window: PoseWindow,
        *,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        steps: int,
        check_weight: float,
        auxiliary_weight: float,
        direction_weight: float = 1.0,
        freeze: Sequence[str] = (),
        compiled: bool = False,
    ) -> None:
        """`window` is what priors are drawn from; the rate falls to zero at `steps`.

        With `compiled`, training steps run what `torch.compile` makes of the network: the same weights, and the same
        numbers but for the order of sums. Validation runs the network itself: compiling takes minutes.

        `freeze` names parts that do not learn (`parts_of`).
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
        self.check_weight = check_weight
        self.auxiliary_weight = auxiliary_weight
        self.direction_weight = direction_weight
        self._frozen = [part for name in freeze for part in parts_of(model, name)]
        for part in self._frozen:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TrainingModule":
        """Frozen parts stay as they are when asked: the statistics of their norms do not move either."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Prediction]:
        """Mean loss of a batch with truths, and what the network said."""
        if batch.truth is None:
            raise ValueError("expected a batch with truths")
        prediction: Prediction = (self._in_training if self.training else self.model)(batch, self.window)
        pose = negative_log_likelihood(prediction.volume, batch.truth)
        loss = pose.mean() + self.check_weight * self._check_loss(batch, prediction)
        if self.model.direction is not None and batch.direction is not None:
            field, _ = self.model.direction_field(prediction.scan, batch, prediction.map_features)
            of_field = field_loss(field, batch.direction.truth, self.model.direction.grid)
            known = (batch.direction.truth.points > 0).to(of_field)
            loss = loss + self.direction_weight * (of_field * known).sum() / known.sum().clamp(min=1.0)
        for auxiliary_loss in prediction.scan.auxiliary_losses + prediction.fused.auxiliary_losses:
            loss = loss + self.auxiliary_weight * auxiliary_loss(pose.detach(), batch.truth)
        return loss, prediction

    def _check_loss(self, batch: Batch, prediction: Prediction) -> Float[Tensor, ""]:
        """Of the residual where the best pose is right, and of the verdicts on that pose and on a wrong one."""
        assert batch.truth is not None  # the loss asked
        away = _less(batch.truth, prediction.poses)
        right = is_right(away)
        # into the ego frame at the pose
        residual = _turned(away, -(batch.prior_yaw_rad + prediction.poses[:, 2]))
        of_residual = torch.where(right, residual_loss(prediction.check, residual), 0.0).sum() / right.sum().clamp(
            min=1
        )
        verdict = F.binary_cross_entropy_with_logits(prediction.check.log_odds, right.float())
        wrong = self._wrong_verdict(batch, prediction)
        return of_residual + verdict + F.softplus(wrong).mean()

    def _wrong_verdict(self, batch: Batch, prediction: Prediction) -> Float[Tensor, " b"]:
        """Log-odds of wrong poses that look right: elsewhere on this map for every other batch, else on another one."""
        assert batch.truth is not None  # the loss asked
        scan, features = prediction.scan, prediction.map_features
        with torch.no_grad():
            if len(features) == 1 or not self.training or self.global_step % 2:
                poses, score = best_pose_elsewhere(
                    prediction.scores.detach(), self.window, batch.truth, WRONG_M, WRONG_RAD
                )
            else:
                batch, features = replace(batch, tile=batch.tile.roll(1, 0)), features.roll(1, 0)
                scores = self.model.pose_volume(scan.lidar, scan.seen, features, batch.prior_yaw_rad, self.window)
                poses, score = best_pose(scores, self.window)
        _, check = self.model.look(scan, batch, features, poses, score)
        return check.log_odds

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
        assert batch.truth is not None  # the loss was computed from it
        errors, refined = _errors(prediction, batch), _refined_errors(prediction, batch)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch.bev), sync_dist=True)
        for name, value in {
            "val_position_1m": errors[:, :2].norm(dim=1) < 1.0,
            "val_heading_1deg": errors[:, 2].abs() < math.radians(1.0),
            "val_refined_1m": refined[:, :2].norm(dim=1) < 1.0,
            "val_refined_1deg": refined[:, 2].abs() < math.radians(1.0),
            "val_verdict": (prediction.check.log_odds > 0).cpu()
            == is_right(_less(batch.truth, prediction.poses)).cpu(),
        }.items():
            self.log(name, 100.0 * value.float().mean(), prog_bar=True, batch_size=len(batch.bev), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW without weight decay on biases, norms and scales."""
        learned = [p for p in self.model.parameters() if p.requires_grad]
        decayed = [p for p in learned if p.ndim > 1]
        plain = [p for p in learned if p.ndim <= 1]
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


def parts_of(model: FusionNet, name: str) -> list[nn.Module]:
    """The modules of a part: the towers of scan and map, the matching, fusion, and the heads check and direction."""
    parts: dict[str, list[nn.Module | None]] = {
        "scan": [model.lidar_encoder, model.lidar_attention],
        "map": [model.map_encoder],
        "match": [model.pose_volume, model.road_contrast, model.blur],
        "fusion": [model.fusion],
        "check": [model.pose_check],
        "direction": [model.direction],
    }
    return [part for part in parts[name] if part is not None]


def _errors(prediction: Prediction, batch: Batch) -> Float[Tensor, "b 3"]:
    """Estimate of the volume minus truth of each sample: x, y in m, yaw in rad."""
    volume = prediction.volume
    readings = [read_out(v.numpy(), volume.window).offset for v in volume.log_prob.detach().float().cpu()]
    estimates = torch.tensor([[r.x_m, r.y_m, r.yaw_rad] for r in readings])
    assert batch.truth is not None  # the loss was computed from it
    return _less(estimates, batch.truth.cpu())


def _refined_errors(prediction: Prediction, batch: Batch) -> Float[Tensor, "b 3"]:
    """The same of the best pose of the volume, moved by what fusion finds there."""
    assert batch.truth is not None  # the loss was computed from it
    yaw_rad = batch.prior_yaw_rad + prediction.poses[:, 2]
    estimates = prediction.poses + _turned(prediction.check.residual, yaw_rad)
    return _less(estimates, batch.truth).detach().float().cpu()


def _turned(moved: Float[Tensor, "b 3"], yaw_rad: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    """x, y turned counter-clockwise, the yaw as it is."""
    cos, sin = yaw_rad.cos(), yaw_rad.sin()
    x_m, y_m, turn_rad = moved.unbind(1)
    return torch.stack([cos * x_m - sin * y_m, sin * x_m + cos * y_m, turn_rad], dim=1)


def _less(poses: Float[Tensor, "b 3"], others: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    """Differences of x, y in m and of yaw in rad, the short way round."""
    away = poses - others
    return torch.cat([away[:, :2], wrapped(away[:, 2:])], dim=1)
