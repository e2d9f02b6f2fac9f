"""How long the parts take, how much memory, and how far that is from what the hardware could do."""

import json
import platform
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bevfusion.attention import ATTENTION
from bevfusion.evaluation.summary import hardware
from bevfusion.fusion.attend import Scene, attend
from bevfusion.fusion.fuse import JOINS
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError

Shape = tuple[int, int, int, int]

SHAPE: Shape = (2, 64, 128, 128)  # two scans, 64 channels, 64 m at half a metre
# These weigh every cell against every other. On a CPU four times the cells take sixteen times the minute.
QUADRATIC = frozenset({"self_attention", "non_local", "danet_pam", "danet"})
QUADRATIC_CPU_SHAPE: Shape = (1, 64, 64, 64)
_LEAST_RUNS, _MOST_RUNS, _LEAST_S, _WARM_UPS = 5, 60, 0.25, 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of repeated runs."""

    median_ms: float
    low_ms: float  # 25th percentile
    high_ms: float  # 75th percentile
    runs: int


@dataclass(frozen=True, slots=True)
class Row:
    """One part on one device.

    The floor of a pass is the time of one copy that moves the least memory the pass can do with: forward reads its
    inputs and writes its output, backward also reads both and the gradient that comes, and writes those that go.
    """

    name: str
    kind: str  # attention: B C H W to the same; join: two of them to one
    shape: Shape  # of each input
    parameters: int
    forward: Timing  # evaluation mode, no gradients
    training: Timing  # forward and backward
    peak_forward_mb: float  # allocated on top of inputs and weights, 10^6 bytes
    peak_training_mb: float
    forward_over_floor: float
    training_over_floor: float


def benchmark(suites: Sequence[str], device: str | None = None) -> dict[str, Any]:
    """Measure suites of `SUITES`.

    Args:
        suites: which; none are all.
        device: cpu or cuda; by default the CPU, and CUDA where there is one.

    Returns:
        What the JSON file holds: hardware, versions, and the rows by suite and device.

    Raises:
        DataError: if there is no such suite or device.
    """
    unknown = [name for name in suites if name not in SUITES]
    if unknown:
        raise DataError(f"no benchmark is called {unknown[0]!r}; there are {', '.join(SUITES)}")
    devices = _devices(device)
    measured = {
        name: {kind: [asdict(row) for row in SUITES[name](torch.device(kind))] for kind in devices}
        for name in suites or SUITES
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return {
        "hardware": hardware() | {"threads": torch.get_num_threads()},
        "versions": versions,
        "dtype": "float32",
        "command": " ".join(sys.argv),
        "suites": measured,
    }


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Keep a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def rich_tables(report: Mapping[str, Any]) -> list[Table]:
    """One table for each suite and device."""
    return [
        _rich_table(f"{suite} on {report['hardware'][_HARDWARE[device]]}", rows)
        for suite, devices in report["suites"].items()
        for device, rows in devices.items()
    ]


_HARDWARE = {"cpu": "cpu", "cuda": "gpu"}  # keys of `hardware()`


def _rich_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    caption = "median (quartiles); x floor: times one copy that moves the least memory possible"
    table = Table(title=title, caption=caption)
    table.add_column("mechanism")
    for heading in ("input", "parameters", "forward ms", "x floor", "MB", "forward + backward ms", "x floor", "MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["name"] + (" (join)" if row["kind"] == "join" else ""),
            "x".join(str(size) for size in row["shape"]),
            f"{row['parameters']:,}",
            _span(row["forward"]),
            f"{row['forward_over_floor']:.1f}",
            f"{row['peak_forward_mb']:.0f}",
            _span(row["training"]),
            f"{row['training_over_floor']:.1f}",
            f"{row['peak_training_mb']:.0f}",
        )
    return table


def _span(timing: Mapping[str, float]) -> str:
    return f"{timing['median_ms']:.2f} ({timing['low_ms']:.2f}-{timing['high_ms']:.2f})"


def _devices(device: str | None) -> list[str]:
    found = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if device is None:
        return found
    if device not in found:
        raise DataError(f"there is no device {device!r} here; there is {', '.join(found)}")
    return [device]


def _attention(device: torch.device) -> list[Row]:
    """Every mechanism of `ATTENTION` and every join of `JOINS`, as the network calls them."""
    jobs = [("attention", name) for name in ATTENTION] + [("join", name) for name in JOINS]
    rows = []
    with frame_progress(f"attention on {device.type}", len(jobs)) as show:
        for done, (kind, name) in enumerate(jobs, start=1):
            small = device.type == "cpu" and name in QUADRATIC
            rows.append(measure(kind, name, QUADRATIC_CPU_SHAPE if small else SHAPE, device))
            show(done, len(jobs))
    return rows


# What can be measured: one line a suite.
SUITES: dict[str, Callable[[torch.device], list[Row]]] = {"attention": _attention}


def measure(kind: str, name: str, shape: Shape, device: torch.device) -> Row:
    """Time and memory of one mechanism with its default options, random inputs, float32."""
    torch.manual_seed(0)
    module = (ATTENTION if kind == "attention" else JOINS)[name](shape[1]).to(device)
    inputs = [torch.randn(shape, device=device) for _ in range(1 if kind == "attention" else 2)]
    scene = _scene(shape, device)

    def apply() -> tuple[Tensor, Tensor]:
        """The output, and the losses that the mechanism brings along."""
        if kind == "join":
            return module(*inputs), inputs[0].new_zeros(())
        y, lessons = attend(module, inputs[0], scene)
        rewards, truth = y.new_zeros(shape[0]), y.new_zeros(shape[0], 3)
        return y, sum((lesson(rewards, truth) for lesson in lessons), y.new_zeros(()))

    @torch.inference_mode()
    def forward() -> None:
        apply()

    def training() -> None:
        y, lesson = apply()
        module.zero_grad(set_to_none=True)
        for x in inputs:
            x.grad = None
        torch.autograd.backward([y, lesson] if lesson.requires_grad else [y], [gradient, *_ones(lesson)])

    module.eval()
    forward_timing, peak_forward_mb = _timing(forward, device), _peak_mb(forward, device)
    module.train()
    gradient = torch.randn(shape, device=device)
    for x in inputs:
        x.requires_grad_()
    training_timing, peak_training_mb = _timing(training, device), _peak_mb(training, device)
    plane = inputs[0].nbytes
    read, written = plane * len(inputs), plane
    return Row(
        name,
        kind,
        shape,
        sum(parameter.numel() for parameter in module.parameters()),
        forward_timing,
        training_timing,
        peak_forward_mb,
        peak_training_mb,
        forward_timing.median_ms / copy_ms(read + written, device),
        training_timing.median_ms / copy_ms(3 * read + 2 * written, device),
    )


def _ones(lesson: Tensor) -> list[Tensor]:
    return [torch.ones_like(lesson)] if lesson.requires_grad else []


def _scene(shape: Shape, device: torch.device) -> Scene:
    """A third of the cells seen, and a road along x through the middle."""
    seen = (torch.rand(shape[0], 1, *shape[2:], device=device) < 0.33).float()
    road = torch.zeros(shape[0], 2, *shape[2:], device=device)
    middle = shape[2] // 2
    road[:, 0, middle - 4 : middle + 4] = 1.0
    return Scene(seen, road)


def copy_ms(moved_bytes: int, device: torch.device) -> float:
    """The median time of one copy that reads half of these bytes and writes the other half."""
    key = (moved_bytes, device.type)
    if key not in _COPIES:
        source = torch.ones(moved_bytes // 8, device=device)
        target = torch.empty_like(source)
        _COPIES[key] = _timing(lambda: target.copy_(source), device).median_ms
    return _COPIES[key]


_COPIES: dict[tuple[int, str], float] = {}  # measured once in a process


def _timing(run: Callable[[], object], device: torch.device) -> Timing:
    """Repeat until there is enough to take quartiles of."""
    for _ in range(_WARM_UPS):
        run()
    times_ms: list[float] = []
    began = time.perf_counter()
    while len(times_ms) < _LEAST_RUNS or (time.perf_counter() - began < _LEAST_S and len(times_ms) < _MOST_RUNS):
        _synchronize(device)
        started = time.perf_counter()
        run()
        _synchronize(device)
        times_ms.append(1e3 * (time.perf_counter() - started))
    low_ms, median_ms, high_ms = statistics.quantiles(times_ms, n=4, method="inclusive")
    return Timing(median_ms, low_ms, high_ms, len(times_ms))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_mb(run: Callable[[], object], device: torch.device) -> float:
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
