"""Mixed precision: float32 parameters, autocast around them, as training runs them."""

import torch

from tests.attention.test_contract import Case, every_case


@every_case
def test_autocast_follows_float32_forward_and_backward(case: Case) -> None:
    module, (x, *seen) = case.module().float().eval(), case.inputs()
    x = x.float().requires_grad_()
    exact = module(x, *seen)
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(x, *seen)
    assert (rough.float() - exact).abs().max() < 0.25 * exact.std()
    rough.float().square().sum().backward()
    assert x.grad.isfinite().all()
