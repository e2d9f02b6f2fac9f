"""Decodes LAS and LAZ through laspy. It imports nothing of the package: LAZ is decoded by a child that runs this file.

The child may die over damaged data without taking anything with it. It writes three arrays to its standard output:
x, y, z in metres, intensities, and GPS times (none: an empty one); or one line on standard error, with status 1.
"""

import struct
import sys

import laspy  # type: ignore[import-untyped]
import lazrs  # type: ignore[import-untyped]
import numpy as np

MAX_MEMORY_BYTES = 8 << 30
DAMAGED = (
    laspy.errors.LaspyException,
    lazrs.LazrsError,
    *(ValueError, OSError, EOFError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, AttributeError),
    *(AssertionError, MemoryError, struct.error),
)


def decode(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3) in metres, intensities (n,) and GPS times (n,) or (0,) of a file; raises what `DAMAGED` lists."""
    with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False) as reader:
        header = reader.header
        if header.are_points_compressed:
            check_chunks(path, header)
        points = reader.read_points(int(header.point_count))
        xyz = np.stack([np.array(points[name], dtype=np.float64) for name in ("x", "y", "z")], axis=1)
        timed = "gps_time" in points.point_format.dimension_names
        return xyz, np.array(points["intensity"]), np.array(points["gps_time"] if timed else [], dtype=np.float64)


def check_chunks(path: str, header: "laspy.LasHeader") -> None:
    """Compare the table of chunks with the bytes and points that the file has.

    Raises:
        ValueError: if they disagree.
    """
    vlr = lazrs.LazVlr(header.vlrs.get("LasZipVlr")[0].record_data)
    with open(path, "rb") as file:
        file.seek(header.offset_to_point_data)
        chunks = lazrs.read_chunk_table(file, vlr)
        size = file.seek(0, 2) - header.offset_to_point_data - 8
    if any(count < 0 or length < 0 for count, length in chunks) or sum(length for _, length in chunks) > size:
        raise ValueError(f"its chunks claim {sum(length for _, length in chunks)} bytes of {size}")
    claimed = sum(count for count, _ in chunks)
    if claimed < header.point_count:
        raise ValueError(f"its chunks hold {claimed} of {header.point_count} points")


def main() -> int:
    """Decode the file that the command line names, with bounded memory."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # not everywhere
        pass
    try:
        for array in decode(sys.argv[1]):
            np.save(sys.stdout.buffer, array, allow_pickle=False)
    except DAMAGED as error:
        sys.stderr.write((str(error).splitlines() or [type(error).__name__])[0][:80])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
