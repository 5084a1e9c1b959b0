"""Does a training sample hold what a benchmark tests with?

A query or positive leaks where it has, without regard to case, punctuation, the form of its Unicode and the prefixes
that models want before a text ("query: ", "Instruct: ... Query: "),

- the same text as a query or document of the benchmark;
- a run of 13 words that occurs in a text of the benchmark (the longest that GPT-3's decontamination asks for; Brown et
  al., 2020), or the whole of a benchmark's text of 8 to 12 words (8 is its shortest). A run that occurs in more than
  ten texts of the benchmarks is a licence, a menu or a phrase, and no evidence. In scripts without spaces two
  characters count as a word;
- nearly the same text. Of two texts of 26 words or more: Jaccard 0.8 of their runs of five bytes. In shorter texts one
  other word may leave no run of 13, changes few runs of bytes and may reverse the meaning ("the first row", "the last
  row"). So all their words must be the same, in order, but for "a", "do I" and the like and a final "s".

Texts of fewer than four words are names and labels ("Paris", "billing department"), right for many queries: they
count only where both are queries. A document's title is a name up to seven words ("History of the United States"):
a sample that has it has not seen the document. From eight words on it is a sentence, and often a question.

Hashes only find candidates; the texts themselves decide, so that hashes that collide make no leak.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finegrade.errors import InputError
from finegrade.retrieval.minhash import BANDS, POSITIONS, RUN, SIMILAR, band_hashes, batches, signatures
from finegrade.text import encodable, jaccard, normalised, word_count, words
from finegrade.verification.benchmarks import BenchmarkText, Role

MAX_TEXTS = 2_000_000
"""Different texts of all benchmarks together: they are held in memory, about 2.5 kilobytes for one of 60 words."""
COMMON, RUN_WORDS, WHOLE_WORDS, NAME_WORDS = 10, 13, 8, 4  # limits of the rules above
LONG_WORDS = 2 * RUN_WORDS  # with one other word in its middle, such a text still has a run that counts

Own = Literal["query", "positive"]
How = Literal["same text", "shared run of words", "near duplicate"]


class Leak(NamedTuple):
    """What a sample has in common with a benchmark.

    Attributes:
        benchmark, role, text: Of the benchmark's text, of which 300 characters are given.
        own: Which of the sample's texts.
        how: The strongest of the three that there is, in this order.
        overlap: 1.0 for the same text; of shared runs the share of the shorter text's words that lie in them; of near
            duplicates the Jaccard similarity.
    """

    benchmark: str
    role: Role
    own: Own
    how: How
    text: str
    overlap: float


# What counts


_UNSEEN = re.compile(  # what may be ignored, and format characters: no width, or the direction of others
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_PREFIX = re.compile(  # of E5, BGE, Nomic, Qwen, Gemma and their like
    r"""\W{0,9}(?:
        instruct:.{0,600}?\bquery
        |(?:search_)?(?:query|document) |passage |question |text |clustering |classification
        |represent\s(?:this|the)\b[^:\n]{0,100}\bfor\s(?:search|retriev|cluster|classif)[^:\n]{0,100}
        |task:[^|\n]{0,200}\|\s*query |title:[^|\n]{0,400}\|\s*text
    )\s*:\s*(?=\S)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_MARKS = re.compile(r"([^\w\s]{30})[^\w\s]+")  # normalising takes a time that is the square of the marks' number
_NO_MATTER = frozenset(
    ("a", "an", "the", "to", "do", "does", "is", "are", "s", "i", "we", "you", "my", "our", "your", "please")
)
_TELLING_WORDS = 3  # fewer that matter tell too little


def comparable(text: str) -> str:
    """What is left of a text when case, punctuation, the form of its Unicode and a model's prefix do not count."""
    if not text.isascii():
        text = _MARKS.sub(r"\1", _UNSEEN.sub("", encodable(text)))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return normalised(_PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text)


def _run_size(plain: str) -> int:
    """How long the runs of a benchmark's text are that count, in words as ``words`` gives them; 0: none does."""
    number = len(words(plain))
    a_word = 2 if word_count(plain) < 0.75 * number else 1  # as text.shingles
    if number >= a_word * RUN_WORDS:
        return a_word * RUN_WORDS
    return number if number >= a_word * WHOLE_WORDS else 0


def _shared_share(own: str, other: str) -> float:
    """The share of the shorter text's words that lie in shared runs; in mixed scripts some runs are too short."""
    size = _run_size(other)
    mine, its = own.split(" "), other.split(" ")
    runs = {" ".join(its[i : i + size]) for i in range(len(its) - size + 1)}
    shared = [
        i for i in range(len(mine) - size + 1)
        if (run := " ".join(mine[i : i + size])) in runs and word_count(run) >= WHOLE_WORDS
    ]  # fmt: skip
    covered = {index for begin in shared for index in range(begin, begin + size)}
    return min(1.0, len(covered) / min(len(mine), len(its)))


def _near_similarity(own: str, other: str) -> float:
    """The Jaccard similarity of near duplicates; 0 for all others."""
    similarity = jaccard(_byte_runs(own), _byte_runs(other))
    if similarity >= SIMILAR and min(word_count(own), word_count(other)) >= LONG_WORDS:
        return similarity
    return similarity if (telling := _telling(own)) and telling == _telling(other) else 0.0


def _byte_runs(plain: str) -> set[bytes]:
    data = plain.encode()
    return {data[i : i + RUN] for i in range(max(1, len(data) - RUN + 1))}


def _telling(plain: str) -> str:
    """The words that a short text may turn on; empty where they are too few, and for a text that is not short."""
    if plain.count(" ") >= 2 * LONG_WORDS:  # twice: words that do not matter count, too, and characters for half a word
        return ""
    telling = [word.removesuffix("s") for word in plain.split(" ") if word not in _NO_MATTER]
    return " ".join(telling) if len(telling) >= _TELLING_WORDS else ""


# The index


_ROLES: tuple[Role, ...] = ("query", "document", "title")  # of those that are the same text the first is kept
_LIKELY = 0.625  # equal positions of a signature: one text in a hundred of Jaccard 0.8 has fewer
_MOST_LIKELY = 500  # of one band: of thousands of a template any is as near as the others
_MOST_COMPARED = 50  # candidates that are compared with one text: thousands of a template may be likely
_MOST_SHOWN = 300  # characters of evidence
_TOGETHER = 300_000, 100  # characters (about 200 bytes each, while it lasts) and texts; text.words remembers so many

_Hashes = NDArray[np.uint64]
_Numbers = NDArray[np.int64]
_Candidates = Iterator[tuple[int, list[int]]]  # index of a text that was asked about, and numbers of texts like it

_NUMBER = np.uint64((1 << 24) - 1)  # the bits of a posting that hold a text's number; the others are of a hash
_BYTES: _Hashes = np.random.default_rng(13).integers(1, 1 << 63, 256, dtype=np.uint64)  # fixed: always the same
_BASE = 0x9E3779B97F4A7C15
_MIXED = np.uint64(0xFF51AFD7ED558CCD)


class Benchmarks:
    """The texts of benchmarks, and whether a sample holds one of them.

    A text that occurs several times counts once: as the first query, or else the first document, or else a title.

    Attributes:
        counts: Benchmark -> role -> how many texts it gave; what may be query or document, it gave twice. Few of one
            role suggest that a benchmark was only half read.

    Raises:
        InputError: There are more than ``most`` different texts.
    """

    def __init__(self, texts: Iterable[BenchmarkText], most: int = MAX_TEXTS) -> None:
        self.counts: dict[str, Counter[str]] = {}
        unique: dict[str, BenchmarkText] = {}
        for one in texts:
            if not (plain := comparable(one.text)):
                continue
            self.counts.setdefault(one.benchmark, Counter())[one.role] += 1
            earlier = unique.get(plain)
            if earlier is None or _ROLES.index(one.role) < _ROLES.index(earlier.role):
                unique.pop(plain, None)  # texts are numbered in the order of those that stay
                unique[plain] = one._replace(text=encodable(one.text[:_MOST_SHOWN]))
            if len(unique) > most:
                wanted, remedy = f"at most {most:,}", "Check against some of the benchmarks at a time."
                raise InputError("the benchmarks", got=f"more than {most:,} texts", wanted=wanted, remedy=remedy)
        self._texts, self._plains = list(unique.values()), list(unique)
        self._numbers = {plain: number for number, plain in enumerate(unique)}
        self._index()

    def leak(self, query: str, positive: str) -> Leak | None:
        """The strongest evidence that a sample leaks, of its query first; None where there is none."""
        return self.leaks([(query, positive)])[0]

    def leaks(self, pairs: Iterable[tuple[str, str]]) -> list[Leak | None]:
        """The same for many (query, positive), several times as fast."""
        found: list[Leak | None] = []
        for some in batches(pairs, lambda pair: len(pair[0]) + len(pair[1]), *_TOGETHER):
            leaks = self._strongest([comparable(text) for pair in some for text in pair])
            found += [leaks.get(number) for number in range(len(some))]
        return found

    def _index(self) -> None:
        telling: defaultdict[str, list[int]] = defaultdict(list)
        runs: defaultdict[int, list[_Hashes]] = defaultdict(list)
        bands: list[list[_Hashes]] = [[] for _ in range(BANDS)]
        self._signatures = np.zeros((len(self._plains), POSITIONS), dtype=np.uint8)
        begin = 0
        for plains in batches(self._plains, len, *_TOGETHER):
            for number, plain in enumerate(plains, begin):
                if words_that_matter := _telling(plain):
                    telling[words_that_matter].append(number)
            hashed, sizes = _WordRuns(plains), np.array([_run_size(plain) for plain in plains])
            for size in set(sizes.tolist()) - {0}:
                hashes, of = hashed.hashes(size)
                own = sizes[of] == size
                runs[size].append(_postings(hashes[own], of[own] + begin))
            characters, of = _long_signatures(plains)
            self._signatures[of + begin] = characters  # their last bytes: they tell nearly as much as all four
            for number, band in enumerate(bands):
                band.append(_postings(band_hashes(characters, number), of + begin))
            begin += len(plains)
        self._telling = dict(telling)
        self._runs = {size: _Postings(parts) for size, parts in runs.items()}
        self._bands = [_Postings(parts) for parts in bands]

    def _strongest(self, plains: Sequence[str]) -> dict[int, Leak]:
        """Number of a pair -> its leak. The texts are the query and the positive of each pair, in turn."""
        found: dict[int, Leak] = {}
        searches: tuple[tuple[How, Callable[[Sequence[str]], _Candidates], Callable[[str, str], float]], ...] = (
            ("same text", self._equal, lambda own, other: 1.0),
            ("shared run of words", self._sharing, _shared_share),
            ("near duplicate", self._alike, _near_similarity),
        )
        for how, candidates, overlap in searches:
            left = [index for index in range(len(plains)) if index // 2 not in found]
            for asked, numbers in candidates([plains[index] for index in left]) if left else ():
                pair, is_positive = divmod(left[asked], 2)
                own: Own = "positive" if is_positive else "query"
                if pair not in found and (leak := self._first(plains[left[asked]], own, numbers, how, overlap)):
                    found[pair] = leak
        return found

    def _first(
        self, plain: str, own: Own, numbers: Sequence[int], how: How, overlap: Callable[[str, str], float]
    ) -> Leak | None:
        """The first of the candidates that is a leak."""
        for number in numbers:
            one, other = self._texts[number], self._plains[number]
            least = WHOLE_WORDS if one.role == "title" else 0 if own == one.role == "query" else NAME_WORDS
            if min(word_count(plain), word_count(other)) < least:
                continue
            if share := overlap(plain, other):
                return Leak(one.benchmark, one.role, own, how, one.text, share)
        return None

    def _equal(self, plains: Sequence[str]) -> _Candidates:
        return ((index, [self._numbers[plain]]) for index, plain in enumerate(plains) if plain in self._numbers)

    def _sharing(self, plains: Sequence[str]) -> _Candidates:
        """Those first that share the most runs."""
        hashed = _WordRuns(plains)
        indices, numbers = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for size, postings in self._runs.items():
            hashes, of = hashed.hashes(size)
            found, of_found = postings.find(hashes, most=COMMON)
            indices.append(of[found])
            numbers.append(of_found)
        return _in_order(*_counted(np.concatenate(indices), np.concatenate(numbers)))

    def _alike(self, plains: Sequence[str]) -> _Candidates:
        """Those first that have the same words that matter, then those with the most similar signature."""
        same = [(i, n) for i, plain in enumerate(plains) for n in self._telling.get(_telling(plain), ())[:_MOST_LIKELY]]
        characters, of = _long_signatures(plains)
        found = [
            postings.find(band_hashes(characters, band), first=_MOST_LIKELY)
            for band, postings in enumerate(self._bands)
        ]
        rows, numbers, _ = _counted(*np.concatenate(found, axis=1))
        similar = (characters.astype(np.uint8)[rows] == self._signatures[numbers]).mean(axis=1)
        likely = similar >= _LIKELY
        by_words = np.array(same, dtype=np.int64).reshape(-1, 2).T
        indices = np.append(by_words[0], of[rows[likely]])
        weights = np.append(np.ones(len(same)), similar[likely])
        return _in_order(indices, np.append(by_words[1], numbers[likely]), weights)


class _WordRuns:
    """Any run of words of some texts gets its hash in one step: from the sums up to its ends (Karp and Rabin, 1987)."""

    def __init__(self, plains: Sequence[str]) -> None:
        characters = np.frombuffer(" ".join(plains).encode(), dtype=np.uint8)
        borders = np.flatnonzero(characters == ord(" "))
        self._starts, self._stops = np.append(0, borders + 1), np.append(borders, len(characters))
        counts = np.array([plain.count(" ") + 1 for plain in plains], dtype=np.int64)
        self._of = np.repeat(np.arange(len(plains)), counts)
        self._sums = np.append(np.uint64(0), np.cumsum(_BYTES[characters] * _powers(_BASE, len(characters))))
        self._back = _powers(pow(_BASE, -1, 1 << 64), len(characters) + 1)

    def hashes(self, size: int) -> tuple[_Hashes, _Numbers]:
        """Of each run of so many words of a text: hashes and indices of texts, each [runs]."""
        firsts = np.flatnonzero(self._of[: max(0, len(self._of) - size + 1)] == self._of[size - 1 :])
        starts = self._starts[firsts]
        hashes: _Hashes = (self._sums[self._stops[firsts + size - 1]] - self._sums[starts]) * self._back[starts]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIXED
        hashes ^= hashes >> np.uint64(29)
        return hashes, self._of[firsts]


class _Postings:
    """Which texts have a hash: forty bits of it and the number of a text, in one sorted array."""

    def __init__(self, parts: Sequence[_Hashes]) -> None:
        keys = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
        keys.sort()
        self._keys = keys[_are_first(keys)]  # a text counts once

    def find(self, hashes: _Hashes, most: int = MAX_TEXTS, first: int = MAX_TEXTS) -> tuple[_Numbers, _Numbers]:
        """Indices of hashes, with numbers of texts that have them.

        A hash that more than ``most`` texts have is passed over; of one hash the ``first`` texts are given.
        """
        order = np.argsort(hashes)  # a search beside the last one finds its memory near
        wanted = hashes[order] & ~_NUMBER
        begins, ends = np.searchsorted(self._keys, wanted), np.searchsorted(self._keys, wanted | _NUMBER, side="right")
        counts = np.where(ends - begins <= most, np.minimum(ends - begins, first), 0)
        found = np.repeat(np.arange(len(counts)), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        keys = self._keys[begins[found] + np.arange(len(found)) - before]
        return order[found], (keys & _NUMBER).astype(np.int64)


def _postings(hashes: _Hashes, numbers: _Numbers) -> _Hashes:
    return hashes & ~_NUMBER | numbers.astype(np.uint64)


def _long_signatures(plains: Sequence[str]) -> tuple[NDArray[np.uint32], _Numbers]:
    """Signatures, and the indices of the texts that have one: [long texts, 32] and [long texts]."""
    long = [index for index, plain in enumerate(plains) if word_count(plain) >= LONG_WORDS]
    found = signatures([plains[index] for index in long]) if long else np.empty((0, POSITIONS), dtype=np.uint32)
    return found, np.array(long, dtype=np.int64)


def _counted(indices: _Numbers, numbers: _Numbers) -> tuple[_Numbers, _Numbers, NDArray[np.float64]]:
    """Each pair of an index and a number once, with how often it is there."""
    pairs, counts = np.unique(indices * MAX_TEXTS + numbers, return_counts=True)
    return *np.divmod(pairs, MAX_TEXTS), counts.astype(np.float64)


def _in_order(indices: _Numbers, numbers: _Numbers, weights: NDArray[np.float64]) -> _Candidates:
    """Indices, rising, with their numbers, those of the greatest weight first."""
    order = np.lexsort((numbers, -weights, indices))
    indices, numbers = indices[order], numbers[order]
    begins = np.flatnonzero(_are_first(indices))
    for begin, end in zip(begins, np.append(begins, len(indices))[1:], strict=True):
        yield int(indices[begin]), numbers[begin : min(end, begin + _MOST_COMPARED)].tolist()


def _are_first(ordered: NDArray[np.uint64] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for the first of equal values: [values], which are in order."""
    return np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]


def _powers(base: int, number: int) -> _Hashes:
    powers = np.full(max(1, number), base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers)[:number]
