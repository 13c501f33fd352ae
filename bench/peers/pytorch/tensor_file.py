"""Reads and writes safetensors files: u64 header length, JSON header, raw little-endian tensors."""

import json
import struct

import numpy as np

DTYPES = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4")}


def read_tensors(path):
    """Returns the tensors by name, and the metadata."""
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        values = np.frombuffer(content[begin:end], DTYPES[info["dtype"]])
        tensors[name] = values.reshape(info["shape"]).copy()
    return tensors, metadata


def write_tensors(path, tensors):
    """Writes tensors, as float32."""
    arrays = {name: np.ascontiguousarray(values, DTYPES["F32"]) for name, values in tensors.items()}
    header, end = {}, 0
    for name, values in arrays.items():
        begin, end = end, end + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for values in arrays.values():
            file.write(values.tobytes())
