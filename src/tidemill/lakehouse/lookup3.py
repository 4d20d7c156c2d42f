"""lookup3 (Bob Jenkins, 2006) as PostgreSQL computes it with seed 0, over whole columns at once with NumPy.

A hash is 64 bits: lookup3's words b and c. See `docs/archival.md` for the definition in words.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint32]
Hashes: TypeAlias = npt.NDArray[np.uint64]

_START: Final = 0x9E3779B9 + 3923095
_BLOCK: Final = 12
_MIX: Final = (4, 6, 8, 16, 19, 4)
_FINAL: Final = (14, 11, 25, 16, 4, 14, 24)

# Bytes 0..3, 4..7 and 8..11 of a last block that has 0..11 bytes of its own; what follows them is not hashed.
_KEEP: Final = np.array(
    [[(1 << 8 * min(max(rest - 4 * word, 0), 4)) - 1 for rest in range(_BLOCK)] for word in range(3)],
    dtype=np.uint32,
)


def hash_words(words: Words) -> Hashes:
    """Hash values of 4 bytes each, given as little-endian words."""
    start = np.uint32((_START + 4) & 0xFFFFFFFF)
    a = words + start
    return _finish(a, np.full_like(a, start), np.full_like(a, start))


def hash_pairs(first: Words, second: Words) -> Hashes:
    """Hash values of 8 bytes each, given as two little-endian words."""
    start = np.uint32((_START + 8) & 0xFFFFFFFF)
    a = first + start
    return _finish(a, second + start, np.full_like(a, start))


def hash_longs(values: npt.NDArray[np.int64] | Hashes) -> Hashes:
    """Hash 64-bit values by their eight bytes, most significant first."""
    pairs = values.byteswap().view(np.uint32)
    return hash_pairs(pairs[0::2], pairs[1::2])


def hash_bytes(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> Hashes:
    """Hash byte strings in `data`, from `starts` on, `lengths` long."""
    words = _words_at_every_byte(data)
    order = None
    if len(lengths) and lengths.max() >= _BLOCK:
        order = np.argsort(-(lengths // _BLOCK), kind="stable")  # then those with a block to go come first
        starts, lengths = starts[order], lengths[order]
    start = (lengths + _START).astype(np.uint32)
    a, b, c = start, start.copy(), start.copy()
    blocks = lengths // _BLOCK
    _take_blocks(words, starts, blocks, a, b, c)
    tail, rest = starts + blocks * _BLOCK, lengths % _BLOCK
    a += words[tail] & _KEEP[0][rest]
    b += words[tail + 4] & _KEEP[1][rest]
    c += (words[tail + 8] & _KEEP[2][rest]) << np.uint32(8)
    hashes = _finish(a, b, c)
    if order is None:
        return hashes
    back = np.empty_like(hashes)
    back[order] = hashes
    return back


def _words_at_every_byte(data: npt.NDArray[np.uint8]) -> Words:
    """Return the little-endian words that begin at each byte; after the end there are zeros."""
    padded = np.zeros(len(data) + 2 * _BLOCK, np.uint8)
    padded[: len(data)] = data
    return np.ndarray((len(padded) - 3,), np.dtype("<u4"), padded.data, strides=(1,))


def _take_blocks(
    words: Words, starts: npt.NDArray[np.int64], blocks: npt.NDArray[np.int64], a: Words, b: Words, c: Words
) -> None:
    """Mix all whole blocks into the states a, b, c, which are ordered by falling number of blocks."""
    most = int(blocks[0]) if len(blocks) else 0
    live_at = np.searchsorted(-blocks, -np.arange(most), side="left")
    for number in range(most):
        live = slice(0, int(live_at[number]))
        at = starts[live] + number * _BLOCK
        a[live] += words[at]
        b[live] += words[at + 4]
        c[live] += words[at + 8]
        _mix(a[live], b[live], c[live])


def _mix(a: Words, b: Words, c: Words) -> None:
    one, other = np.empty_like(a), np.empty_like(a)
    for bits in _MIX:
        a -= c
        a ^= _rotated(c, bits, one, other)
        c += b
        a, b, c = b, c, a  # the roles turn; after six rounds each is back in place


def _finish(a: Words, b: Words, c: Words) -> Hashes:
    one, other = np.empty_like(a), np.empty_like(a)
    for bits in _FINAL:
        c ^= b
        c -= _rotated(b, bits, one, other)
        a, b, c = b, c, a
    # Seven turns leave the words one place on: what lookup3 calls b and c are here a and b.
    hashes = a.astype(np.uint64)
    hashes <<= np.uint64(32)
    hashes |= b
    return hashes


def _rotated(word: Words, bits: int, one: Words, other: Words) -> Words:
    np.left_shift(word, np.uint32(bits), out=one)
    np.right_shift(word, np.uint32(32 - bits), out=other)
    return np.bitwise_or(one, other, out=one)
