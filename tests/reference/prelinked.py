"""Reads a prelinked image on its own and gives back its source: python3 prelinked.py SOURCE PRELINKED …

Knows GGUF and docs/IMAGE.md, and nothing of the kernel: parses both files by hand, checks the digests, takes the rows of every
grouped matrix apart, and compares tensor by tensor and key by key with the source. Prints a JSON line for each pair, with
what differs in "wrong". The files are mapped, and rows are taken apart a group at a time, so that size does not matter."""

import hashlib
import json
import mmap
import struct
import sys

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Values and bytes of a block, by ggml's number of the type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 24: (1, 1),
          25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2), 34: (256, 54), 35: (256, 66)}
GROUPED = {1002: 2, 1003: 3, 1008: 8}  # private type: the plain one


class File:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.bytes = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self.at = 8
        assert self.bytes[:4] == b"GGUF" and struct.unpack_from("<I", self.bytes, 4)[0] == 3
        tensors, keys = self.take("Q"), self.take("Q")
        self.keys = {self.string(): self.value() for _ in range(keys)}
        self.tensors = {}
        for _ in range(tensors):
            name = self.string()
            shape = [self.take("Q") for _ in range(self.take("I"))]
            kind, offset = self.take("I"), self.take("Q")
            self.tensors[name] = (kind, shape, offset)
        alignment = self.keys.get("general.alignment", (4, 32))[1]
        self.data_at = -(-self.at // alignment) * alignment

    def take(self, code):
        value = struct.unpack_from("<" + code, self.bytes, self.at)[0]
        self.at += struct.calcsize(code)
        return value

    def string(self):
        length = self.take("Q")
        self.at += length
        return self.bytes[self.at - length : self.at].decode("utf-8", "surrogateescape")

    def value(self, kind=None):
        kind = self.take("I") if kind is None else kind
        if kind == 8:
            return (8, self.string())
        if kind != 9:
            return (kind, self.take(SCALARS[kind]))
        kind, count, begin = self.take("I"), self.take("Q"), self.at
        if kind == 8:
            for _ in range(count):
                length = self.take("Q")
                self.at += length
        else:
            self.at += count * struct.calcsize(SCALARS[kind])
        return (9, kind, count, self.bytes[begin : self.at])

    def tensor(self, name):
        kind, shape, offset = self.tensors[name]
        values, size = BLOCKS[GROUPED.get(kind, kind)]
        count = 1
        for extent in shape:
            count *= extent
        return kind, shape, self.data_at + offset, count // values * size


def apart(kind, group, blocks):
    """Four rows of so many blocks each, out of the bytes of their group."""
    size = BLOCKS[GROUPED[kind]][1]
    header = 4 if kind == 1003 else 2
    rows = [bytearray() for _ in range(4)]
    for block in range(blocks):
        at = 4 * size * block
        for field in range(header // 2):  # scales of the four rows, then their minima
            for row in rows:
                row += group[at : at + 2]
                at += 2
        if kind == 1008:
            for _ in range(16):
                for row in rows:
                    row += group[at : at + 2]
                    at += 2
        else:
            for _ in range(4):
                for row in rows:
                    a, b, c, d = group[at : at + 4]
                    row += bytes((a, c, b, d))
                    at += 4
    return b"".join(rows)


def same(source, made, name):
    kind, shape, at, size = source.tensor(name)
    made_kind, made_shape, made_at, made_size = made.tensor(name)
    if (GROUPED.get(made_kind, made_kind), made_shape, made_size) != (kind, shape, size):
        return False
    if made_kind not in GROUPED:
        return source.bytes[at : at + size] == made.bytes[made_at : made_at + size]
    values, block = BLOCKS[kind]
    row = shape[0] // values * block
    whole = shape[1] // 4 * 4 * row
    for group in range(0, whole, 4 * row):
        rows = apart(made_kind, made.bytes[made_at + group : made_at + group + 4 * row], shape[0] // values)
        if rows != source.bytes[at + group : at + group + 4 * row]:
            return False
    return source.bytes[at + whole : at + size] == made.bytes[made_at + whole : made_at + size]


def main(source_path, made_path):
    source, made = File(source_path), File(made_path)
    wrong = []
    keys = {key: value for key, value in made.keys.items() if not key.startswith("arena8.prelink.")}
    if list(keys.items()) != [(k, v) for k, v in source.keys.items() if k != "general.alignment"]:
        wrong.append("metadata")
    if made.keys["arena8.prelink.version"] != (4, 1):
        wrong.append("version")
    for key, digest in (
        ("source_sha256", hashlib.sha256(source.bytes)),
        ("sha256", hashlib.sha256(memoryview(made.bytes)[made.data_at :])),
    ):
        if made.keys["arena8.prelink." + key] != (8, digest.hexdigest()):
            wrong.append(key)
    if sorted(made.tensors) != sorted(source.tensors):
        wrong.append("tensors")
    wrong += [name for name in source.tensors if name in made.tensors and not same(source, made, name)]
    next_at = 0
    for name in made.tensors:  # one behind the other, on multiples of 32
        if made.tensors[name][2] != next_at:
            wrong.append("offset of " + name)
        next_at = -(-(made.tensors[name][2] + made.tensor(name)[3]) // 32) * 32
    grouped = [name for name, (kind, _, _) in made.tensors.items() if kind in GROUPED]
    print(json.dumps({"tensors": len(made.tensors), "grouped": len(grouped), "order": list(made.tensors), "wrong": wrong}))


for pair in range(1, len(sys.argv), 2):
    main(*sys.argv[pair : pair + 2])
