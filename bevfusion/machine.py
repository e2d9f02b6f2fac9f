"""The machine: what this process may use of it, by affinity and by the limits of its container, and its name."""

import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

_GROUP = Path("/sys/fs/cgroup")  # of cgroup v2
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as the kernel names what processors can do


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


def has_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16, AMX, Arm's BF16); False where it is not said."""
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, words = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return not _BFLOAT16.isdisjoint(words.split())
    return False


def hardware() -> dict[str, object]:
    """Processor (`cpu`, `cores`), graphics card (`gpu`, None without) and version of `torch`: what a report names."""
    return {
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def _cpu_model() -> str:
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
