"""The digest in plain Python, value by value: written from docs/archival.md, it shares nothing with the product."""

from collections.abc import Iterable, Sequence

MASK = 0xFFFFFFFF


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & MASK


def mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c & MASK) ^ rotated(c, 4)
    c = c + b & MASK
    b = (b - a & MASK) ^ rotated(a, 6)
    a = a + c & MASK
    c = (c - b & MASK) ^ rotated(b, 8)
    b = b + a & MASK
    a = (a - c & MASK) ^ rotated(c, 16)
    c = c + b & MASK
    b = (b - a & MASK) ^ rotated(a, 19)
    a = a + c & MASK
    c = (c - b & MASK) ^ rotated(b, 4)
    b = b + a & MASK
    return a, b, c


def hashed(key: bytes) -> int:
    """64 bits of lookup3, as PostgreSQL computes it."""
    a = b = c = 0x9E3779B9 + len(key) + 3923095 & MASK
    while len(key) >= 12:
        words = [int.from_bytes(key[at : at + 4], "little") for at in (0, 4, 8)]
        a, b, c = mixed(a + words[0] & MASK, b + words[1] & MASK, c + words[2] & MASK)
        key = key[12:]
    last = key.ljust(12, b"\0")
    a = a + int.from_bytes(last[:4], "little") & MASK
    b = b + int.from_bytes(last[4:8], "little") & MASK
    c = c + (int.from_bytes(last[8:], "little") << 8) & MASK
    c = (c ^ b) - rotated(b, 14) & MASK
    a = (a ^ c) - rotated(c, 11) & MASK
    b = (b ^ a) - rotated(a, 25) & MASK
    c = (c ^ b) - rotated(b, 16) & MASK
    a = (a ^ c) - rotated(c, 4) & MASK
    b = (b ^ a) - rotated(a, 14) & MASK
    c = (c ^ b) - rotated(b, 24) & MASK
    return b << 32 | c


def digest(rows: Iterable[Sequence[bytes | None]]) -> str:
    """The digest of rows, each value as the bytes that stand for it."""
    total = xored = 0
    for row in rows:
        folded = 0
        for value in row:
            folded = folded * 31 + (0 if value is None else hashed(value)) & (1 << 64) - 1
        of_row = hashed(folded.to_bytes(8, "big"))
        total, xored = total + of_row & (1 << 64) - 1, xored ^ of_row
    return f"v1:{total:016x}:{xored:016x}"
