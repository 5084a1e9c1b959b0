"""Texts that are near to a query in meaning: the vectors of a bi-encoder, compared one and all, a block at a time.

Exact: what comes out is what sorting all dot products of the stored vectors would give, equal ones by the lower number
(finegrade.vectors says why no rounding comes between). 1 M texts with 384 dimensions are a file of 768 MB, which every
call reads once, and 0.77 G operations a query: 5 s for 1,000 queries at 157 GFLOP/s, the peak of two cores with AVX2 at
2.45 GHz (benchmarks/mining.py measures it). So queries should come some thousand at a time. Memory does not grow with
the texts: it holds 8,192 vectors, and scores of 256 queries with them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finegrade.text import encodable
from finegrade.vectors import SCALE, VectorFile, fixed_point

_TEXTS_AT_ONCE, _QUERIES_AT_ONCE = 8_192, 256
_LIMIT = 1 << 24  # dot products are whole numbers between -_LIMIT and _LIMIT
_NUMBER_BITS = 31
_LAST_NUMBER = (1 << _NUMBER_BITS) - 1

_Keys = NDArray[np.int64]
"""Dot product and number of a text in one: of two, the larger key is the better hit."""


class Embedder(Protocol):
    """A bi-encoder: texts -> vectors of unit length."""

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of what is searched for: [texts, dimension]."""

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of what is searched: [texts, dimension]."""


class DenseIndex:
    """An index of texts, on the disk.

    Args:
        texts: What is searched; read once, a block at a time, and not kept.
        embedder: Gives the vectors.
        folder: Holds the vectors; those that are there and were made of the same texts are kept.
        made_for: Names the embedder and its settings.
        total: How many texts there are, for the progress.

    Raises:
        InputError: The embedder gives vectors that are not of unit length.
    """

    def __init__(self, texts: Iterable[str], embedder: Embedder, folder: Path, made_for: str, total: int) -> None:
        self._embedder = embedder
        self._vectors = VectorFile(folder, made_for)
        self._vectors.write(texts, embedder.embed_documents, total)

    def __len__(self) -> int:
        return self._vectors.rows

    def rank(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Numbers of the texts for each query, best first.

        Args:
            queries: What is searched for.
            depth: At most so many for each.
        """
        if not queries:
            return []
        numbers, _ = self.top_k(self._embedder.embed_queries([encodable(query) for query in queries]), depth)
        return [list(row) for row in numbers.tolist()]

    def top_k(self, queries: NDArray[np.float32], depth: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The texts that are nearest to each query, best first, of equally near ones the earlier first.

        Args:
            queries: Vectors of unit length: [queries, dimension].
            depth: At most so many for each.

        Returns:
            Numbers of the texts and their cosines, each [queries, depth or as many as there are texts].
        """
        held = np.full((len(queries), min(depth, len(self))), -1, dtype=np.int64)
        if held.size:
            asked, begin = fixed_point(queries).astype(np.float32), 0
            for block in self._vectors.blocks(_TEXTS_AT_ONCE):
                texts = block.astype(np.float32).T
                for some in range(0, len(asked), _QUERIES_AT_ONCE):
                    part = slice(some, some + _QUERIES_AT_ONCE)
                    held[part] = _merged(held[part], asked[part] @ texts, begin)
                begin += len(block)
        best = np.flip(np.sort(held, axis=1), axis=1)
        numbers = (_LAST_NUMBER - (best & _LAST_NUMBER)).astype(np.int32)
        return numbers, (_products(best) / SCALE**2).astype(np.float32)


def _merged(held: _Keys, products: NDArray[np.float32], begin: int) -> _Keys:
    """The best of those held so far and of a block of later texts.

    Args:
        held: [queries, depth], in no order; -1 where there is none yet.
        products: Of the queries with the block: [queries, texts].
        begin: The number of the block's first text.
    """
    worst = _products(held.min(axis=1)).astype(np.float32)
    better = products > worst[:, None]  # an equal one comes later than what is held: no better
    rows, columns = np.divmod(np.flatnonzero(better), products.shape[1])
    if not len(rows):
        return held
    counts = np.bincount(rows, minlength=len(held))
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    fresh = np.full((len(held), counts.max()), -1, dtype=np.int64)
    fresh[rows, places] = _keys(products[rows, columns], begin + columns)
    both = np.concatenate([held, fresh], axis=1)
    first = both.shape[1] - held.shape[1]
    return np.partition(both, first, axis=1)[:, first:]


def _keys(products: NDArray[np.float32], numbers: NDArray[np.int64]) -> _Keys:
    keys: _Keys = (products.astype(np.int64) + _LIMIT) << _NUMBER_BITS
    return keys | (_LAST_NUMBER - numbers)


def _products(keys: _Keys) -> NDArray[np.int64]:
    """The dot products of keys; of a place that holds none yet, less than any."""
    return (keys >> _NUMBER_BITS) - _LIMIT
