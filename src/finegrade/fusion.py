"""Two rankings as one: by words and by meaning, joined by reciprocal rank fusion (Cormack, Clarke, Büttcher, 2009)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from finegrade.dense import DenseIndex
from finegrade.lexical import BM25

RANK_CONSTANT = 60
"""The authors' own: how little the first ranks count above those behind them."""


class Fused:
    """BM25 and a bi-encoder over the same texts.

    Args:
        lexical: The one.
        dense: The other.
    """

    def __init__(self, lexical: BM25, dense: DenseIndex) -> None:
        self._lexical, self._dense = lexical, dense

    def rank(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Numbers of the texts for each query, best first; texts without a word of the query have no lexical rank.

        Args:
            queries: What is searched for.
            depth: At most so many for each, and of each of the two.
        """
        if not queries:
            return []
        by_words = self._lexical.rank(queries, depth)
        return [fused(pair, depth) for pair in zip(by_words, self._dense.rank(queries, depth), strict=True)]


def fused(rankings: Iterable[Sequence[int]], depth: int) -> list[int]:
    """The numbers with the highest sums of 1 / (60 + rank), of equal sums the lower number.

    Args:
        rankings: Of numbers, best first, each at most once.
        depth: At most so many.
    """
    sums: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            sums[number] += 1 / (RANK_CONSTANT + rank)
    return sorted(sums, key=lambda number: (-sums[number], number))[:depth]
