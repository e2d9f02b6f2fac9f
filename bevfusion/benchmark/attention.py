"""Time and memory of every attention mechanism and every way to join two branches, as the network calls them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from bevfusion.attention import ATTENTION
from bevfusion.benchmark.measuring import Timing, copy_ms, peak_mb, span, timing
from bevfusion.fusion.attend import Scene, attend
from bevfusion.fusion.fuse import JOINS
from bevfusion.progress import frame_progress

Shape = tuple[int, int, int, int]

SHAPE: Shape = (2, 64, 128, 128)  # two scans, 64 channels, 64 m at half a metre
# These weigh every cell against every other. On a CPU four times the cells take sixteen times the minute.
QUADRATIC = frozenset({"self_attention", "non_local", "danet_pam", "danet"})
QUADRATIC_CPU_SHAPE: Shape = (1, 64, 64, 64)


@dataclass(frozen=True, slots=True)
class Row:
    """One part on one device.

    The floor of a pass is the time of one copy that moves the least memory the pass can do with: forward reads its
    inputs and writes its output, backward also reads both and the gradient that comes, and writes those that go.
    """

    name: str
    kind: str  # attention: B C H W to the same; join: two of them to one
    shape: Shape  # of each input
    parameters: int
    forward: Timing  # evaluation mode, no gradients
    training: Timing  # forward and backward
    peak_forward_mb: float  # allocated on top of inputs and weights, 10^6 bytes
    peak_training_mb: float
    forward_over_floor: float
    training_over_floor: float


def attention_rows(device: torch.device) -> list[Row]:
    """Every mechanism of `ATTENTION` and every join of `JOINS`, as the network calls them."""
    jobs = [("attention", name) for name in ATTENTION] + [("join", name) for name in JOINS]
    rows = []
    with frame_progress(f"attention on {device.type}", len(jobs)) as show:
        for done, (kind, name) in enumerate(jobs, start=1):
            small = device.type == "cpu" and name in QUADRATIC
            rows.append(measure(kind, name, QUADRATIC_CPU_SHAPE if small else SHAPE, device))
            show(done, len(jobs))
    return rows


def measure(kind: str, name: str, shape: Shape, device: torch.device) -> Row:
    """Time and memory of one mechanism with its default options, random inputs, float32."""
    torch.manual_seed(0)
    module = (ATTENTION if kind == "attention" else JOINS)[name](shape[1]).to(device)
    inputs = [torch.randn(shape, device=device) for _ in range(1 if kind == "attention" else 2)]
    scene = _scene(shape, device)

    def apply() -> tuple[Tensor, Tensor]:
        """The output, and the losses that the mechanism brings along."""
        if kind == "join":
            return module(*inputs), inputs[0].new_zeros(())
        y, losses = attend(module, inputs[0], scene)
        rewards, truth = y.new_zeros(shape[0]), y.new_zeros(shape[0], 3)
        return y, sum((loss(rewards, truth) for loss in losses), y.new_zeros(()))

    @torch.inference_mode()
    def forward() -> None:
        apply()

    def training() -> None:
        y, loss = apply()
        module.zero_grad(set_to_none=True)
        for x in inputs:
            x.grad = None
        torch.autograd.backward([y, loss] if loss.requires_grad else [y], [gradient, *_ones(loss)])

    module.eval()
    forward_timing, peak_forward_mb = timing(forward, device), peak_mb(forward, device)
    module.train()
    gradient = torch.randn(shape, device=device)
    for x in inputs:
        x.requires_grad_()
    training_timing, peak_training_mb = timing(training, device), peak_mb(training, device)
    plane = inputs[0].nbytes
    read, written = plane * len(inputs), plane
    return Row(
        name,
        kind,
        shape,
        sum(parameter.numel() for parameter in module.parameters()),
        forward_timing,
        training_timing,
        peak_forward_mb,
        peak_training_mb,
        forward_timing.median_ms / copy_ms(read + written, device),
        training_timing.median_ms / copy_ms(3 * read + 2 * written, device),
    )


def _ones(loss: Tensor) -> list[Tensor]:
    return [torch.ones_like(loss)] if loss.requires_grad else []


def _scene(shape: Shape, device: torch.device) -> Scene:
    """A third of the cells seen, and a road along x through the middle."""
    seen = (torch.rand(shape[0], 1, *shape[2:], device=device) < 0.33).float()
    road = torch.zeros(shape[0], 2, *shape[2:], device=device)
    middle = shape[2] // 2
    road[:, 0, middle - 4 : middle + 4] = 1.0
    return Scene(seen, road)


def attention_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows as a table for the terminal."""
    caption = "median (quartiles); x floor: times one copy that moves the least memory possible"
    table = Table(title=title, caption=caption)
    table.add_column("mechanism")
    for heading in ("input", "parameters", "forward ms", "x floor", "MB", "forward + backward ms", "x floor", "MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["name"] + (" (join)" if row["kind"] == "join" else ""),
            "x".join(str(size) for size in row["shape"]),
            f"{row['parameters']:,}",
            span(row["forward"]),
            f"{row['forward_over_floor']:.1f}",
            f"{row['peak_forward_mb']:.0f}",
            span(row["training"]),
            f"{row['training_over_floor']:.1f}",
            f"{row['peak_training_mb']:.0f}",
        )
    return table
