"""Reads a safetensors file by the rules that its format has published (huggingface/safetensors, README "Format"), and prints what it holds.

Refused are, as the reference implementation does: a header that is too large or does not begin with '{', tensors whose offsets do not follow each
other from 0 without holes, extents that do not give the bytes, data behind the last tensor. Standard library only.
"""

import json
import struct
import sys

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FORMATS = {"F32": "f", "F16": "e"}


def read(path):
    data = open(path, "rb").read()
    (size,) = struct.unpack_from("<Q", data)
    assert size <= 100_000_000 and 8 + size <= len(data), "header too large"
    assert size % 8 == 0, "the data do not begin at a multiple of 8"
    header = data[8 : 8 + size]
    assert header[:1] == b"{", "header does not begin with a brace"
    text = header.decode("utf-8")
    pairs = json.loads(text, object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), "a name twice"
    tensors = json.loads(text)
    metadata = tensors.pop("__metadata__", {})
    assert all(isinstance(v, str) for v in metadata.values()), "metadata are texts"
    body = data[8 + size :]
    found, end = {}, 0
    for name, t in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = t["data_offsets"]
        assert start == end, f"{name}: a hole or an overlap"
        count = 1
        for extent in t["shape"]:
            count *= extent
        assert stop - start == count * SIZES[t["dtype"]], f"{name}: extents and offsets disagree"
        found[name] = {
            "dtype": t["dtype"],
            "shape": t["shape"],
            "values": list(struct.unpack_from(f"<{count}{FORMATS[t['dtype']]}", body, start)),
        }
        end = stop
    assert end == len(body), "data behind the last tensor"
    return {"metadata": metadata, "tensors": found}


print(json.dumps(read(sys.argv[1])))
