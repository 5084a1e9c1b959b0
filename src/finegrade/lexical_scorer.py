"""BM25 as a scorer of single pairs: next to free, and good enough to say which negatives need no second look."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from finegrade.text import words

_K1, _B = 1.5, 0.75  # as bm25s has them


class LexicalScorer:
    """BM25 (Lucene's form) of a text for a query.

    Args:
        texts: Say how frequent words are, and how long texts: some hundred of the run are enough.
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
        """How much a word tells (inverse document frequency)."""
        frequency = self._frequency[word]
        return math.log(1 + (self._number - frequency + 0.5) / (frequency + 0.5))
