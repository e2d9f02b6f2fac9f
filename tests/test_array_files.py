"""Arrays come back as they were, or not at all."""

import io
import zipfile

import numpy as np
import pytest

from bevfusion import array_files
from bevfusion.array_files import from_npz, to_npz
from bevfusion.structures import DataError

ARRAYS = {
    "numbers": np.arange(12.0).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "words": np.array(["a", "longer"]),
    "one": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}


def test_what_was_put_in_comes_out() -> None:
    found = from_npz(to_npz(ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


def test_the_same_arrays_give_the_same_bytes() -> None:
    assert to_npz(ARRAYS) == to_npz(dict(ARRAYS))


def test_no_flipped_bit_and_no_cut_goes_unnoticed() -> None:
    data, rng = to_npz(ARRAYS), np.random.default_rng(4)
    for _ in range(600):
        spoilt = bytearray(data)
        spoilt[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            found = from_npz(bytes(spoilt))
        except DataError:
            continue
        for name, array in ARRAYS.items():  # a bit that means nothing, as a date
            np.testing.assert_array_equal(found[name], array)
    for length in range(0, len(data), 7):
        with pytest.raises(DataError):
            from_npz(data[:length])


def archive(member: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
            written.writestr("a.npy", member)
        return file.getvalue()


def test_what_others_wrote_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "MAX_BYTES", 1 << 20)
    with io.BytesIO() as file:
        np.savez(file, a=np.zeros(3))
        without_digest = file.getvalue()
    with io.BytesIO() as member:
        np.save(member, np.array([{}], dtype=object), allow_pickle=True)
        pickled = archive(member.getvalue())
    words = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"
    header = b"\x93NUMPY\x01\x00v\x00" + words.ljust(117)
    too_much = archive(header + b"\n")
    bomb = archive(bytes(1 << 21))
    for data in (b"", b"PK\x03\x04", without_digest, pickled, too_much, bomb):
        with pytest.raises(DataError) as refused:
            from_npz(data)
        assert len(str(refused.value)) < 200
