"""BM25 over a list of texts: bm25s, its default variant, lower-case words."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import bm25s

from finegrade.text import words


class BM25:
    """An index of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        self._index = bm25s.BM25()
        vocabulary: dict[str, int] = {}
        numbers = [  # four bytes a word; as strings a million texts would take gigabytes
            array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words(text) or ("",)])
            for text in texts
        ]
        self._index.index((numbers, vocabulary), show_progress=False)

    def rank(self, queries: Sequence[str], depth: int, matching: bool = True) -> list[list[int]]:
        """Numbers of at most ``depth`` texts for each query, best first.

        ``matching`` leaves out texts that share no word with the query: their order says nothing.
        """
        depth = min(depth, self._size)
        ranked, scores = self._index.retrieve([list(words(query)) for query in queries], k=depth, show_progress=False)
        return [
            [int(number) for number, score in zip(*row, strict=True) if score > 0 or not matching]
            for row in zip(ranked, scores, strict=True)
        ]


_K1, _B = 1.5, 0.75  # as bm25s has them


class LexicalScorer:
    """BM25 (Lucene's form) of a text for a query.

    The texts give the frequency of words and the mean length; some hundred of the run are enough.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        lengths, self._frequency = [], Counter[str]()
        for text in set(texts):
            found = words(text)
            lengths.append(len(found))
            self._frequency.update(set(found))
        self._number = len(lengths)
        self._mean = max(1.0, sum(lengths) / max(1, len(lengths)))

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the score of each (query, text), in order."""
        for query, text in pairs:
            found = words(text)
            counts = Counter(found)
            norm = _K1 * (1 - _B + _B * len(found) / self._mean)
            shared = set(words(query)) & counts.keys()
            yield sum(self._weight(word) * counts[word] / (counts[word] + norm) for word in sorted(shared))

    def _weight(self, word: str) -> float:
        """Inverse document frequency."""
        frequency = self._frequency[word]
        return math.log(1 + (self._number - frequency + 0.5) / (frequency + 0.5))
