"""Kernels against plain modules; run by `test_kernels.py` with Triton's interpreter, or on a GPU as it stands."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bevfusion.attention import kernels
from bevfusion.attention.cbam import CAM, CBAM, SAM
from bevfusion.attention.coordinate import Coordinate
from bevfusion.attention.kernels import passes
from bevfusion.attention.se import SE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MECHANISMS: dict[str, Callable[[int], nn.Module]] = {
    "se": partial(SE, reduction=4),
    "se without bias": partial(SE, bias=False),
    "cam": partial(CAM, reduction=2),
    "cam without bias": partial(CAM, bias=False),
    "sam": SAM,
    "sam without norm": partial(SAM, norm=False, kernel_size=3),
    "sam replicating": partial(SAM, padding="replicate"),
    "cbam": partial(CBAM, reduction=4),
    "cbam without norm": partial(CBAM, reduction=4, norm=False, kernel_size=5),
    "coordinate": partial(Coordinate, reduction=4),
}
CASES = [((2, 6, 5, 7), "contiguous"), ((2, 6, 8, 8), "channels last"), ((1, 3, 1, 5), "contiguous")]
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def module(name: str, channels: int) -> nn.Module:
    """With weights and statistics unlike those at the start."""
    torch.manual_seed(0)
    made = MECHANISMS[name](channels)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    for label, buffer in made.named_buffers():
        if "running" in label:
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return made.to(DEVICE)


def features(shape: tuple[int, ...], of: str = "contiguous") -> Tensor:
    """Many zeros, as behind a ReLU: maxima are often attained twice."""
    generator = torch.Generator().manual_seed(1)
    x = (torch.randn(shape, generator=generator) - 0.3).relu()
    x = (x * 4).round() / 4  # exact in half precision, and with ties away from zero
    return x.to(DEVICE).contiguous(memory_format=FORMATS[of])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passes that ran: a test of kernels that never ran would be none."""
    ran: list[str] = []
    from bevfusion.attention.kernels import functions, mechanisms

    for name in ("product", "strip_product", "cell_gate", "channel_gate", "strip_gate", "input_gradient"):
        original = getattr(passes, name)

        def counted(*arguments: object, _name: str = name, _original: Callable = original, **options: object) -> object:
            ran.append(_name)
            return _original(*arguments, **options)

        for place in (functions, mechanisms):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, counted)
    return ran


def plain(made: nn.Module, x: Tensor, seen: Tensor | None = None) -> Tensor:
    kernels.set_fused(False)
    try:
        return made(x, seen)
    finally:
        kernels.set_fused(True)


def close(got: Tensor, wanted: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(got, wanted, atol=2e-5 * scale, rtol=2e-4)


@pytest.mark.parametrize(("shape", "of"), CASES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_values_without_gradients(name: str, shape: tuple[int, ...], of: str, calls: list[str]):
    made, x = module(name, shape[1]).eval(), features(shape, of)
    with torch.no_grad():
        y = made(x)
        close(y, plain(made, x))
    assert {"product", "strip_product"} & set(calls)
    assert {"channel_gate", "cell_gate", "strip_gate"} & set(calls) or name == "sam replicating"
    assert y.is_contiguous(memory_format=FORMATS[of])


@pytest.mark.parametrize(("shape", "of"), CASES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_values_gradients_and_statistics_in_training(name: str, shape: tuple[int, ...], of: str, calls: list[str]):
    fast = module(name, shape[1]).train()
    slow = copy.deepcopy(fast)
    x, x_slow = (features(shape, of).requires_grad_() for _ in range(2))
    y, y_slow = fast(x), plain(slow, x_slow)
    close(y, y_slow)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    y.backward(upstream)
    y_slow.backward(upstream)
    assert {"input_gradient", "strip_product"} & set(calls)
    assert x.grad is not None
    assert x_slow.grad is not None
    close(x.grad, x_slow.grad, float(x_slow.grad.abs().max()))
    theirs = dict(slow.named_parameters())
    for label, parameter in fast.named_parameters():
        assert parameter.grad is not None, label
        wanted = theirs[label].grad
        close(parameter.grad, wanted, float(wanted.abs().max()) + 1.0)
    for (label, buffer), other in zip(fast.named_buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, msg=label)


@pytest.mark.parametrize("type_", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["se", "cam", "sam", "cbam", "coordinate"])
def test_half_precision_loses_no_more_than_the_last_digits_of_the_result(name: str, type_: torch.dtype):
    made, x = module(name, 4), features((2, 4, 5, 6))
    wide, half = x.clone().requires_grad_(), x.to(type_).requires_grad_()
    upstream = features((2, 4, 5, 6)).flip(3)
    wanted, y = plain(made, wide), made(half)
    assert y.dtype == type_
    step = torch.finfo(type_).eps
    torch.testing.assert_close(y.float(), wanted, atol=step, rtol=step)
    made.zero_grad()
    y.backward(upstream.to(type_))
    of_parameters = [parameter.grad.clone() for parameter in made.parameters()]
    made.zero_grad()
    wanted.backward(upstream)
    assert half.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(half.grad.float(), wide.grad, atol=step * float(wide.grad.abs().max()), rtol=step)
    for got, parameter in zip(of_parameters, made.parameters(), strict=True):
        close(got, parameter.grad, float(parameter.grad.abs().max()) + 1.0)


@pytest.mark.parametrize("name", ["cbam", "coordinate"])
def test_weights_in_half_precision(name: str):
    x = features((2, 4, 5, 6))
    made = module(name, 4).eval()
    with torch.no_grad():
        wanted = plain(made, x)
        y = made.half()(x.half())
    torch.testing.assert_close(y.float(), wanted, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("name", ["se", "cam", "sam", "cbam", "coordinate"])
def test_only_weights_want_gradients(name: str):
    made = module(name, 4)
    slow = copy.deepcopy(made)
    made(features((2, 4, 5, 6))).square().sum().backward()
    plain(slow, features((2, 4, 5, 6))).square().sum().backward()
    for got, wanted in zip(made.parameters(), slow.parameters(), strict=True):
        close(got.grad, wanted.grad, float(wanted.grad.abs().max()) + 1.0)


@pytest.mark.parametrize("name", ["se", "cam", "sam", "cbam", "coordinate"])
def test_weights_are_frozen_and_the_gradient_comes_twice(name: str):
    made = module(name, 4).requires_grad_(False)
    x, x_slow = (features((2, 4, 5, 6)).requires_grad_() for _ in range(2))
    y, y_slow = made(x), plain(made, x_slow)
    for weight in (1.0, -2.0):
        (got,) = torch.autograd.grad((weight * y).sum(), x, retain_graph=True)
        (wanted,) = torch.autograd.grad((weight * y_slow).sum(), x_slow, retain_graph=True)
        close(got, wanted)


def test_the_same_module_twice_in_one_graph():
    made = module("cbam", 4)
    x, x_slow = (features((2, 4, 5, 6)).requires_grad_() for _ in range(2))
    made.eval()
    made(made(x)).square().sum().backward()
    plain(made, plain(made, x_slow)).square().sum().backward()
    close(x.grad, x_slow.grad)


@pytest.mark.parametrize("name", ["se", "coordinate"])
def test_a_part_of_a_larger_tensor(name: str):
    made, whole = module(name, 4).eval(), features((2, 8, 5, 6))
    x = whole[:, ::2]
    with torch.no_grad():
        close(made(x), plain(made, x.contiguous()))


def test_the_parallel_arrangement_takes_the_kernel_of_its_channel_half(calls: list[str]):
    made, x = CBAM(4, arrangement="parallel").to(DEVICE).eval(), features((2, 4, 5, 6))
    close(made(x), plain(made, x))
    assert calls == ["product"]


def test_sums_in_parts(monkeypatch: pytest.MonkeyPatch):
    """One sample of few channels is cut up, so that a GPU has work for all its processors."""
    for tile in ("along_cells", "along_both"):
        monkeypatch.setattr(passes, tile, lambda of: (1, 16))
    monkeypatch.setattr(passes, "_STRIP_TILE", 32)
    x = features((1, 2, 7, 9))
    assert passes.cell_sums(x, peak=True)[0].shape[2] > 1
    assert passes.strip_sums(x)[1].shape[2] > 1
    for name in ("cam", "cbam", "coordinate"):
        made = module(name, 2).eval()
        fast, slow = (x.clone().requires_grad_() for _ in range(2))
        made(fast).square().sum().backward()
        plain(made, slow).square().sum().backward()
        close(fast.grad, slow.grad, float(slow.grad.abs().max()))
        with torch.no_grad():
            close(made(x), plain(made, x))


@pytest.mark.parametrize(
    ("made", "seen", "type_"),
    [
        (SE(4, occupancy=True), True, torch.float32),
        (CAM(4, occupancy=True), True, torch.float32),
        (SAM(4, occupancy=True), True, torch.float32),
        (CBAM(4, occupancy=True), True, torch.float32),
        (Coordinate(4, occupancy=True), True, torch.float32),
        (CBAM(4), False, torch.float64),
    ],
)
def test_what_the_kernels_do_not_cover_goes_the_plain_way(
    made: nn.Module, seen: bool, type_: torch.dtype, calls: list[str]
):
    made, x = made.to(DEVICE, type_).eval(), features((2, 4, 5, 6)).to(type_)
    mask = (torch.rand(2, 1, 5, 6, device=DEVICE) < 0.5).float() if seen else None
    torch.testing.assert_close(made(x, mask), plain(made, x, mask), rtol=0, atol=0)
    assert not calls


def test_a_mask_where_none_is_wanted_is_still_refused():
    x = features((2, 4, 5, 6))
    for name in ("se", "cam", "sam", "cbam", "coordinate"):
        with pytest.raises(ValueError, match="occupancy=False"):
            module(name, 4)(x, torch.ones(2, 1, 5, 6, device=DEVICE))


def test_second_derivatives_are_refused_not_wrong():
    x = features((1, 4, 4, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(module("se", 4)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
