"""Fused GPU versions of SE, CAM, SAM, CBAM and coordinate attention, in Triton.

The modules take them by themselves: on CUDA, where Triton is installed (it comes with torch there), for float32,
float16 and bfloat16. Everything else goes the plain way: the option `occupancy`, the spatial half of CBAM in parallel
arrangement, float64, and whatever torch.compile or an export traces. Through the kernels there are no second
derivatives (torch raises).

`BEVFUSION_FUSED=0` in the environment, or `set_fused(False)`, switches them off.
"""

import importlib.util
import os
from functools import cache

import torch
from torch import Tensor

_TYPES = (torch.float32, torch.float16, torch.bfloat16)
_on = os.environ.get("BEVFUSION_FUSED", "1") != "0"


def set_fused(on: bool) -> None:
    """Whether modules may take the kernels."""
    global _on
    _on = on


def fused(x: Tensor) -> bool:
    """Whether the kernels take this tensor, here and now."""
    if not _on or x.dtype not in _TYPES or x.numel() == 0:
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return False
    return (x.is_cuda or _interpreted()) and _installed()


def _interpreted() -> bool:
    """Triton's interpreter runs kernels on the CPU: slow, and good for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None
