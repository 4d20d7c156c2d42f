"""An immutable filter over the ids of a closed generation: "no" is certain, "maybe" is asked of the index.

A split-block Bloom filter (Putze, Sanders, Singler 2007; the one that Apache Parquet specifies): every id sets one bit
in each of the eight 32-bit words of one 256-bit block, so a look-up touches one cache line. At 12 bits an id about
0.5 % of new ids are "maybe".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BITS_PER_ID: Final = 12
_BLOCK_BITS: Final = 256
_SALTS: Final = np.array(
    [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31],
    dtype=np.uint32,
)
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))

Hashes = npt.NDArray[np.uint64]


def pack(ids: Sequence[str]) -> bytes:
    """Return 16 bytes per id of canonical UUID texts."""
    return bytes.fromhex("".join(ids).replace("-", ""))


def hashes(packed: bytes) -> Hashes:
    """Return one 64-bit hash per 16 bytes. Both halves count: UUIDv7 share a prefix, clients may choose the rest."""
    halves = np.frombuffer(packed, ">u8").reshape(-1, 2).astype(np.uint64)
    mixed = halves[:, 0] * _MIX[0] ^ halves[:, 1]
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX[1]
    result: Hashes = mixed ^ mixed >> np.uint64(32)
    return result


class IdFilter:
    """The filter of one generation."""

    def __init__(self, words: npt.NDArray[np.uint32]) -> None:
        """`words`: shape (blocks, 8)."""
        self._words = words

    @classmethod
    def build(cls, ids: int, packed: Iterable[bytes]) -> IdFilter:
        """Return the filter of about `ids` ids that come in `packed` pieces of 16 bytes each."""
        blocks = max(1, -(-ids * BITS_PER_ID // _BLOCK_BITS))
        made = cls(np.zeros((blocks, 8), np.uint32))
        for piece in packed:
            block, mask = made._bits(hashes(piece))
            np.bitwise_or.at(made._words, block, mask)
        return made

    @classmethod
    def from_bytes(cls, stored: bytes) -> IdFilter:
        """Return the filter that `to_bytes` gave."""
        return cls(np.frombuffer(stored, "<u4").reshape(-1, 8))

    def to_bytes(self) -> bytes:
        """Return the words, little-endian."""
        return self._words.astype("<u4").tobytes()

    def maybe(self, hashed: Hashes) -> npt.NDArray[np.bool_]:
        """Return for each hash whether its id may be in the generation."""
        block, mask = self._bits(hashed)
        found: npt.NDArray[np.bool_] = ((self._words[block] & mask) == mask).all(axis=1)
        return found

    def _bits(self, hashed: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        block = ((hashed >> np.uint64(32)) * np.uint64(len(self._words))) >> np.uint64(32)
        low = (hashed & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        mask = np.uint32(1) << ((low[:, None] * _SALTS) >> np.uint32(27))
        return block.astype(np.int64), mask
