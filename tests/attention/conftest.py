"""Fixtures for attention: the largest tensor that a block of code makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestTensor(TorchDispatchMode):
    """Watches every operation; `numel` is the size of the largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0
        self.operation = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if (
                isinstance(result, torch.Tensor)
                and result.untyped_storage().nbytes() // max(1, result.element_size()) > self.numel
            ):
                self.numel = result.untyped_storage().nbytes() // result.element_size()
                self.operation = str(func)
        return results


@pytest.fixture
def largest_tensor() -> Callable[[], Any]:
    @contextmanager
    def watch() -> Iterator[LargestTensor]:
        with LargestTensor() as mode:
            yield mode

    return watch
