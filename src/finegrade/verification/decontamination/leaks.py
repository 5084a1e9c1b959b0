"""Does a training sample hold what a benchmark tests with? (rules.py says what counts.)

What the index finds are candidates; the texts themselves, which lie in a temporary file, decide: hashes that collide
make no leak.
"""

import os
import tempfile
import weakref
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from finegrade.errors import InputError
from finegrade.retrieval.minhash import BANDS, PLACES, ROWS, signatures
from finegrade.text import encodable, word_count
from finegrade.verification.decontamination.columns import BenchmarkText, Role
from finegrade.verification.decontamination.rules import (
    LONG_WORDS,
    Own,
    comparable,
    equality,
    least_words,
    nearness,
    run_size,
    shared_share,
    telling_words_of,
)
from finegrade.verification.decontamination.word_runs import (
    MAX_TEXTS,
    MIXED,
    HashedRuns,
    Hashes,
    Places,
    Postings,
    are_first,
)

COMMON = 10
"""A run that stands in more texts of the benchmarks is no evidence."""


_LIKELY = 0.625  # equal places of a signature: one text in a hundred of Jaccard 0.8 has fewer
_MOST_LIKELY = 500  # of one band: of thousands of a template any is as near as the others
_MOST_COMPARED = 50  # texts that are looked at for one: thousands of a template may be likely
_MOST_SHOWN = 300  # characters of evidence
_SIGNS_AT_ONCE, _TEXTS_AT_ONCE = 300_000, 100  # about 200 bytes a sign, while it lasts; what text.words remembers

_Search = Callable[[Sequence[str]], Iterator[tuple[int, list[int]]]]  # texts -> their numbers, and likely texts
_Overlap = Callable[[str, str], float]  # 0: no leak

_BAND: Hashes = np.random.default_rng(31).integers(1, 1 << 63, ROWS, dtype=np.uint64) | np.uint64(1)

_ROLES: tuple[Role, ...] = ("query", "document", "title")  # of those that are the same text the first is kept

_T = TypeVar("_T")
How = Literal["same text", "shared run of words", "near duplicate"]


class Leak(NamedTuple):
    """What a sample has in common with a benchmark.

    Attributes:
        benchmark: What the user called it.
        role: Of the benchmark's text.
        own: Which of the sample's texts.
        how: The strongest of the three that there is, in this order.
        text: The benchmark's, 300 characters at most.
        overlap: 1.0 for the same text; of shared runs the share of the shorter text's words that lie in them; of near
            duplicates the Jaccard similarity.
    """

    benchmark: str
    role: Role
    own: Own
    how: How
    text: str
    overlap: float


class Benchmarks:
    """The texts of benchmarks, and whether a sample holds one of them.

    A text that is there several times counts once: as the first query, or else the first document, or else a title.

    Args:
        texts: Read once, some at a time.
        folder: For temporary files, which nobody sees: the texts as long as this object lives, and twice as much
            while it is made: a folder on a disk that has room. None: where the system puts its own, which may be
            memory.

    Attributes:
        counts: Benchmark -> role -> how many texts it gave; what may be query or document, it gave twice. Few of one
            role are the sign of a benchmark that was half read.

    Raises:
        InputError: There are more than 16,777,216 texts.
    """

    def __init__(self, texts: Iterable[BenchmarkText], folder: Path | None = None) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._names: list[str] = []
        self._of, self._begins, self._roles = array("I"), array("Q", [0]), bytearray()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        weakref.finalize(self, self._file.close)
        signed, wholes = bytearray(), array("Q")
        with ExitStack() as spools:

            def postings() -> Postings:
                return Postings(spools.enter_context(tempfile.TemporaryFile(dir=folder)))

            self._wholes, self._tellings, self._bands = postings(), postings(), [postings() for _ in range(BANDS)]
            self._runs: defaultdict[int, Postings] = defaultdict(postings)
            for some in _together(texts, lambda one: len(one.text)):
                self._add(some, signed, wholes)
            firsts = _firsts(np.frombuffer(wholes, dtype=np.uint64), np.frombuffer(self._roles, dtype=np.uint8))
            for one in (self._wholes, self._tellings, *self._bands, *self._runs.values()):
                one.sort(firsts)
        self._runs.default_factory = None
        self._signed = np.frombuffer(signed, dtype=np.uint8).reshape(-1, PLACES)
        self._file.flush()

    def leak(self, query: str, positive: str) -> Leak | None:
        """The strongest evidence that a sample leaks, of its query first; None where there is none."""
        return self.leaks([(query, positive)])[0]

    def leaks(self, pairs: Iterable[tuple[str, str]]) -> list[Leak | None]:
        """The same for many samples, several times as fast.

        Args:
            pairs: Query and positive of each.
        """
        found: list[Leak | None] = []
        for some in _together(pairs, lambda pair: len(pair[0]) + len(pair[1])):
            leaks = self._strongest([comparable(text) for pair in some for text in pair])
            found += [leaks.get(number) for number in range(len(some))]
        return found

    def _add(self, some: Sequence[BenchmarkText], signed: bytearray, wholes: "array[int]") -> None:
        with_text = [(one, plain) for one in some if (plain := comparable(one.text))]
        if not with_text:
            return
        for one, _ in with_text:
            if one.benchmark not in self.counts:
                self._names.append(one.benchmark)
                self.counts[one.benchmark] = Counter()
            self.counts[one.benchmark][one.role] += 1
            self._of.append(self._names.index(one.benchmark))
            self._roles.append(_ROLES.index(one.role))
            self._begins.append(self._begins[-1] + self._file.write(encodable(one.text).encode()))
        if len(self._of) > MAX_TEXTS:
            got, wanted = f"more than {MAX_TEXTS:,} texts", "fewer"
            raise InputError("the benchmarks", got=got, wanted=wanted, remedy="Check against some at a time.")
        plains = [plain for _, plain in with_text]
        numbers = np.arange(len(self._of) - len(plains), len(self._of), dtype=np.uint64)
        whole = _whole_hashes(plains)
        wholes.frombytes(whole.tobytes())
        self._wholes.add(whole, numbers)
        hashed = HashedRuns(plains)
        sizes = np.array([run_size(plain) for plain in plains])
        for size in set(sizes.tolist()) - {0}:
            hashes, of = hashed.runs(size)
            own = sizes[of] == size
            self._runs[size].add(hashes[own], numbers[of[own]])
        hashes, of = _telling_hashes(plains)
        self._tellings.add(hashes, numbers[of])
        signs, of = _long_signatures(plains)
        rows = np.zeros((len(plains), PLACES), dtype=np.uint8)
        rows[of] = signs  # the last byte of each place tells nearly as much as all four
        signed += rows.tobytes()
        for postings, hashes in zip(self._bands, _band_hashes(signs), strict=True):
            postings.add(hashes, numbers[of])

    def _strongest(self, plains: Sequence[str]) -> dict[int, Leak]:
        """Number of a pair -> its leak. The texts are the query and the positive of each pair, in turn."""
        found: dict[int, Leak] = {}
        searches: tuple[tuple[How, _Search, _Overlap], ...] = (
            ("same text", self._equal, equality),
            ("shared run of words", self._sharing, shared_share),
            ("near duplicate", self._alike, nearness),
        )
        for how, candidates, overlap in searches:
            left = [place for place in range(len(plains)) if place // 2 not in found]
            for number, others in candidates([plains[place] for place in left]) if left else ():
                pair, is_positive = divmod(left[number], 2)
                own = plains[left[number]]
                if pair not in found and (leak := self._first(own, bool(is_positive), others, how, overlap)):
                    found[pair] = leak
        return found

    def _first(
        self,
        plain: str,
        is_positive: bool,
        numbers: Sequence[int],
        how: How,
        overlap: _Overlap,
    ) -> Leak | None:
        """The first of the candidates that is a leak."""
        for number in numbers:
            role = _ROLES[self._roles[number]]
            begin, end = self._begins[number : number + 2]
            text = os.pread(self._file.fileno(), end - begin, begin).decode()
            other = comparable(text)
            mine: Own = "positive" if is_positive else "query"
            if min(word_count(plain), word_count(other)) < least_words(mine, role):
                continue
            if share := overlap(plain, other):
                benchmark = self._names[self._of[number]]
                return Leak(benchmark, role, mine, how, text[:_MOST_SHOWN], share)
        return None

    def _equal(self, plains: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        places, numbers = self._wholes.find(_whole_hashes(plains))
        return _in_order(places, numbers, np.ones(len(places)))

    def _sharing(self, plains: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        hashed = HashedRuns(plains)
        pairs = [np.empty(0, dtype=np.int64)]
        for size, postings in self._runs.items():
            hashes, of = hashed.runs(size)
            places, numbers = postings.find(hashes, COMMON)
            pairs.append(of[places] * MAX_TEXTS + numbers)
        unique, counts = np.unique(np.concatenate(pairs), return_counts=True)
        places, numbers = np.divmod(unique, MAX_TEXTS)
        return _in_order(places, numbers, counts.astype(np.float64))

    def _alike(self, plains: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        hashes, of = _telling_hashes(plains)
        places, numbers = self._tellings.find(hashes, first=_MOST_LIKELY)
        told = of[places] * MAX_TEXTS + numbers
        signs, of = _long_signatures(plains)
        in_bands = zip(self._bands, _band_hashes(signs), strict=True)
        found = [postings.find(hashes, first=_MOST_LIKELY) for postings, hashes in in_bands]
        pairs = np.sort(np.concatenate([places * MAX_TEXTS + numbers for places, numbers in found]))
        places, numbers = np.divmod(pairs[are_first(pairs)], MAX_TEXTS)  # np.unique hashes, and these collide
        similar = (signs.astype(np.uint8)[places] == self._signed[numbers]).mean(axis=1)
        likely = similar >= _LIKELY
        pairs = np.append(told, of[places[likely]] * MAX_TEXTS + numbers[likely])
        return _in_order(pairs // MAX_TEXTS, pairs % MAX_TEXTS, np.append(np.ones(len(told)), similar[likely]))


def _together(items: Iterable[_T], signs_of: Callable[[_T], int]) -> Iterator[list[_T]]:
    """A few at a time."""
    some: list[_T] = []
    signs = 0
    for item in items:
        some.append(item)
        signs += signs_of(item)
        if signs >= _SIGNS_AT_ONCE or len(some) >= _TEXTS_AT_ONCE:
            yield some
            some, signs = [], 0
    if some:
        yield some


def _firsts(wholes: Hashes, roles: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True for the first query, or else the first document, or title, of those that are the same text: [texts]."""
    order = np.lexsort((roles, wholes))
    firsts = np.zeros(len(wholes), dtype=np.bool_)
    firsts[order[are_first(wholes[order])]] = True
    return firsts


def _whole_hashes(plains: Iterable[str]) -> Hashes:
    """Of each text as a whole: [texts]. Of the best kind: texts with one hash count as one."""
    return np.frombuffer(b"".join(blake2b(plain.encode(), digest_size=8).digest() for plain in plains), dtype=np.uint64)


def _band_hashes(signs: NDArray[np.uint32]) -> Hashes:
    """[bands, texts]"""
    hashes: Hashes = (signs.reshape(-1, BANDS, ROWS) * _BAND).sum(axis=2, dtype=np.uint64).T
    return (hashes ^ (hashes >> np.uint64(32))) * MIXED


def _in_order(places: Places, numbers: Places, weights: NDArray[np.float64]) -> Iterator[tuple[int, list[int]]]:
    """Places, rising, with their numbers, those of the greatest weight first."""
    order = np.lexsort((numbers, -weights, places))
    places, numbers = places[order], numbers[order]
    begins = np.flatnonzero(are_first(places))
    for begin, end in zip(begins, np.append(begins, len(places))[1:], strict=True):
        yield int(places[begin]), numbers[begin : min(end, begin + _MOST_COMPARED)].tolist()


def _telling_hashes(plains: Sequence[str]) -> tuple[Hashes, Places]:
    """Hashes, and the numbers of the texts that have one: each [texts with enough words that matter]."""
    tellings = {number: telling for number, plain in enumerate(plains) if (telling := telling_words_of(plain))}
    return _whole_hashes(tellings.values()), np.array(list(tellings), dtype=np.int64)


def _long_signatures(plains: Sequence[str]) -> tuple[NDArray[np.uint32], Places]:
    """Signatures, and the numbers of the texts that have one: [long texts, 32] and [long texts]."""
    long = [number for number, plain in enumerate(plains) if word_count(plain) >= LONG_WORDS]
    signs = signatures([plains[number] for number in long]) if long else np.empty((0, PLACES), dtype=np.uint32)
    return signs, np.array(long, dtype=np.int64)
