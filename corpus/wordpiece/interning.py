"""Byte strings -> small integers, a whole column at a time: the table that makes encoding columnar.

Words are short (90 % of English words have at most 8 bytes), so a word is one 64-bit load, and looking a million of
them up is a handful of numpy passes over an open-addressing hash table, about 12 ns a word; building Arrow strings
and `dictionary_encode` costs five times that. A longer string is a path in a trie whose edges are 8-byte blocks:

    b"internationalisation"   root --"internat"--> 17 --"ionalisa"--> 203 --"tion"--> 981      981 is its number

so numbers are exact (blocks are compared, never only hashes). Strings above LONGEST_PATH are rare and go by digest.

Strings are padded with NUL to whole blocks; the rare one that itself ends with NUL goes by digest too, so that it is
not taken for its beginning.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
UInt64s = NDArray[np.uint64]

BLOCK: Final = 8
PADDING: Final = bytes(BLOCK)
LONGEST_PATH: Final = 256  # bytes; what is longer (a megabyte of base64) is known by a 128-bit digest instead
_KEEP: Final = np.array([(1 << (8 * size)) - 1 for size in range(BLOCK)] + [2**64 - 1], np.uint64)
_GOLDEN: Final = np.uint64(
    0x9E3779B97F4A7C15
)  # 2**64 / golden ratio: multiplicative hashing (Knuth, TAOCP 6.4)
_SPREAD: Final = np.uint64(0xD6E8FEB86659FD93)  # odd; keeps the blocks after different prefixes apart


class _Edges:
    """(prefix number, block) -> number. Linear probing in power-of-two arrays, at most half full; number 0 is free.

    `rooted`: every prefix is the root, so it is neither stored nor compared (the table of short words).
    """

    def __init__(self, rooted: bool) -> None:
        self._rooted = rooted
        self._count = 0
        self._allocate(16)

    def _allocate(self, bits: int) -> None:
        self._shift = np.uint64(64 - bits)
        self._last = (1 << bits) - 1
        self._blocks = np.zeros(1 << bits, np.uint64)
        self._numbers = np.zeros(1 << bits, np.int32)
        self._prefixes = np.zeros(0 if self._rooted else 1 << bits, np.int32)

    def find(self, prefixes: Int32s, blocks: UInt64s) -> tuple[Int32s, Int64s]:
        """The number of each edge (0 where there is none), and the indices of those without."""
        slots = self._slots(prefixes, blocks)
        numbers = self._numbers[slots]
        pending = np.flatnonzero(~self._same(slots, prefixes, blocks))
        missing = []
        while len(pending):  # on to the next slot; each round settles most of what is left
            free = self._numbers[slots[pending]] == 0
            missing.append(pending[free])
            pending = pending[~free]
            slots[pending] = (slots[pending] + 1) & self._last
            numbers[pending] = self._numbers[slots[pending]]
            prefix = prefixes if self._rooted else prefixes[pending]
            pending = pending[~self._same(slots[pending], prefix, blocks[pending])]
        return numbers, np.concatenate(missing) if missing else pending

    def add(self, prefixes: Int32s, blocks: UInt64s, numbers: Int32s) -> None:
        """Insert distinct edges that are not there yet."""
        self._count += len(blocks)
        if 2 * self._count > self._last:
            used = np.flatnonzero(self._numbers)
            old = (
                self._prefixes if self._rooted else self._prefixes[used],
                self._blocks[used],
                self._numbers[used],
            )
            self._allocate((2 * self._count).bit_length() + 1)
            self._place(*old)
        self._place(prefixes, blocks, numbers)

    def _place(self, prefixes: Int32s, blocks: UInt64s, numbers: Int32s) -> None:
        slots = self._slots(prefixes, blocks)
        todo = np.arange(len(blocks))
        while len(todo):
            at = slots[todo]
            free = self._numbers[at] == 0
            self._numbers[at[free]] = numbers[todo[free]]  # of two that want one slot, one has it
            won = self._numbers[at] == numbers[todo]
            self._blocks[at[won]] = blocks[todo[won]]
            if not self._rooted:
                self._prefixes[at[won]] = prefixes[todo[won]]
            todo = todo[~won]
            slots[todo] = (slots[todo] + 1) & self._last

    def _same(self, slots: Int64s, prefixes: Int32s, blocks: UInt64s) -> NDArray[np.bool_]:
        same = self._blocks[slots] == blocks
        if not self._rooted:
            same &= self._prefixes[slots] == prefixes
        return same

    def _slots(self, prefixes: Int32s, blocks: UInt64s) -> Int64s:
        mixed = blocks * _GOLDEN
        if not self._rooted:
            mixed ^= prefixes.astype(np.uint64) * _SPREAD
        mixed ^= mixed >> np.uint64(32)
        mixed *= _GOLDEN
        return (mixed >> self._shift).view(np.int64)


class ByteStrings:
    """A growing set of byte strings, each with a number below `size`; 0 is the empty string."""

    def __init__(self) -> None:
        self._first, self._rest = _Edges(rooted=True), _Edges(rooted=False)
        self._long: dict[bytes, int] = {}
        self.size = 1

    def number(self, text: bytes, starts: Int64s, lengths: Int64s) -> Int32s:
        """The number of each string; those never seen before are added.

        `starts` and `lengths` are bytes of `text`, which ends with at least PADDING. Cost is one pass for each 8 bytes
        of the longest string, over the strings that are that long.
        """
        blocks_at = np.ndarray(
            (len(text) - BLOCK + 1,), "<u8", text, 0, (1,)
        )  # the 8 bytes that begin at each byte
        root = np.zeros(0, np.int32)
        numbers = self._follow(self._first, root, blocks_at[starts] & _KEEP[np.minimum(lengths, BLOCK)])
        longer = np.flatnonzero((lengths > BLOCK) & (lengths <= LONGEST_PATH))
        done = BLOCK
        while len(longer):
            blocks = blocks_at[starts[longer] + done] & _KEEP[np.minimum(lengths[longer] - done, BLOCK)]
            numbers[longer] = self._follow(self._rest, numbers[longer], blocks)
            done += BLOCK
            longer = longer[lengths[longer] > done]
        by_digest = lengths > LONGEST_PATH
        if text.find(0, 0, len(text) - BLOCK) >= 0:
            by_digest |= np.frombuffer(text, np.uint8)[starts + lengths - 1] == 0
        for i in np.flatnonzero(by_digest).tolist():
            numbers[i] = self._number_long(text[starts[i] : starts[i] + lengths[i]])
        return numbers

    def _number_long(self, string: bytes) -> int:
        number = self._long.setdefault(blake2b(string, digest_size=16).digest(), self.size)
        self.size += number == self.size
        return number

    def _follow(self, edges: _Edges, prefixes: Int32s, blocks: UInt64s) -> Int32s:
        numbers, missing = edges.find(prefixes, blocks)
        if len(missing):
            block = blocks[missing]
            prefix = prefixes[missing] if len(prefixes) else np.zeros(len(missing), np.int32)
            order = np.lexsort((block, prefix))
            block, prefix = block[order], prefix[order]
            new = np.ones(len(order), np.bool_)
            new[1:] = (block[1:] != block[:-1]) | (prefix[1:] != prefix[:-1])
            numbers[missing[order]] = self.size + np.cumsum(new) - 1
            count = int(new.sum())
            edges.add(prefix[new], block[new], np.arange(self.size, self.size + count, dtype=np.int32))
            self.size += count
        return numbers
