"""PCD and PLY files, every way they are written."""

import numpy as np

PCD_KINDS = {"f": "F", "u": "U", "i": "I"}
PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort", "u4": "uint", "i4": "int"}


def records(xyzi):
    table = np.zeros(len(xyzi), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
    for at, name in enumerate(table.dtype.names):
        table[name] = xyzi[:, at]
    return table


def rows(table):
    return "".join(" ".join(repr(value.item()) for value in row) + "\n" for row in table)


def lzf_literal(data):
    """LZF without any copy: allowed, if pointless."""
    return b"".join(bytes([len(data[at : at + 32]) - 1]) + data[at : at + 32] for at in range(0, len(data), 32))


def write_pcd(path, table, storage="binary", lzf=lzf_literal):
    fields = table.dtype
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n"
        f"FIELDS {' '.join(fields.names)}\n"
        f"SIZE {' '.join(str(fields[name].itemsize) for name in fields.names)}\n"
        f"TYPE {' '.join(PCD_KINDS[fields[name].kind] for name in fields.names)}\n"
        f"COUNT {' '.join('1' for _ in fields.names)}\n"
        f"WIDTH {len(table)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(table)}\nDATA {storage}\n"
    )
    if storage == "ascii":
        body = rows(table).encode()
    elif storage == "binary":
        body = table.tobytes()
    else:
        plain = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in fields.names)
        packed = lzf(plain)
        body = len(packed).to_bytes(4, "little") + len(plain).to_bytes(4, "little") + packed
    path.write_bytes(header.encode() + body)
    return path


def write_ply(path, table, storage="binary_little_endian", before=""):
    properties = "".join(f"property {PLY_TYPES[table.dtype[n].str[1:]]} {n}\n" for n in table.dtype.names)
    header = f"ply\nformat {storage} 1.0\ncomment made for a test\n{before}element vertex {len(table)}\n"
    header += f"{properties}end_header\n"
    if storage == "ascii":
        body = rows(table).encode()
    else:
        body = table.astype(table.dtype.newbyteorder(">" if "big" in storage else "<")).tobytes()
    path.write_bytes(header.encode() + body)
    return path
