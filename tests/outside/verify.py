#!/usr/bin/python3
"""Checks an exported audit log with none of arena8's code: Python's own SHA-256 and python3-cryptography's Ed25519, nothing else.

    verify.py DIR VKEY
    verify.py --seen OLD_CHECKPOINT --witness WITNESS_VKEY DIR VKEY

DIR holds `checkpoint` and `tile/...` as C2SP tlog-tiles lays them out; VKEY is the log's key (NAME+HASH+BASE64), got from somebody other than the
log. Prints `ok ...`, or the first bad place. The tree is RFC 6962's, computed here from the records alone; tiles are then held against it."""

import argparse
import base64
import hashlib
import json
import os
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256  # hashes in a full tile, records in a full bundle


class Bad(Exception):
    """The first bad place, as one line."""


def sha256(data):
    return hashlib.sha256(data).digest()


def b64(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:  # Python ignores bits behind the last byte; nothing may change unseen
        raise ValueError("base64 with stray bits")
    return data


# --- The tree: RFC 6962 §2.1. A leaf is hashed with 0 before it, two nodes with 1; a tree splits at the greatest power of two below its size.


def node(left, right):
    return sha256(b"\1" + left + right)


def tree_root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"")
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree_root(leaves[:half]), tree_root(leaves[half:]))


# --- The checkpoint: a C2SP signed note of three lines: origin, size, root. Signature lines: "— NAME BASE64(key hash, signature)".


def read_vkey(vkey, algorithm):
    """A key is NAME+HASH+BASE64(algorithm, Ed25519 key); the hash ties name and key together. 1: a log's, 4: a witness's."""
    name, key_hash, key = vkey.split("+", 2)
    key = b64(key)
    if key[0] != algorithm or sha256(name.encode() + b"\n" + key)[:4].hex() != key_hash:
        raise Bad(f"{vkey}: not such a key")
    return name, bytes.fromhex(key_hash), Ed25519PublicKey.from_public_bytes(key[1:]), vkey.encode() + b"\n"


def open_checkpoint(what, data, log, witnesses):
    """Size and root, once the log and every witness have been found to have signed them."""
    try:
        text, signatures = data.decode("utf-8").rsplit("\n\n", 1)
        text += "\n"
        if any(c < " " and c != "\n" for c in data.decode("utf-8")) or not signatures.endswith("\n"):
            raise ValueError
        lines = []
        for line in signatures[:-1].split("\n"):
            dash, name, signature = line.split(" ")
            if dash != "—" or name == "":
                raise ValueError
            lines.append((name, b64(signature)))
    except ValueError as e:
        raise Bad(f"{what}: malformed note") from e
    for key in [log, *witnesses]:
        name, key_hash, public, _ = key
        found = [s[4:] for n, s in lines if n == name and s[:4] == key_hash]
        if not found:
            raise Bad(f"{what}: not signed by {name}")
        message = text.encode()
        for signature in found:
            if key is not log:  # a cosignature begins with the witness's time, and signs that too
                message = f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n{text}".encode()
                signature = signature[8:]
            try:
                public.verify(signature, message)
            except InvalidSignature as e:
                raise Bad(f"{what}: signature of {name} is not of this text") from e
    try:
        origin, size, root, end = text.split("\n")
        size, root = (int(size) if str(int(size)) == size else -1), b64(root)
    except ValueError as e:
        raise Bad(f"{what}: text is not origin, size, root") from e
    if origin != log[0] or size < 0 or len(root) != 32 or end != "":
        raise Bad(f"{what}: origin {origin!r}, size or root of another log than {log[0]}")
    return size, root


# --- The files: level L of the tree lies in tile/L/NNN, 256 hashes each; the records in tile/entries/NNN. The last of a level may be narrower.


def tile_path(level, n, width):
    name = f"{n % 1000:03}"
    while n >= 1000:
        n //= 1000
        name = f"x{n % 1000:03}/{name}"
    return f"tile/{level}/{name}" + ("" if width == WIDTH else f".p/{width}")


def tile_paths(level, count):
    """Path, first index and width of each tile of a level of so many hashes (or records)."""
    for first in range(0, count, WIDTH):
        width = min(WIDTH, count - first)
        yield tile_path(level, first // WIDTH, width), first, width


def read_records(files, size):
    """The leaf hashes of the records. Bundles are taken apart: two bytes of length, the greater first, then a JSON object that knows its number."""
    for path, first, width in tile_paths("entries", size):
        bundle, at = files[path], 0
        for number in range(first, first + width):
            where = f"{path}: record {number} (byte {at})"
            length = int.from_bytes(bundle[at : at + 2], "big")
            record = bundle[at + 2 : at + 2 + length]
            if len(bundle) < at + 2 or len(record) < length:
                raise Bad(f"{where}: cut off")
            try:
                own = json.loads(record.decode("utf-8"))["arena8.record"]
            except (ValueError, TypeError, KeyError, RecursionError) as e:
                raise Bad(f"{where}: no record") from e
            if type(own) is not int or own != number:
                raise Bad(f"{where}: calls itself {own!r}")
            yield sha256(b"\0" + record)
            at += 2 + length
        if at < len(bundle):
            raise Bad(f"{path}: {len(bundle) - at} bytes behind its last record")


def wrong_record(files, size, leaves):
    """The first record whose leaf hash is not in its tile, or nothing."""
    for path, first, width in tile_paths(0, size):
        for i, leaf in enumerate(leaves[first : first + width]):
            if files[path][i * 32 : i * 32 + 32] != leaf:
                return Bad(f"{tile_path('entries', first // WIDTH, width)}: record {first + i}: not the one whose hash is in {path}")


def check(files, log, witnesses, seen):
    # 1. Who says so? Size and root are signed.
    size, root = open_checkpoint("checkpoint", files.get("checkpoint", b""), log, witnesses)
    if seen and size < seen[0]:
        raise Bad(f"checkpoint: rollback: {size} records, {seen[0]} were seen")

    # 2. All the files of a log of this size, and no others.
    counts = {0: size}  # hashes at each level of tiles: 256 of one level make one of the next
    while counts[len(counts) - 1] >= WIDTH:
        counts[len(counts)] = counts[len(counts) - 1] // WIDTH
    expected = {"checkpoint", "pubkey"}
    if files.get("pubkey", log[3]) != log[3]:  # the log's own word is worth nothing, but it must not say another key
        raise Bad("pubkey: not the key that was given")
    for level, count in [("entries", size), *counts.items()]:
        for path, _, width in tile_paths(level, count):
            expected.add(path)
            if path not in files:
                raise Bad(f"{path}: missing")
            if level != "entries" and len(files[path]) != width * 32:
                raise Bad(f"{path}: {len(files[path])} bytes, not {width * 32}")
    for path in sorted(files.keys() - expected):
        raise Bad(f"{path}: no file of a log of {size} records")

    # 3. Do the records have this root? Do the tiles hold their hashes? Where both do not, a record is wrong; else the tile.
    leaves = []
    try:
        for leaf in read_records(files, size):
            leaves.append(leaf)
    except Bad as bad:
        raise wrong_record(files, size, leaves) or bad
    is_signed = tree_root(leaves) == root
    if not is_signed and (wrong := wrong_record(files, size, leaves)):
        raise wrong
    hashes = leaves
    for level, count in counts.items():
        for path, first, width in tile_paths(level, count):
            for i in range(width):
                if files[path][i * 32 : i * 32 + 32] != hashes[first + i]:
                    raise Bad(f"{path}: hash {i} (byte {i * 32}): not that of the records")
        hashes = [tree_root(hashes[i : i + WIDTH]) for i in range(0, count - count % WIDTH, WIDTH)]
    if not is_signed:
        raise Bad(f"checkpoint: its root is not that of the {size} records")

    # 4. Is it the log that was seen before, longer?
    if seen and tree_root(leaves[: seen[0]]) != seen[1]:
        raise Bad(f"checkpoint: fork: its first {seen[0]} records are not those that were seen")
    return size, root


def batch(base, answer):
    """Cases from standard input: a line with a number of files; for each a line `PATH LENGTH` (-1: it is gone) and its bytes. An answer a line."""
    stdin = sys.stdin.buffer
    while count := stdin.readline():
        files = dict(base)
        for _ in range(int(count)):
            path, length = stdin.readline().decode().split(" ")
            files.pop(path, None)
            if int(length) >= 0:
                files[path] = stdin.read(int(length))
        print(answer(files), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seen", help="checkpoint that was seen before: the log must continue it")
    parser.add_argument("--witness", action="append", default=[], help="key of a witness who must have cosigned (any number)")
    parser.add_argument("--batch", action="store_true", help="check DIR with files replaced, as standard input says")
    parser.add_argument("dir")
    parser.add_argument("vkey")
    args = parser.parse_args()
    files = {}
    for folder, _, names in os.walk(args.dir):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                files[os.path.relpath(path, args.dir)] = f.read()
    try:
        log = read_vkey(args.vkey, 1)
        witnesses = [read_vkey(w, 4) for w in args.witness]
        seen = None
        if args.seen:
            with open(args.seen, "rb") as f:
                seen = open_checkpoint("seen head", f.read(), log, [])

        def verdict(case):
            try:
                size, root = check(case, log, witnesses, seen)
                return "ok" if args.batch else f"ok {size} records, root {base64.b64encode(root).decode()}"
            except Bad as bad:
                return str(bad)

        if args.batch:
            return batch(files, verdict)
        answer = verdict(files)
    except Bad as bad:
        answer = str(bad)
    print(answer)
    sys.exit(0 if answer.startswith("ok ") else 1)


if __name__ == "__main__":
    main()
