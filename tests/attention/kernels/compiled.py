"""Compile every kernel for Hopper, as it is launched; run by `test_kernels.py`. The compiler needs no GPU."""

import sys

import torch
import triton
from torch import Tensor, nn
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from bevfusion.attention.cbam import CAM, CBAM, SAM
from bevfusion.attention.coordinate import Coordinate
from bevfusion.attention.kernels import mechanisms
from bevfusion.attention.se import SE

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
compiled: dict[str, set[tuple[object, ...]]] = {}


def launch(
    kernel: JITFunction, *arguments: object, grid: object, warmup: bool, num_warps: int = 4, **constants: object
) -> None:
    """In place of `JITFunction.run`: compile for the arguments' types, launch nothing."""
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
    signature = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
        elif name in constants or value == 1:  # Triton, too, takes a one for a constant
            signature[name] = "constexpr"
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    fixed = {(kernel.arg_names.index(name),): values[name] for name in values if signature[name] == "constexpr"}
    # alignment is what lets loads be wide; Triton tells it from the arguments, too
    aligned = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
        for name, value in values.items()
        if signature[name] != "constexpr"
        and (isinstance(value, Tensor) or (value % 16 == 0 and isinstance(value, int)))
    }
    key = (*signature.items(), *fixed.items(), *aligned)
    if key in compiled.setdefault(kernel.__name__, set()):
        return
    source, target = ASTSource(kernel, signature, fixed, aligned), GPUTarget("cuda", 90, 32)
    binary = triton.compile(source, target=target, options={"num_warps": num_warps})
    assert "cubin" in binary.asm
    compiled[kernel.__name__].add(key)


def run(shape: tuple[int, ...], type_: torch.dtype, layout: torch.memory_format) -> None:
    """Forward without gradients, then forward and backward, of every mechanism."""
    for make in (SE, CAM, SAM, CBAM, Coordinate):
        made: nn.Module = make(shape[1]).eval()
        x = torch.zeros(shape, dtype=type_).contiguous(memory_format=layout)
        with torch.no_grad():
            forward(made, x)
        forward(made, x.requires_grad_()).sum().backward()


def forward(made: nn.Module, x: Tensor) -> Tensor:
    if isinstance(made, SE):
        return mechanisms.channel_attention(x, made.squeeze, made.excite, peak=False)
    if isinstance(made, CAM):
        return mechanisms.channel_attention(x, *made.layers, peak=True)
    if isinstance(made, SAM):
        return mechanisms.spatial_attention(x, made.conv, made.norm)
    if isinstance(made, CBAM):
        return mechanisms.channel_spatial_attention(x, *made.channel.layers, made.spatial.conv, made.spatial.norm)
    assert isinstance(made, Coordinate)
    return mechanisms.coordinate_attention(x, made.squeeze, made.rows, made.columns)


JITFunction.run = launch
run((2, 32, 40, 40), torch.float32, torch.contiguous_format)
if "--all" in sys.argv:
    run((16, 128, 128, 128), torch.bfloat16, torch.contiguous_format)
    run((2, 32, 40, 40), torch.float16, torch.channels_last)
    run((1, 1, 1, 1), torch.float32, torch.contiguous_format)
sys.stdout.write(f"{sum(map(len, compiled.values()))} variants of {' '.join(sorted(compiled))}\n")
