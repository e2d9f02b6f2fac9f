"""Ways in which bytes get damaged, drawn from a generator: the same seed, the same damage."""

import re
from collections.abc import Callable

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
_WORDS = (
    *(b"", b"0", b"-1", b"nan", b"inf", b"1e999", b"-1e308", b"9" * 30, b"9" * 5000, b"1_0", b"0x10", b"null", b"true"),
    *(b"[" * 3000, b'{"a":' * 3000, b"\x00", b"\xff\xfe", b"../../etc/passwd", b"=1+1", b"<script>", b"'", b"\n"),
    *(b"%s", "\u00e9".encode(), "\U0001f697".encode(), b"&a [*a]", b"!!python/object:os.system", b",,,,", b"\r\n\r\n"),
)


def flipped_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bits, anywhere."""
    spoilt = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 9)):
        spoilt[at] ^= 1 << int(rng.integers(8))
    return bytes(spoilt)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is gone, or the beginning, or a piece between."""
    start, stop = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return (data[:start], data[stop:], data[:start] + data[stop:])[int(rng.integers(3))]


def spliced(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece of the file in another place, over what is there or between it."""
    start, stop = sorted(rng.integers(len(data) + 1, size=2).tolist())
    piece = data[start : min(stop, start + 4096)]
    at = int(rng.integers(len(data) + 1))
    return data[:at] + piece + data[at + (len(piece) if rng.random() < 0.5 else 0) :]


def changed_number(data: bytes, rng: np.random.Generator) -> bytes:
    """A length, a count or an offset: one, two, four or eight bytes become an extreme, or a little more or less.

    Most are drawn near the beginning, where headers are.
    """
    size = int(rng.choice([1, 2, 4, 8]))
    reach = len(data) if rng.random() < 0.4 else min(len(data), 512)
    at = int(rng.integers(reach))
    old = int.from_bytes(data[at : at + size], "little")
    new = int(rng.choice(len(_EXTREMES)))
    value = _EXTREMES[new] if rng.random() < 0.6 else old + int(rng.integers(-3, 4))
    order = "little" if rng.random() < 0.8 else "big"
    return data[:at] + (value % (1 << 8 * size)).to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def changed_word(data: bytes, rng: np.random.Generator) -> bytes:
    """A number or a word of a text becomes something that nobody would write there."""
    places = [match.span() for match in re.finditer(rb"[A-Za-z0-9_.+-]+", data[:200_000])]
    if not places:
        return flipped_bits(data, rng)
    start, stop = places[int(rng.integers(len(places)))]
    return data[:start] + _WORDS[int(rng.integers(len(_WORDS)))] + data[stop:]


MUTATIONS: tuple[Mutation, ...] = (flipped_bits, cut, spliced, changed_number, changed_word)


def mutate(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Damaged bytes, by one way or two, and the names of the ways."""
    names = []
    for _ in range(1 + int(rng.random() < 0.2)):
        if not data:
            break
        chosen = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        data = chosen(data, rng)
        names.append(chosen.__name__)
    return data, " and ".join(names)
