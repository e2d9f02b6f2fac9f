"""Paired block bootstrap: how much two runs differ, and how far chance alone could move that.

Frames that are near each other see the same and err alike, so single ones must not be drawn as if they were
independent: whole stretches of the way are.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

BLOCK_M = 100.0  # about twice as far as a scan says much of
LEAST_BLOCKS = 5  # with fewer, an interval would say more than is known: there is none
RESAMPLES = 2000


def blocks(
    drives: Sequence[str],
    frames: Int[np.ndarray, " n"],
    places_m: Float[np.ndarray, "n 2"],
    length_m: float = BLOCK_M,
) -> Int[np.ndarray, " n"]:
    """The block of each of n answers, numbered from 0.

    A block is a stretch of one drive, with all draws of its frames. A drive is cut into as many equally long ones as
    are no shorter than `length_m`; a shorter drive is one block. A jump counts as `length_m`, however far it goes.

    Args:
        drives: drive of each answer.
        frames: number of its frame.
        places_m: where that was, (x, y).
        length_m: of the shortest stretch.
    """
    names = np.asarray(drives)
    block = np.zeros(len(names), dtype=np.int64)
    begun = 0
    for drive in dict.fromkeys(drives):
        mine = names == drive
        _, first, rank = np.unique(frames[mine], return_index=True, return_inverse=True)
        steps_m = np.minimum(np.hypot(*np.diff(places_m[mine][first], axis=0).T), length_m)
        driven_m = np.concatenate([[0.0], np.cumsum(steps_m)])
        own_m = float(steps_m.mean()) if len(steps_m) else 0.0  # the last frame stands for a step, too
        whole_m = float(driven_m[-1]) + own_m
        pieces = max(1, int(whole_m // length_m))
        stretch = np.floor(driven_m * pieces / max(whole_m, 1e-9)).astype(np.int64)
        stretch = np.unique(stretch, return_inverse=True)[1].reshape(-1)  # a jump may leave one empty
        block[mine] = begun + stretch[rank.reshape(-1)]
        begun = int(block.max()) + 1
    return block


def drawn_counts(number: int, resamples: int, seed: int) -> Int[np.ndarray, "r k"]:
    """How often each of `number` blocks is drawn, in each of `resamples` draws of as many with replacement."""
    counts: np.ndarray = np.random.default_rng(seed).multinomial(number, np.full(number, 1.0 / number), size=resamples)
    return counts


def recall_differences(
    hit_a: Bool[np.ndarray, " n"],
    hit_b: Bool[np.ndarray, " n"],
    block: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "r k"],
) -> Float[np.ndarray, " r"]:
    """Recall of B less that of A in percent, in each resample."""
    number = counts.shape[1]
    gained = np.bincount(block, weights=hit_b.astype(float) - hit_a.astype(float), minlength=number)
    sizes = np.bincount(block, minlength=number)
    difference: np.ndarray = 100.0 * (counts @ gained) / (counts @ sizes)
    return difference


def median_differences(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    block: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "r k"],
) -> Float[np.ndarray, " r"]:
    """Median of B less median of A, in each resample."""
    difference: np.ndarray = _medians(b, block, counts) - _medians(a, block, counts)
    return difference


def interval_95(differences: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """The middle 95 % of resampled differences."""
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def _medians(
    values: Float[np.ndarray, " n"], block: Int[np.ndarray, " n"], counts: Int[np.ndarray, "r k"]
) -> Float[np.ndarray, " r"]:
    """Median of the values when every block is repeated as often as it was drawn: sorted once, not every time."""
    order = np.argsort(values)
    ordered, of_block = values[order], block[order]
    medians = np.empty(len(counts))
    for i, drawn in enumerate(counts):
        upto = np.cumsum(drawn[of_block])
        total = int(upto[-1])
        low, high = np.searchsorted(upto, ((total - 1) // 2, total // 2), side="right")
        medians[i] = 0.5 * (ordered[low] + ordered[high])
    return medians
