"""Drops the custom sections whose names start with ".debug" from a Wasm module; the name section stays.

usage: strip_debug.py IN OUT
"""

import sys


def unsigned_leb128(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def strip(module):
    assert module[:8] == b"\0asm\1\0\0\0", "not a core Wasm module"
    kept, at = [module[:8]], 8
    while at < len(module):
        length, body = unsigned_leb128(module, at + 1)
        end = body + length
        name = b""
        if module[at] == 0:
            name_length, name_at = unsigned_leb128(module, body)
            name = module[name_at : name_at + name_length]
        if not name.startswith(b".debug"):
            kept.append(module[at:end])
        at = end
    return b"".join(kept)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as source:
        stripped = strip(source.read())
    with open(sys.argv[2], "wb") as out:
        out.write(stripped)
