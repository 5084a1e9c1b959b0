"""BM25 over a list of texts: bm25s, its default variant, lower-case words."""

from array import array
from collections.abc import Sequence

import bm25s

from finegrade.text import words


class BM25:
    """An index of texts.

    Args:
        texts: What is searched.
    """

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
        """Numbers of the texts for each query, best first.

        Args:
            queries: What is searched for.
            depth: At most so many for each.
            matching: Leave those out that share no word with the query: their order says nothing.
        """
        depth = min(depth, self._size)
        ranked, scores = self._index.retrieve([list(words(query)) for query in queries], k=depth, show_progress=False)
        return [
            [int(number) for number, score in zip(*row, strict=True) if score > 0 or not matching]
            for row in zip(ranked, scores, strict=True)
        ]
