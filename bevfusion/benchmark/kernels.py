"""The fused attention kernels against the plain modules and against torch.compile of these. On CUDA alone.

Shape and goals are those of issue 5. torch.compile fuses the plain module, which never takes the kernels then.
Every run ends with a wait for the GPU, which is counted: about ten microseconds, the same for all methods.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bevfusion.attention import ATTENTION, kernels
from bevfusion.benchmark.comparison import Row, Task, compared
from bevfusion.progress import frame_progress

log = logging.getLogger(__name__)
SHAPE = (16, 128, 128, 128)
MECHANISMS = ("se", "cam", "sam", "cbam", "coordinate")
TYPES = (torch.float32, torch.bfloat16)


def kernel_rows(device: torch.device) -> list[Row]:
    """Forward without gradients, and forward with backward, of every mechanism with kernels; nothing without CUDA."""
    if device.type != "cuda":
        log.warning("kernels: they run on CUDA alone, and this is the %s: nothing measured", device.type.upper())
        return []
    jobs = [(name, type_) for name in MECHANISMS for type_ in TYPES]
    rows: list[Row] = []
    with frame_progress(f"kernels on {device.type}", len(jobs)) as show:
        for done, (name, type_) in enumerate(jobs, start=1):
            rows.extend(measure(name, SHAPE, type_, device))
            show(done, len(jobs))
    return rows


def measure(name: str, shape: tuple[int, int, int, int], type_: torch.dtype, device: torch.device) -> list[Row]:
    """One mechanism: plain, compiled, fused."""
    torch.manual_seed(0)
    module = ATTENTION[name](shape[1]).to(device)
    x = torch.randn(shape, device=device).to(type_)
    label = f"{name} {str(type_).removeprefix('torch.')}"
    forward = Task(f"{label}, forward", 2 * x.nbytes, 0.0)
    rows = compared(forward, _methods(module.eval(), _forward, x), device)
    both = Task(f"{label}, forward and backward", 5 * x.nbytes, 0.0)
    return rows + compared(both, _methods(module.train(), _both, x.clone().requires_grad_()), device)


def _methods(
    module: nn.Module, run: Callable[[Callable[[Tensor], Tensor], nn.Module, Tensor], None], x: Tensor
) -> dict[str, Callable[[], None]]:
    def switched(on: bool, apply: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def method() -> None:
            kernels.set_fused(on)
            try:
                run(apply, module, x)
            finally:
                kernels.set_fused(True)

        return method

    torch.compiler.reset()
    return {
        "plain": switched(False, module),
        "compiled": switched(False, torch.compile(module)),
        "fused": switched(True, module),
    }


@torch.inference_mode()
def _forward(apply: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> None:
    # as in the network: half precision comes from autocast, weights stay in float32
    with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        apply(x)


def _both(apply: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> None:
    with torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        y = apply(x)
    x.grad = None
    module.zero_grad(set_to_none=True)
    torch.autograd.backward([y], [x.detach()])
