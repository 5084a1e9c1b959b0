"""Hashes of all runs of words of many texts, and which of a million texts have one of them."""

from collections.abc import Sequence
from typing import IO

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

MAX_TEXTS = 1 << 24

MIXED = np.uint64(0xFF51AFD7ED558CCD)
_SIGNS: Hashes = np.random.default_rng(13).integers(1, 1 << 63, 256, dtype=np.uint64)  # fixed: the same, always
_BASE = 0x9E3779B97F4A7C15
_NUMBER = np.uint64(MAX_TEXTS - 1)  # the bits of a key that hold a text's number; the others are of a hash
_KEYS_AT_ONCE = 1 << 20


class HashedRuns:
    """Some texts, of which any run of words has its hash in one step: from the sums up to its two ends (Karp and
    Rabin, 1987).

    Args:
        plains: Words with one space between.
    """

    def __init__(self, plains: Sequence[str]) -> None:
        signs = np.frombuffer(" ".join(plains).encode(), dtype=np.uint8)
        borders = np.flatnonzero(signs == ord(" "))
        self._starts, self._stops = np.append(0, borders + 1), np.append(borders, len(signs))
        counts = np.array([plain.count(" ") + 1 for plain in plains], dtype=np.int64)
        self._of = np.repeat(np.arange(len(plains)), counts)
        self._sums = np.append(np.uint64(0), np.cumsum(_SIGNS[signs] * _powers(_BASE, len(signs))))
        self._back = _powers(pow(_BASE, -1, 1 << 64), len(signs) + 1)

    def runs(self, size: int) -> tuple[Hashes, Places]:
        """Of each run of so many words of a text: hashes and numbers of texts, each [runs]."""
        firsts = np.flatnonzero(self._of[: max(0, len(self._of) - size + 1)] == self._of[size - 1 :])
        starts = self._starts[firsts]
        hashes: Hashes = (self._sums[self._stops[firsts + size - 1]] - self._sums[starts]) * self._back[starts]
        hashes ^= hashes >> np.uint64(32)
        hashes *= MIXED
        hashes ^= hashes >> np.uint64(29)
        return hashes, self._of[firsts]


class Postings:
    """Which texts have a hash: forty bits of it and the number of a text, in one sorted array.

    Args:
        spool: An empty file, for what is added.
    """

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool, self._keys = spool, np.empty(0, dtype=np.uint64)

    def add(self, hashes: Hashes, numbers: Hashes) -> None:
        """Says that these texts have these hashes: each [n]."""
        keys = np.sort(hashes & ~_NUMBER | numbers)
        self._spool.write(keys[are_first(keys)].tobytes())  # a text counts once

    def sort(self, wanted: NDArray[np.bool_]) -> None:
        """From here on what was added can be found, of the texts that are wanted."""
        keys, end = np.empty(self._spool.tell() // 8, dtype=np.uint64), 0
        self._spool.seek(0)
        while len(some := np.fromfile(self._spool, dtype=np.uint64, count=_KEYS_AT_ONCE)):
            some = some[wanted[some & _NUMBER]]
            keys[end : end + len(some)] = some
            end += len(some)
        self._keys = keys[:end]
        self._keys.sort()

    def find(self, hashes: Hashes, most: int = MAX_TEXTS, first: int = MAX_TEXTS) -> tuple[Places, Places]:
        """Places of hashes with numbers of texts that have them.

        Args:
            hashes: What is looked for.
            most: A hash that more texts have is passed over.
            first: No more texts of one hash are given.
        """
        order = np.argsort(hashes)  # a search beside the last one finds its memory near
        wanted = hashes[order] & ~_NUMBER
        begins = np.searchsorted(self._keys, wanted)
        there = np.flatnonzero(begins < len(self._keys))
        there = there[self._keys[begins[there]] & ~_NUMBER == wanted[there]]
        counts = np.searchsorted(self._keys, wanted[there] | _NUMBER, side="right") - begins[there]
        there, counts = there[counts <= most], np.minimum(counts[counts <= most], first)
        found = np.repeat(there, counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        keys = self._keys[begins[found] + np.arange(len(found)) - before]
        return order[found], (keys & _NUMBER).astype(np.int64)


def are_first(ordered: NDArray[np.uint64] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for the first of equal values: [values], which are in order."""
    return np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]


def _powers(base: int, number: int) -> Hashes:
    powers = np.full(max(1, number), base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers)[:number]
