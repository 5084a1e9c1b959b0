"""Near duplicates among millions of texts: MinHash signatures on disk, compared where a band of them is equal.

A text is the set of its runs of five characters; the share of equal positions in two signatures estimates the Jaccard
similarity of two sets (Broder, 1997). Texts that agree in all positions of one band are compared (locality-sensitive
hashing): at similarity 0.8 two texts share one of eight bands of four positions with probability 0.98. Then the
estimate decides, which is a toss at 0.8 and nearly always right at 0.9. Memory grows by two bytes a text: signatures
lie in a file, and the bands are sorted in parts. For up to some hundred thousand texts, `ShingleIndex` is exact.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from finegrade.text import normalised

SIMILAR = 0.8  # share of equal positions from which two texts are near duplicates

RUN, BANDS, ROWS = 5, 8, 4
POSITIONS = BANDS * ROWS

_CHARACTERS = 500_000  # hashed together: about fifty bytes each, while it lasts
_READ_AT_ONCE = 1 << 16  # signatures

_T = TypeVar("_T")
_Hashes = NDArray[np.uint64]
_Signatures = NDArray[np.uint32]

_DICE = np.random.default_rng(20250900842)  # fixed: the same texts are the same duplicates, always
_FACTORS: _Hashes = _DICE.integers(1, 1 << 63, POSITIONS, dtype=np.uint64) | np.uint64(1)
_ADDED: _Hashes = _DICE.integers(0, 1 << 63, POSITIONS, dtype=np.uint64)
_POWERS: _Hashes = np.array([pow(1_099_511_628_211, k, 1 << 64) for k in range(RUN)], dtype=np.uint64)
_BAND: _Hashes = _DICE.integers(1, 1 << 63, ROWS, dtype=np.uint64) | np.uint64(1)
_HIGH = np.uint64(32)


def signatures(texts: Sequence[str]) -> _Signatures:
    """MinHash signatures of texts, which are compared as words, without case and punctuation: [texts, 32]."""
    parts = [normalised(text).encode() for text in texts]
    runs = np.array([max(1, len(part) - RUN + 1) for part in parts])
    padded = b"".join(part.ljust(RUN, b"\0") for part in parts) + b"\0" * RUN
    characters = np.frombuffer(padded, dtype=np.uint8).astype(np.uint64)
    rolled = sum(characters[k : len(characters) - RUN + k] * _POWERS[k] for k in range(RUN))
    lengths = runs + RUN - 1
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    own = np.repeat(begins - np.concatenate([[0], np.cumsum(runs)[:-1]]), runs) + np.arange(runs.sum())
    hashes: _Hashes = np.asarray(rolled, dtype=np.uint64)[own]  # without the runs that cross from text to text
    hashes ^= hashes >> _HIGH
    found = np.empty((len(texts), POSITIONS), dtype=np.uint32)
    starts = np.concatenate([[0], np.cumsum(runs)[:-1]])
    for position in range(POSITIONS):
        mixed = (hashes * _FACTORS[position] + _ADDED[position]) >> _HIGH
        found[:, position] = np.minimum.reduceat(mixed, starts)
    return found


def band_hashes(some: _Signatures, band: int) -> _Hashes:
    """The hash of one band of each of some signatures, [texts, 32]: [texts]."""
    mixed: _Hashes = (some[:, band * ROWS : (band + 1) * ROWS].astype(np.uint64) * _BAND).sum(axis=1, dtype=np.uint64)
    return mixed ^ (mixed >> _HIGH)


def batches(
    items: Iterable[_T], length: Callable[[_T], int], characters: int, number: int = sys.maxsize
) -> Iterator[list[_T]]:
    """Yields items until they have so many characters together, or are so many."""
    some: list[_T] = []
    size = 0
    for item in items:
        some.append(item)
        size += length(item)
        if size >= characters or len(some) >= number:
            yield some
            some, size = [], 0
    if some:
        yield some


class NearDuplicates:
    """Texts, and which of them are nearly the same as an earlier one. A context manager.

    Args:
        path: Of the file that the signatures go to; it is removed at the end of the block.
        at_once: Signatures of a band that are sorted together: about a hundred bytes each, while it lasts.
    """

    def __init__(self, path: Path, at_once: int = 1 << 19) -> None:
        self._path, self._at_once, self._number = path, at_once, 0
        self._watched = bytearray()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, texts: Iterable[str], watched: bool = True) -> None:
        """Adds texts; those that are not ``watched`` only count as earlier than the texts after them."""
        for some in batches(texts, len, _CHARACTERS):
            self._file.write(signatures(some).tobytes())
            self._number += len(some)
            self._watched += bytes([watched]) * len(some)

    def flags(self) -> NDArray[np.bool_]:
        """[watched texts], True for those that are nearly the same as an earlier one. The last call of the block."""
        self._file.close()
        flagged = np.zeros(self._number, dtype=np.bool_)
        if self._number:
            parts = -(-self._number // self._at_once)  # the file is read once a band and part, for flat memory
            for band in range(BANDS):
                for part in range(parts):
                    self._flag(flagged, *self._keys(band, part, parts))
        return flagged[np.frombuffer(self._watched, dtype=np.bool_)]

    def _read(self, positions: NDArray[np.int64]) -> _Signatures:
        """The signatures of these rows: [positions, 32]. Not mapped: what was mapped counts as memory in use."""
        found = np.empty((len(positions), POSITIONS), dtype=np.uint32)
        with self._path.open("rb", buffering=0) as file:
            for row, position in zip(found, positions.tolist(), strict=True):
                file.seek(position * row.nbytes)
                file.readinto(row.data)
        return found

    def _keys(self, band: int, part: int, parts: int) -> tuple[_Hashes, NDArray[np.int64]]:
        """The keys of a band that belong to a part, and their rows."""
        keys, positions, begin = [], [], 0
        with self._path.open("rb") as file:
            while len(block := np.fromfile(file, dtype=np.uint32, count=_READ_AT_ONCE * POSITIONS)):
                mixed = band_hashes(block.reshape(-1, POSITIONS), band)
                own = np.flatnonzero(mixed % np.uint64(parts) == part)
                keys.append(mixed[own])
                positions.append(own + begin)
                begin += len(mixed)
        return np.concatenate(keys), np.concatenate(positions)

    def _flag(self, flagged: NDArray[np.bool_], keys: _Hashes, positions: NDArray[np.int64]) -> None:
        """Compares each row with the first that has the same key, and with the one before it."""
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")  # stable: the first of equal keys is the earliest row
        ordered, positions = keys[order], positions[order]
        _, begins, sizes = np.unique(ordered, return_index=True, return_counts=True)
        firsts = np.repeat(positions[begins], sizes)
        before = np.concatenate([positions[:1], positions[:-1]])
        for earlier, others in ((firsts, positions), (before, before)):  # the second of a key has the first before it
            pairs = np.flatnonzero((positions != firsts) & (others != firsts) & ~flagged[positions])
            step = max(1, self._at_once // 32)
            for begin in range(0, len(pairs), step):
                some = pairs[begin : begin + step]
                same = (self._read(positions[some]) == self._read(earlier[some])).mean(axis=1) >= SIMILAR
                flagged[positions[some[same]]] = True
