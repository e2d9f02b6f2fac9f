import logging

import pytest
import torch

from bevfusion.attention import kernels as switch
from bevfusion.benchmark import kernels, measuring

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_LEAST_S", 0.0), ("_LEAST_RUNS", 2), ("_WARM_UPS", 0)):
        monkeypatch.setattr(measuring, name, value)


def test_without_cuda_it_says_so_and_measures_nothing(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert kernels.kernel_rows(CPU) == []
    assert "run on CUDA alone, and this is the CPU: nothing measured" in caplog.text


@pytest.mark.parametrize("name", kernels.MECHANISMS)
def test_each_method_sees_the_switch_as_its_name_says(name: str, monkeypatch: pytest.MonkeyPatch):
    """Compiling takes minutes and a compiler: here it is the identity."""
    states = []
    monkeypatch.setattr(torch, "compile", lambda module: module)
    original = switch.set_fused
    monkeypatch.setattr(switch, "set_fused", lambda on: (states.append(on), original(on)))
    rows = kernels.measure(name, (2, 8, 8, 8), torch.float32, CPU)
    assert [(row.task, row.method) for row in rows] == [
        (f"{name} float32, {what}", method)
        for what in ("forward", "forward and backward")
        for method in ("plain", "compiled", "fused")
    ]
    assert False in states
    assert states[-1] is True


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    assert len(kernels.measure("cbam", (2, 32, 32, 32), torch.bfloat16, torch.device("cuda"))) == 6
