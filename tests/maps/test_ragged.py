"""Sequences of unequal length in one array, against lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.maps.ragged import Ragged, spans

EMPTY = np.zeros((0, 2))
LENGTHS = st.lists(st.integers(0, 5), max_size=12)


def parts_of(lengths: list[int]) -> list[np.ndarray]:
    numbers = np.arange(2.0 * sum(lengths)).reshape(-1, 2)
    return np.split(numbers, np.cumsum(lengths)[:-1]) if lengths else []


@given(LENGTHS, st.data())
def test_sequences_come_back_and_can_be_reordered(lengths: list[int], data: st.DataObject) -> None:
    parts = parts_of(lengths)
    ragged = Ragged.of(parts, EMPTY)
    assert len(ragged) == len(parts)
    assert ragged.lengths.tolist() == lengths
    assert ragged.owners().tolist() == [i for i, length in enumerate(lengths) for _ in range(length)]
    order = data.draw(st.lists(st.sampled_from(range(len(parts))), max_size=9)) if parts else []
    taken = ragged.taken(np.array(order, np.int64))
    assert len(taken) == len(order)
    for at, source in enumerate(order):
        np.testing.assert_array_equal(taken[at], parts[source])


@given(LENGTHS, st.integers(1, 9))
def test_chunks_are_all_of_it_in_order(lengths: list[int], values: int) -> None:
    ragged = Ragged.of(parts_of(lengths), EMPTY)
    seen = 0
    for which, chunk in ragged.chunks(values):
        assert which.start == seen
        assert len(chunk) == which.stop - which.start > 0
        assert len(chunk) == 1 or len(chunk.values) <= values
        for at in range(len(chunk)):
            np.testing.assert_array_equal(chunk[at], ragged[seen + at])
        seen = which.stop
    assert seen == len(ragged)


@pytest.mark.parametrize(
    ("starts", "lengths", "expected"), [([5, 0], [2, 3], [5, 6, 0, 1, 2]), ([4, 9], [0, 1], [9]), ([], [], [])]
)
def test_spans(starts: list[int], lengths: list[int], expected: list[int]) -> None:
    assert spans(np.array(starts, np.int64), np.array(lengths, np.int64)).tolist() == expected
