"""The machine: what this process may use of it, by affinity and by the limits of its container, and its name."""

import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

_GROUP = Path("/sys/fs/cgroup")  # of cgroup v2
_MEMINFO = Path("/proc/meminfo")


def available_cores(group: Path = _GROUP) -> int:
    """Cores, at least one: a container's share of time counts as whole cores, rounded down."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        limit, period = (group / "cpu.max").read_text().split()
        if limit != "max":
            cores = max(1, min(cores, int(limit) // int(period)))
    return cores


def available_memory(group: Path = _GROUP, meminfo: Path = _MEMINFO) -> int | None:
    """Bytes that new processes could take without swapping; None where the system does not say."""
    free: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        free.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError):  # "max" is no limit
        limit = int((group / "memory.max").read_text())
        free.append(max(0, limit - int((group / "memory.current").read_text())))
    return min(free, default=None)


def hardware() -> dict[str, object]:
    """Processor (`cpu`, `cores`), graphics card (`gpu`, None without) and version of `torch`: what a report names."""
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
