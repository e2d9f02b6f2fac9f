"""What an opened input is made of: what was taken from it, what was left and why, what was assumed, what looks wrong.

A drive or a map that somebody hands over is rarely what a reader expects. Whatever a reader decides is said here, once,
with counts; commands log it, reports show it, and `bevfusion info` prints it.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

NoteKind = Literal["used", "ignored", "assumed", "lost", "warning"]

_LEVEL = {
    "used": logging.DEBUG,
    "ignored": logging.INFO,
    "assumed": logging.INFO,
    "lost": logging.WARNING,
    "warning": logging.WARNING,
}


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to know about an input.

    Args:
        kind: used: a part that was read; ignored: a part that was left on purpose; assumed: what the input does not
            say and the reader chose; lost: what should have been read and could not be; warning: what is read but
            implausible.
        subject: what it is about: a topic, file, column, tag or quantity, e.g. "intensity".
        text: one short sentence with the number that matters.
        count: how many things it stands for (messages, rows, ways), where that makes sense.
        total: out of how many.
    """

    kind: NoteKind
    subject: str
    text: str
    count: int | None = None
    total: int | None = None

    def line(self) -> str:
        """The note in one line, without its kind."""
        return f"{self.subject}: {self.text}"

    def as_dict(self) -> dict[str, Any]:
        """The note as plain values for JSON, without what is not known."""
        values = {"kind": self.kind, "subject": self.subject, "text": self.text}
        shares = {"count": self.count, "total": self.total}
        return values | {key: value for key, value in shares.items() if value is not None}


@dataclass(slots=True)
class InputSummary:
    """The notes of one input, in the order in which a reader made them; the same note is kept once."""

    source: str  # name of the input, as the user knows it
    notes: list[Note] = field(default_factory=list)

    def add(
        self, kind: NoteKind, subject: str, text: str, *, count: int | None = None, total: int | None = None
    ) -> None:
        """Note something, unless it is noted already."""
        note = Note(kind, subject, text, count, total)
        if note not in self.notes:
            self.notes.append(note)

    def of_kind(self, *kinds: NoteKind) -> Iterator[Note]:
        """The notes of these kinds."""
        return (note for note in self.notes if note.kind in kinds)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"source": self.source, "notes": [note.as_dict() for note in self.notes]}

    def log(self, logger: logging.Logger) -> None:
        """Log each note: what is lost or implausible as a warning, what was assumed or ignored as information."""
        for note in self.notes:
            logger.log(_LEVEL[note.kind], "%s: %s", self.source, note.line())
