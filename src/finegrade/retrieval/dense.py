"""Exact dense search: the vectors of a bi-encoder in a file, compared with each query, a block at a time.

Results are those of sorting all dot products of the stored vectors, equal ones by the lower number. Vectors are whole
numbers, whose sums float32 holds exactly (SCALE): no block size, thread or machine changes a digit, and ties are ties.
1 M texts of 384 dimensions are a file of 768 MB, which every call reads once: ask for some thousand queries at a time.
Memory does not grow with the texts (benchmarks/mining.py).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.models.scorers import BiEncoder
from finegrade.storage.atomic import read_json, write_json
from finegrade.text import content_hash, encodable

SCALE = 4_000
"""Components are whole numbers of 1/4,000, in two bytes. Every part of a dot product is then a whole number below 2^24
(Cauchy and Schwarz; up to 12,000 dimensions). Rounding moves a cosine by about 0.0001. float16 promises neither."""

BLOCK = 1_024
"""Texts that are embedded together or not at all. A vector's last digits may depend on its batch; fixed blocks make
resumed runs identical. A kill costs one block."""

_LENGTH_ERROR = 0.01
_BYTES = np.dtype(np.int16).itemsize

Embed = Callable[[Sequence[str]], NDArray[np.float32]]  # texts -> their vectors of unit length: [texts, dimension]


def fixed_point(vectors: NDArray[np.float32]) -> NDArray[np.int16]:
    """Vectors of unit length, [vectors, dimension], in units of 1/4,000; an InputError where one has another length."""
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = lengths[~(np.abs(lengths - 1) <= _LENGTH_ERROR)]  # what is no number, too
    if len(wrong):
        got = f"{len(wrong)} of {len(lengths)} of other lengths, such as {wrong[0]:.3g}"
        remedy = "Name another model: this one's weights are damaged, or it does not normalise."
        raise InputError("the bi-encoder's vectors", got=got, wanted="vectors of unit length", remedy=remedy)
    return np.rint(vectors * SCALE).astype(np.int16)


class VectorFile:
    """The vectors of some texts, in order, on disk: [rows, dimension].

    Args:
        folder: For the file and its manifest, which lists the blocks of texts that are stored.
        made_for: Names model and settings; vectors that were made for others are made again.
    """

    def __init__(self, folder: Path, made_for: str) -> None:
        self._path, self._manifest, self._made_for = folder / "vectors.int16", folder / "manifest.json", made_for
        self.rows, self.dimension = 0, 0
        self._digests: list[str] = []

    def write(self, texts: Iterable[str], embed: Embed, total: int) -> None:
        """Makes the file hold these texts' vectors; its first blocks are kept as far as they are of the same texts.

        Texts are read once, and embedded a block at a time; ``total`` is their number, for the progress.
        """
        encoded = map(encodable, texts)
        left = iter(lambda: list(islice(encoded, BLOCK)), [])
        first = self._keep(left)
        self._save()  # before anything is written over
        with self._path.open("rb+" if self._path.exists() else "wb") as file:
            if first:
                with progress("embedding the corpus", total, self.rows) as meter:
                    for block in chain([first], left):
                        self._append(file, block, fixed_point(embed(block)))
                        meter.advance(len(block))
            file.truncate(self.rows * self.dimension * _BYTES)

    def blocks(self, rows: int) -> Iterator[NDArray[np.int16]]:
        """Yields the vectors, ``rows`` at a time: [rows or fewer, dimension]. Mapped pages would count as memory."""
        with self._path.open("rb") as file:
            for begin in range(0, self.rows, rows):
                values = np.fromfile(file, np.int16, min(rows, self.rows - begin) * self.dimension)
                yield values.reshape(-1, self.dimension)

    def _keep(self, left: Iterator[list[str]]) -> list[str]:
        """Takes blocks as long as the file holds them; returns the first that it does not hold, if there is one."""
        dimension, digests = self._read_manifest()
        for index, block in enumerate(left):
            if index >= len(digests) or self._digest(block) != digests[index]:
                return block
            self.rows, self.dimension = self.rows + len(block), dimension
            self._digests.append(digests[index])
        return []

    def _read_manifest(self) -> tuple[int, list[str]]:
        """Dimension, and the digests of the blocks; none where manifest or file are missing or damaged."""
        try:
            found = read_json(self._manifest)
            dimension, rows, digests = int(found["dimension"]), int(found["rows"]), list(found["blocks"])
            is_whole = self._path.stat().st_size >= rows * dimension * _BYTES
        except (OSError, ValueError, KeyError, TypeError):
            return 0, []
        return (dimension, digests) if is_whole else (0, [])

    def _append(self, file: BinaryIO, block: Sequence[str], vectors: NDArray[np.int16]) -> None:
        self.dimension = vectors.shape[1]
        file.seek(self.rows * self.dimension * _BYTES)
        file.write(vectors.tobytes())
        file.flush()
        os.fsync(file.fileno())
        self.rows += len(block)
        self._digests.append(self._digest(block))
        self._save()  # last: it says that the block is there

    def _save(self) -> None:
        write_json(self._manifest, {"dimension": self.dimension, "rows": self.rows, "blocks": self._digests})

    def _digest(self, block: Sequence[str]) -> str:
        return content_hash(f"{self._made_for} {SCALE}", *block)


_LIMIT = 1 << 24  # dot products are whole numbers between -_LIMIT and _LIMIT
_NUMBER_BITS = 31
_LAST_NUMBER = (1 << _NUMBER_BITS) - 1

_Keys = NDArray[np.int64]  # dot product and number of a text in one: of two, the larger key is the better hit


class DenseIndex:
    """An index of texts, on disk.

    Args:
        texts, total: What is searched, read once and not kept; and how many texts there are, for the progress.
        embedder, made_for: Gives the vectors, and the name of it and its settings.
        folder: Holds the vectors; those that are there and were made of the same texts are kept.
        at_once: Texts and queries that are compared together; they bound the memory.
    """

    def __init__(
        self, texts: Iterable[str], embedder: BiEncoder, folder: Path, made_for: str, total: int,
        at_once: tuple[int, int] = (8_192, 256),
    ) -> None:  # fmt: skip
        self._embedder, (self._texts_at_once, self._queries_at_once) = embedder, at_once
        self._vectors = VectorFile(folder, made_for)
        self._vectors.write(texts, embedder.embed_documents, total)

    def __len__(self) -> int:
        return self._vectors.rows

    def rank(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Numbers of at most ``depth`` texts for each query, best first."""
        if not queries:
            return []
        numbers, _ = self.top_k(self._embedder.embed_queries([encodable(query) for query in queries]), depth)
        return [list(row) for row in numbers.tolist()]

    def top_k(self, queries: NDArray[np.float32], depth: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The texts that are most similar to each query, best first, of equal ones the earlier first.

        Args:
            queries: Vectors of unit length: [queries, dimension].
            depth: At most so many for each.

        Returns:
            Numbers of the texts and their cosines, each [queries, depth or as many as there are texts].
        """
        held = np.full((len(queries), min(depth, len(self))), -1, dtype=np.int64)
        if held.size:
            searched, begin = fixed_point(queries).astype(np.float32), 0
            for block in self._vectors.blocks(self._texts_at_once):
                texts = block.astype(np.float32).T
                for some in range(0, len(searched), self._queries_at_once):
                    part = slice(some, some + self._queries_at_once)
                    held[part] = _merged(held[part], searched[part] @ texts, begin)
                begin += len(block)
        best = np.flip(np.sort(held, axis=1), axis=1)
        numbers = (_LAST_NUMBER - (best & _LAST_NUMBER)).astype(np.int32)
        return numbers, (_products(best) / SCALE**2).astype(np.float32)


def _merged(held: _Keys, products: NDArray[np.float32], begin: int) -> _Keys:
    """The best of those held so far, [queries, depth], in no order, -1 where there is none yet, and of a later block.

    ``products`` are those of the queries with the block, [queries, texts]; ``begin`` is the number of its first text.
    """
    worst = _products(held.min(axis=1)).astype(np.float32)
    better = products > worst[:, None]  # an equal one comes later than what is held: no better
    rows, columns = np.divmod(np.flatnonzero(better), products.shape[1])
    if not len(rows):
        return held
    counts = np.bincount(rows, minlength=len(held))
    positions = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    fresh = np.full((len(held), counts.max()), -1, dtype=np.int64)
    keys = (products[rows, columns].astype(np.int64) + _LIMIT) << _NUMBER_BITS
    fresh[rows, positions] = keys | (_LAST_NUMBER - (begin + columns))
    both = np.concatenate([held, fresh], axis=1)
    first = both.shape[1] - held.shape[1]
    return np.partition(both, first, axis=1)[:, first:]


def _products(keys: _Keys) -> NDArray[np.int64]:
    """The dot products of keys; of a position that holds none yet, less than any."""
    return (keys >> _NUMBER_BITS) - _LIMIT
