"""Time and memory of a piece of work, of several ways to do it, and of the least that the hardware could do it in."""

import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_LEAST_RUNS, _MOST_RUNS, _LEAST_S, _WARM_UPS = 5, 60, 0.25, 2
_LONG_S = 3.0  # work that takes longer is warm after one run, and three are enough


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of repeated runs."""

    median_ms: float
    low_ms: float  # 25th percentile
    high_ms: float  # 75th percentile
    p95_ms: float
    best_ms: float
    processor_ms: float  # of all threads together, median: on a busy machine less is lost in it than in the others
    runs: int

    @classmethod
    def of(cls, runs_ms: Sequence[tuple[float, float]]) -> "Timing":
        """Quantiles of at least two runs, each (by the clock, on the processors)."""
        cuts = statistics.quantiles([clock_ms for clock_ms, _ in runs_ms], n=20, method="inclusive")
        best_ms = min(clock_ms for clock_ms, _ in runs_ms)
        processor_ms = statistics.median(spent_ms for _, spent_ms in runs_ms)
        return cls(cuts[9], cuts[4], cuts[14], cuts[18], best_ms, processor_ms, len(runs_ms))


def copy_ms(moved_bytes: int, device: torch.device) -> float:
    """The best time of one copy that reads half of these bytes and writes the other half: a floor is not a median."""
    key = (moved_bytes, device.type)
    if key not in _COPIES:
        source = torch.ones(moved_bytes // 8, device=device)
        target = torch.empty_like(source)
        _COPIES[key] = timing(lambda: target.copy_(source), device).best_ms
    return _COPIES[key]


_COPIES: dict[tuple[int, str], float] = {}  # measured once in a process


def matmul_ms(operations: float, device: torch.device) -> float:
    """The time of so many floating-point operations (a multiplication and a sum are two) in a product of matrices."""
    if device.type not in _MATMULS:
        side = 1024 if device.type == "cpu" else 8192
        a, b = (torch.ones(side, side, device=device) for _ in range(2))
        _MATMULS[device.type] = timing(lambda: a @ b, device).best_ms / (2.0 * side**3)
    return operations * _MATMULS[device.type]


_MATMULS: dict[str, float] = {}  # ms an operation, measured once in a process


def floor_ms(moved_bytes: int, operations: float, device: torch.device) -> float:
    """The least time that work can take: the longer one of its traffic as a copy and its arithmetic as a product."""
    return max(copy_ms(moved_bytes, device), matmul_ms(operations, device))


def span(timed: Mapping[str, float]) -> str:
    """A `Timing` as it stands in a table."""
    return f"{timed['median_ms']:.2f} ({timed['low_ms']:.2f}-{timed['high_ms']:.2f})"


def timing(run: Callable[[], object], device: torch.device) -> Timing:
    """Repeat until there is enough to take quartiles of."""
    first_ms, _ = _once_ms(run, device)
    long = first_ms > 1e3 * _LONG_S
    for _ in range(0 if long else _WARM_UPS - 1):
        run()
    least_runs = min(_LEAST_RUNS, 3) if long else _LEAST_RUNS
    times_ms: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(times_ms) < least_runs or (time.perf_counter() - began < _LEAST_S and len(times_ms) < _MOST_RUNS):
        times_ms.append(_once_ms(run, device))
    return Timing.of(times_ms)


def timed_in_turns(runs: Sequence[Callable[[], object]], device: torch.device) -> list[Timing]:
    """As `timing`, of several pieces of work that take about as long: one run of each, and again."""
    for run in runs:
        for _ in range(_WARM_UPS):
            run()
    times_ms: list[list[tuple[float, float]]] = [[] for _ in runs]
    began = time.perf_counter()
    while len(times_ms[0]) < _LEAST_RUNS or (
        time.perf_counter() - began < _LEAST_S * len(runs) and len(times_ms[0]) < _MOST_RUNS
    ):
        for run, own_ms in zip(runs, times_ms, strict=True):
            own_ms.append(_once_ms(run, device))
    return [Timing.of(own_ms) for own_ms in times_ms]


def _once_ms(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    _synchronize(device)
    started, spent = time.perf_counter(), time.process_time()
    run()
    _synchronize(device)
    return 1e3 * (time.perf_counter() - started), 1e3 * (time.process_time() - spent)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mb(run: Callable[[], object], device: torch.device) -> float:
    """The most memory allocated at any moment of a run beyond what was there before, in 10^6 bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) - before) / 1e6
    tensors = _TensorBytes()
    with tensors:
        run()
    return tensors.most / 1e6


class _TensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The bytes of the tensors made inside that live at once: the resident set would hide what is reused.

    Forward and backward are seen alike; scratch space inside one operator is not.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = 0
        self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note the storage of what it returns."""
        before = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in before | self._known:
                self._note(x.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.held += size
        self.most = max(self.most, self.held)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, and the least that it takes: written down before anything is measured."""

    name: str
    least_bytes: int  # inputs read once, outputs written once
    least_operations: float  # of the cheapest known way; a multiplication and a sum are two


@dataclass(frozen=True, slots=True)
class MethodTiming:
    """One way to do one task on one device."""

    task: str
    method: str
    timed: Timing
    peak_mb: float  # allocated on top of the inputs, 10^6 bytes
    floor_ms: float  # of the task
    speed_up: float  # over the first method of the same task


def compared(task: Task, methods: Mapping[str, Callable[[], object]], device: torch.device) -> list[MethodTiming]:
    """Measure every method; the first is what the others are compared with."""
    floor = floor_ms(task.least_bytes, task.least_operations, device)
    rows: list[MethodTiming] = []
    for name, run in methods.items():
        timed = timing(run, device)
        first_ms = rows[0].timed.median_ms if rows else timed.median_ms
        rows.append(MethodTiming(task.name, name, timed, peak_mb(run, device), floor, first_ms / timed.median_ms))
    return rows


def compared_in_turns(
    task: Task, methods: Mapping[str, Callable[[], object]], device: torch.device
) -> list[MethodTiming]:
    """As `compared`, one run of each method after the other: what else a machine does falls on all of them alike."""
    floor = floor_ms(task.least_bytes, task.least_operations, device)
    timed = timed_in_turns(list(methods.values()), device)
    return [
        MethodTiming(task.name, name, own, peak_mb(run, device), floor, timed[0].median_ms / own.median_ms)
        for (name, run), own in zip(methods.items(), timed, strict=True)
    ]


def comparison_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows as a table for the terminal."""
    caption = "median (quartiles); floor: least traffic as one copy or least arithmetic as one product of matrices"
    table = Table(title=title, caption=caption)
    for heading in ("task", "method"):
        table.add_column(heading)
    for heading in ("ms", "p95 ms", "processor ms", "MB", "floor ms", "x floor", "x faster"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["task"],
            row["method"],
            span(row["timed"]),
            f"{row['timed']['p95_ms']:.2f}",
            f"{row['timed']['processor_ms']:.2f}",
            f"{row['peak_mb']:.1f}",
            f"{row['floor_ms']:.3f}",
            f"{row['timed']['median_ms'] / row['floor_ms']:.1f}",
            f"{row['speed_up']:.1f}",
        )
    return table
