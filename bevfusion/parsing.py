"""JSON and YAML from outside: what is read here is bounded in size, depth and digits, or refused in one line.

The parsers themselves raise more than they say: RecursionError where a text is nested deeply, ValueError about a
setting of the interpreter where a number has thousands of digits, OverflowError much later where a number is infinite.
Every text that the package has not just written itself is read by these functions, so that nobody meets those.
"""

import json
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bevfusion.structures import DataError

MAX_BYTES = 1 << 30  # of a file, unless its reader expects less
MAX_DEPTH = 64  # of values inside values
_WHOLE = range(-(1 << 63), 1 << 64)  # what fits into 64 bits, with or without a sign
_FEW = 10_000  # values that any YAML may have, however short it is


def parse_json(text: str, source: object) -> Any:
    """The value of a JSON text.

    Args:
        text: of it.
        source: what is read, for messages.

    Raises:
        DataError: if it is no JSON, names a key twice with different values, is nested deeper than `MAX_DEPTH`, or
            holds a number that is not finite or does not fit into 64 bits.
    """
    with _bounded(f"{source}: no JSON that can be read"):
        try:
            value = json.loads(text, object_pairs_hook=_without_twins)
            _check_values(value, most=len(text) + 1, finite=True)
        except ValueError as error:
            raise DataError(f"{source}: no JSON that can be read: {_reason(error)}") from error
    return value


def read_json(path: Path, most_bytes: int = MAX_BYTES) -> Any:
    """The value in a JSON file, in UTF-8 with or without a byte order mark.

    Raises:
        DataError: if it is missing, has more than `most_bytes`, or is refused by `parse_json`.
    """
    return parse_json(read_text(path, most_bytes), path)


def parse_yaml(text: str, source: object) -> Any:
    """The value of a YAML text, of plain values only. 1e-3 is a number.

    Args:
        text: of it.
        source: what is read, for messages.

    Raises:
        DataError: if it is no YAML, gives a key twice, is nested deeper than `MAX_DEPTH`, holds a whole number that
            does not fit into 64 bits, or grows by its aliases far beyond its own length.
    """
    with _bounded(f"{source}: not valid YAML"):
        try:
            value = yaml.load(text, Loader=_Loader)
            _check_values(value, most=len(text) + _FEW, finite=False)
        except yaml.YAMLError as error:
            raise DataError(f"{source}: not valid YAML: {' '.join(str(error).split())[:300]}") from error
        except (ValueError, TypeError, OverflowError, AttributeError, KeyError, IndexError) as error:  # constructors'
            raise DataError(f"{source}: not valid YAML: {_reason(error)}") from error
    return value


def read_yaml(path: Path, most_bytes: int = MAX_BYTES) -> Any:
    """The value in a YAML file, in UTF-8.

    Raises:
        DataError: if it is missing, has more than `most_bytes`, or is refused by `parse_yaml`.
    """
    return parse_yaml(read_text(path, most_bytes), path)


def read_text(path: Path, most_bytes: int = MAX_BYTES) -> str:
    """A whole file of text in UTF-8, with or without a byte order mark.

    Raises:
        DataError: if it is missing, cannot be read, has more than `most_bytes`, or is in another encoding.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise DataError(f"{path}: more than the {most_bytes / 1e6:g} MB that are read")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory") from error


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise ValueError(f"{key[:40]!r} stands there twice with different values")
    return found


def _check_values(value: Any, most: int, finite: bool) -> None:
    """Look at a tree of plain values, level by level.

    Raises:
        ValueError: if it is too deep, has more than `most` values, or one of them is out of range.
    """
    level, seen = [value], 1
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list | tuple):
                below.extend(one)
            elif isinstance(one, int) and one not in _WHOLE:
                raise ValueError("a whole number does not fit into 64 bits")
            elif finite and isinstance(one, float) and not abs(one) < float("inf"):
                raise ValueError(f"a number is {one}")
            if seen + len(below) > most:
                raise ValueError(f"it grows to more than {most} values")
        if not below:
            return
        level, seen = below, seen + len(below)
    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


@contextmanager
def _bounded(refusal: str) -> Iterator[None]:
    """Refuse what is too deep or too large for a parser, in words that begin with `refusal`."""
    try:
        yield
    except RecursionError as error:
        raise DataError(f"{refusal}: it is nested too deeply") from error
    except MemoryError as error:
        raise DataError(f"{refusal}: it does not fit into memory") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "int_max_str_digits" in text:
        return "a number has thousands of digits"
    return text[:200] or type(error).__name__


class _Loader(yaml.SafeLoader):
    """Safe YAML, with 1e-3 read as a number and a key given twice refused."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?([eE][-+]?\d+)$|^[-+]?(\d[\d_]*)?\.[\d_]+([eE][-+]?\d+)?$|^[-+]?\d+\.$"),
    list("-+0123456789."),
)


def _mapping_without_twins(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise DataError(f"line {key.start_mark.line + 1}: the key '{key.value[:80]}' is given twice")
            seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_twins)
