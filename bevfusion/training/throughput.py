"""How fast training goes, and how long it waits for data."""

import importlib
import logging
import time
from collections import deque
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import lightning as L
import torch

from bevfusion.structures import Batch

log = logging.getLogger(__name__)

Mark = TypeVar("Mark")
_TOO_LONG = 0.1  # share of the time: beyond, more workers are worth a try


@runtime_checkable  # the type checks of the tests ask for it
class Clock(Protocol[Mark]):
    """Marks in the course of the work, and the time between them."""

    def mark(self) -> Mark:
        """A mark at this place of the work."""

    def is_past(self, mark: Mark) -> bool:
        """Whether the work has come there."""

    def seconds(self, earlier: Mark, later: Mark) -> float:
        """Time from one mark that is past to another."""


class HostClock:
    """For a device that computes while the program waits: the wall clock."""

    def mark(self) -> float:
        """Now."""
        return time.perf_counter()

    def is_past(self, mark: float) -> bool:
        """Always."""
        return True

    def seconds(self, earlier: float, later: float) -> float:
        """The difference."""
        return later - earlier


class CudaClock:
    """For CUDA, which works off its queue while the program goes on: events in that queue, read when they are past.

    Nothing is ever waited for. A mark comes late only if the queue has run dry before it, so time between the end of a
    batch and the beginning of the next is time in which the GPU had nothing to do, or received the next batch.
    """

    def mark(self) -> torch.cuda.Event:
        """An event at the end of the queue."""
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def is_past(self, mark: torch.cuda.Event) -> bool:
        """Whether the GPU has come to the event."""
        return bool(mark.query())  # type: ignore[no-untyped-call]

    def seconds(self, earlier: torch.cuda.Event, later: torch.cuda.Event) -> float:
        """On the clock of the GPU."""
        return 1e-3 * float(earlier.elapsed_time(later))


class Stopwatch(Generic[Mark]):
    """Adds up samples, time and waiting over the batches that are past; what is under way counts the next time."""

    def __init__(self, clock: Clock[Mark]) -> None:
        self._clock = clock
        self._batches: deque[tuple[Mark, Mark, Mark, int]] = deque()  # waiting from, begun, ended, samples
        self._waiting_from: Mark | None = None
        self._begun: Mark | None = None
        self.samples, self.total_s, self.waited_s = 0, 0.0, 0.0

    def wait(self) -> None:
        """From here on the next batch is waited for."""
        self._waiting_from = self._clock.mark()

    def begin(self) -> None:
        """The next batch is there."""
        self._begun = self._clock.mark()

    def end(self, samples: int) -> None:
        """A batch is done, and the next is waited for."""
        mark = self._clock.mark()
        if self._waiting_from is not None and self._begun is not None:
            self._batches.append((self._waiting_from, self._begun, mark, samples))
        self._waiting_from, self._begun = mark, None

    def read(self) -> None:
        """Count the batches that are past."""
        while self._batches and self._clock.is_past(self._batches[0][2]):
            waiting_from, begun, ended, samples = self._batches.popleft()
            self.samples += samples
            self.total_s += self._clock.seconds(waiting_from, ended)
            self.waited_s += self._clock.seconds(waiting_from, begun)


class Throughput(L.Callback):
    """Logs `samples_per_s` (of all processes) and `waited_for_data` (% of the time), and on CUDA `gpu_utilization` (%).

    Time is that of training alone, with the wait for the first batch of each epoch, without validation. On CUDA it is
    the GPU's own. `gpu_utilization` is the driver's, and there if the package nvidia-ml-py is.
    """

    def __init__(self, every_n_steps: int, workers: int, cores: int) -> None:
        """To log after every so many steps; processes that prepare samples and cores are for the advice at the end."""
        self.every_n_steps = every_n_steps
        self.workers = workers
        self.cores = cores
        self._watch: Stopwatch[Any] = Stopwatch(HostClock())
        self._before = (0, 0.0, 0.0)
        self._world = 1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose the clock."""
        on_cuda = pl_module.device.type == "cuda"
        self._watch = Stopwatch(CudaClock()) if on_cuda else Stopwatch(HostClock())
        self._before, self._world = (0, 0.0, 0.0), trainer.world_size

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the first batch."""
        self._watch.wait()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """The batch is there."""
        self._watch.begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log what has been measured since the last time."""
        self._watch.end(len(batch.bev))
        if trainer.global_step % self.every_n_steps:
            return
        self._watch.read()
        now = (self._watch.samples, self._watch.total_s, self._watch.waited_s)
        samples, total_s, waited_s = (b - a for a, b in zip(self._before, now, strict=True))
        if total_s <= 0.0:
            return  # the GPU is far behind
        self._before = now
        values = {"samples_per_s": self._world * samples / total_s, "waited_for_data": 100.0 * waited_s / total_s}
        pl_module.log_dict(values, prog_bar=True)
        used = gpu_utilization(pl_module.device)
        if used is not None:
            pl_module.log("gpu_utilization", used, prog_bar=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line about the whole."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self._watch.read()
        total_s = self._watch.total_s
        if total_s <= 0.0 or not trainer.is_global_zero:
            return
        share = self._watch.waited_s / total_s
        advice = ""
        if share > _TOO_LONG and self.workers < self.cores:
            advice = f": more train.workers than {self.workers} may help, there are {self.cores} cores"
        rate = self._world * self._watch.samples / total_s
        log.info("trained on %.1f samples/s, waited for data %.1f %% of the time%s", rate, 100.0 * share, advice)


def gpu_utilization(device: torch.device) -> float | None:
    """Share of the last moments in which kernels ran on the GPU, in %; None where nobody can tell."""
    if device.type != "cuda":
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        return float(torch.cuda.utilization(device))
    except nvml.NVMLError:  # e.g. of a slice of a GPU
        return None
