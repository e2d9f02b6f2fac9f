"""Drives on a Ray cluster (extra `ray`): one task a drive. See https://docs.ray.io."""

import logging
from collections.abc import Iterator, Sequence

from bevfusion.evaluation import kept
from bevfusion.evaluation.jobs import INTERNAL, DriveTask, perform
from bevfusion.evaluation.scoring import Answers
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError

log = logging.getLogger(__name__)


def perform_on_cluster(tasks: Sequence[DriveTask]) -> Iterator[tuple[DriveTask, bytes]]:
    """The tasks with their answers, as they come; the cluster of RAY_ADDRESS, else one on this machine.

    Raises:
        DataError: if ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise DataError("evaluation on a cluster needs ray: pip install 'bevfusion[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1)(perform)
        waiting = {remote.remote(task, quiet=True): task for task in tasks}
        with frame_progress("drives", len(tasks)) as show:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(ready)
                try:
                    data = ray.get(ready)
                except ray.exceptions.RayError as error:  # the task's own bugs, and workers that died
                    reason = " ".join(str(error).strip().splitlines()[-1:])
                    data = kept.to_bytes(Answers(task.name, "none", failed=f"{INTERNAL}: {reason}"))
                yield task, data
                show(len(tasks) - len(waiting), len(tasks))
    finally:
        if ours:
            ray.shutdown()
