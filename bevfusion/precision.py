"""In how many bits a network computes its features: float32, or bfloat16 where the processor multiplies those itself.

What is summed over many cells stays in float32 either way: the matching, the belief and the norms. bfloat16 has the
range of float32 and 8 bits of it: of 246 answers on the real scans of README.md two crossed a threshold of its recalls.
"""

from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch

from bevfusion.choices import meant
from bevfusion.machine import has_bfloat16
from bevfusion.structures import DataError

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def precision_named(word: str) -> Precision:
    """One of `PRECISIONS`.

    Raises:
        DataError: if it is none.
    """
    for precision in PRECISIONS:
        if word == precision:
            return precision
    raise DataError(f"precision is one of {', '.join(PRECISIONS)}, got {word!r}{meant(word, PRECISIONS)}")


def chosen_precision(precision: Precision, device: str = "cpu") -> Precision:
    """What `auto` comes to on this machine: bfloat16 on a processor that has it, else float32, and float32 on a GPU."""
    if precision != "auto":
        return precision
    return "bfloat16" if device == "cpu" and has_bfloat16() else "float32"


def computing_in(precision: Precision, device: str) -> AbstractContextManager[object]:
    """While it lasts, the network computes in a precision that was chosen."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bfloat16")
