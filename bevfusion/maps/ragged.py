"""Sequences of unequal length in one array: the courses of a million ways without an object for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped


@dataclass(frozen=True, slots=True)
class Ragged:
    """Sequence i is `values[starts[i] : starts[i + 1]]`; the first begins at 0."""

    values: Shaped[np.ndarray, "n ..."]
    starts: Int[np.ndarray, " m1"]

    @classmethod
    def of(cls, parts: Sequence[np.ndarray], empty: np.ndarray) -> "Ragged":
        """The parts one after the other; `empty` has the type and shape of none."""
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(part) for part in parts], dtype=np.int64)])
        return cls(np.concatenate([empty, *parts]), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, at: int) -> np.ndarray:
        found: np.ndarray = self.values[self.starts[at] : self.starts[at + 1]]
        return found

    @property
    def lengths(self) -> Int[np.ndarray, " m"]:
        """How long each sequence is."""
        lengths: np.ndarray = np.diff(self.starts)
        return lengths

    def owners(self) -> Int[np.ndarray, " n"]:
        """The sequence that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def taken(self, order: Int[np.ndarray, " k"]) -> "Ragged":
        """Some of the sequences, in this order."""
        if len(order) == len(self) and (order == np.arange(len(self))).all():
            return self
        lengths = self.lengths[order]
        return Ragged(
            self.values[spans(self.starts[order], lengths)],
            np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        )

    def chunks(self, values: int) -> Iterator[tuple[slice, "Ragged"]]:
        """The sequences in groups of about so many values: which they are, and they."""
        first = 0
        while first < len(self):
            last = max(first + 1, int(np.searchsorted(self.starts, self.starts[first] + values, side="right")) - 1)
            begin = self.starts[first]
            yield (
                slice(first, last),
                Ragged(self.values[begin : self.starts[last]], self.starts[first : last + 1] - begin),
            )
            first = last


def spans(starts: Int[np.ndarray, " m"], lengths: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """The places start, start + 1, ... of several spans, one span after the other."""
    ends = np.cumsum(lengths)
    places: np.ndarray = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return places
