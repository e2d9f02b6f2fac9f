"""A drive scored, and what is asked beside: the training-free matcher, which a network must beat, and other traffic."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext

from bevfusion.classical.locator import ClassicalLocator
from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.opened import MakeLocator
from bevfusion.evaluation.predictions import Prediction
from bevfusion.evaluation.protocol import Asides, Protocol
from bevfusion.evaluation.scoring import Answers, Scorer
from bevfusion.evaluation.traffic import HIDING, Shift, evenly_spaced, vehicle_shifts
from bevfusion.evaluation.viewer import Recorder
from bevfusion.maps.source import MapSource
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError

FRAMES = 50  # of a drive for the matcher: at half a second to three a frame, all of a long one would take hours

log = logging.getLogger(__name__)


def score_drive(
    make_locator: MakeLocator,
    drive: Drive,
    maps: Sequence[MapSource],
    protocol: Protocol,
    asides: Asides,
    *,
    name: str,
    drive_index: int,
    map_names: Sequence[str],
    recorder: Recorder | None = None,
    quiet: bool = False,
) -> Answers:
    """A locator's answers, and what is asked beside.

    Arguments are as of `Scorer` and `Asides`; with `quiet` no progress is shown.

    Raises:
        DataError: if a scan is broken or the locator cannot use one.
    """
    scorer = Scorer(
        make_locator,
        drive,
        maps,
        protocol,
        name=name,
        drive_index=drive_index,
        map_names=map_names,
        recorder=recorder,
    )
    with nullcontext() if quiet else frame_progress(f"evaluate {name}", len(drive)) as show:
        answers = scorer.run(show)
    answers.classical = classical_predictions(scorer, asides.classical, quiet=quiet)
    answers.traffic = traffic_shifts(scorer, asides.traffic, quiet=quiet)
    return answers


def classical_predictions(scorer: Scorer, frames: int, *, quiet: bool = False) -> list[Prediction]:
    """What it says of so many frames, evenly spread, from the priors that the network was given.

    Nothing for sequences, which need every frame, and nothing of a drive with a scan that it cannot use.

    Args:
        scorer: of the network.
        frames: how many.
        quiet: show no progress.
    """
    if frames == 0 or scorer.protocol.mode != "single":
        return []
    again = scorer.another(ClassicalLocator, evenly_spaced(len(scorer.drive), frames))
    try:
        with nullcontext() if quiet else frame_progress(f"classical {scorer.answers.drive}", frames) as show:
            return again.run(show).predictions
    except DataError as error:
        log.warning("no classical row: %s", error)
        return []


def traffic_shifts(scorer: Scorer, frames: int, *, quiet: bool = False) -> list[Shift]:
    """How far so many frames' answers move as vehicles come and go; arguments as of `classical_predictions`.

    Nothing for sequences, and nothing of a drive with a scan that is left without a point to locate by.
    """
    drive, protocol = scorer.drive, scorer.protocol
    if frames == 0 or protocol.mode != "single":
        return []
    count = min(frames, len(drive))
    try:
        with nullcontext() if quiet else frame_progress(f"traffic in {drive.name}", count) as show:
            return vehicle_shifts(
                scorer.locator_on, drive, scorer.maps, hiding=HIDING, frames=count, protocol=protocol, on_frame=show
            )
    except DataError as error:
        log.warning("no other traffic in %s: %s", drive.name, error)
        return []
