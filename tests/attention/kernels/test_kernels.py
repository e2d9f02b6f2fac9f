"""Triton's interpreter has to be chosen before Triton is imported: the tests proper run in a process of their own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bevfusion.attention import kernels
from bevfusion.attention.kernels.layout import (
    along_both,
    along_cells,
    along_channels,
    dense,
    layout,
    parts,
    power,
    same_layout,
)

INTERPRETED = Path(__file__).with_name("interpreted.py")
KERNELS = [Path(kernels.__file__).with_name(name) for name in ("cells.py", "gates.py", "strips.py")]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (no wheel for this machine)"
)


def run_tests(environment: dict[str, str]) -> None:
    """jaxtyping's import hook stays: kernels must bear it."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(INTERPRETED)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels themselves run here, see test_on_a_gpu")
def test_kernels_equal_the_plain_modules_in_triton_s_interpreter():
    run_tests({"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    run_tests({"TRITON_INTERPRET": "0"})


@needs_triton
def test_every_kernel_compiles_for_hopper(tmp_path):
    """The interpreter forgives what the compiler does not; `--all` there compiles more types and sizes."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(INTERPRETED.with_name("compiled.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    names = {name for path in KERNELS for name in re.findall(r"@no_type_check\ndef (\w+)", path.read_text())}
    assert len(names) == 11
    assert names == set(done.stdout.partition(" variants of ")[2].split())


def test_a_cpu_takes_the_plain_modules_and_needs_no_triton():
    assert not kernels.fused(torch.zeros(1, 4, 2, 2))
    code = "import sys; import bevfusion.attention; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@needs_triton
@pytest.mark.parametrize(("variable", "states"), [("1", [True, False, True]), ("0", [False, False, True])])
def test_the_switch(variable: str, states: list[bool]):
    """By the environment at the start, by call at any time."""
    code = """
import torch
from bevfusion.attention import kernels
def now():
    return kernels.fused(torch.ones(1, 1, 1, 1))
states = [now()]
for on in (False, True):
    kernels.set_fused(on)
    states.append(now())
print(states)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "BEVFUSION_FUSED": variable}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str(states)


def test_layouts():
    x = torch.zeros(2, 3, 4, 5)
    assert layout(x) == (2, 3, 20, 20, 1)
    last = x.contiguous(memory_format=torch.channels_last)
    assert layout(last) == (2, 3, 20, 1, 3)
    assert dense(last) is last
    assert dense(x[:, :, ::2]).is_contiguous()
    assert same_layout(torch.zeros(()).expand_as(x), last).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("size", "most", "expected"), [(1, 8, 1), (5, 8, 8), (8, 8, 8), (9, 8, 8), (0, 8, 1)])
def test_powers(size: int, most: int, expected: int):
    assert power(size, most) == expected


@pytest.mark.parametrize("programs", [1, 7, 64, 528, 5000])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 16384])
@pytest.mark.parametrize("block", [1, 64, 2048])
def test_parts_cover_the_sum_and_none_is_empty(programs: int, length: int, block: int):
    count, each = parts(programs, length, block)
    assert each % block == 0
    assert (count - 1) * each < length <= count * each
    assert count == 1 or programs < 528


@pytest.mark.parametrize("shape", [(16, 128, 128, 128), (1, 32, 40, 40), (2, 1, 1, 1), (4, 513, 7, 3)])
def test_tiles_are_powers_of_two_that_fit_registers(shape: tuple[int, int, int, int]):
    for x in (
        torch.empty(shape, device="meta"),
        torch.empty(shape, device="meta").to(memory_format=torch.channels_last),
    ):
        for block_c, block_p in (tile(layout(x)) for tile in (along_cells, along_both, along_channels)):
            assert block_c.bit_count() == block_p.bit_count() == 1
            assert block_c * block_p <= 4096
