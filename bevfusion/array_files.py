"""Arrays in one .npz file with a digest of all of them: what comes out is what was put in, or nothing.

For caches: a file that was damaged, cut off or written by another program is refused, and whoever kept it makes it
anew. Nothing in it is executed. What `zipfile` and numpy raise over damaged bytes is many things (IndexError,
NotImplementedError, struct.error, ...), and a header may ask for more memory than there is: here both end in DataError.
"""

import hashlib
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bevfusion.structures import DataError

MAX_BYTES = 1 << 30  # of all arrays of a file, unpacked
_DIGEST = "sha256"
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, TypeError, IndexError, AttributeError, OverflowError, SyntaxError),
    *(NotImplementedError, RuntimeError, MemoryError, RecursionError, struct.error, zlib.error, zipfile.BadZipFile),
)


def to_npz(arrays: Mapping[str, Any]) -> bytes:
    """Named arrays of numbers or text as the bytes of an .npz file, the same bytes for the same arrays."""
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in {**plain, _DIGEST: np.array(_digest(plain))}.items():
                with io.BytesIO() as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
                    # without a date: the one by default is the present
                    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)
        return file.getvalue()


def from_npz(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `to_npz`.

    Raises:
        DataError: if the bytes are damaged, or were not written by it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > MAX_BYTES:
                raise DataError(f"holds {total} bytes, at most {MAX_BYTES} are read")
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in archive.infolist()}
        expected = str(arrays.pop(_DIGEST))
    except DataError:
        raise
    except _DAMAGED as error:
        told = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"not a whole file of arrays ({told})") from error
    if _digest(arrays) != expected:
        raise DataError("not a whole file of arrays (its digest does not fit)")
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """A member as an array; its header may claim no more than the member has."""
    with archive.open(member) as packed:
        data = packed.read(member.file_size + 1)
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"an array of shape {shape} and type {dtype} in {len(data)} bytes")
    array = np.frombuffer(data, dtype, count=math.prod(shape), offset=file.tell()).copy()
    return array.reshape(shape, order="F" if fortran_order else "C")


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
