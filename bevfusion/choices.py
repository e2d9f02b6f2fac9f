"""Names that were mistyped: which one was meant."""

import difflib
from collections.abc import Iterable


def meant(word: str, known: Iterable[str]) -> str:
    """For the end of a message about a name that there is not: the known one that it is most like, if any is."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
