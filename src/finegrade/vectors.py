"""Vectors of texts in a file, embedded a block at a time: what is done once is not done again after a kill.

A component is a whole number of 1/4,000, in two bytes. The dot product of two such vectors is then a whole number below
2^24, and so is every part of the sum (Cauchy and Schwarz), which float32 holds without rounding, in whatever order a
library adds: no block size, thread or machine changes a score or a rank, and equal texts tie. float16 is as large, but
promises nothing of that, and is slower to turn into float32 (0.5 GB/s, here 1.9). The rounding moves a cosine by about
0.0001 (standard deviation: sqrt(2/12)/4,000, for any dimension), far less than such a model errs.
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
from finegrade.storage.atomic import read_json, write_json
from finegrade.text import content_hash, encodable

SCALE = 4_000
"""Of a component. With it sums stay below 2^24 up to 12,000 dimensions."""

BLOCK = 1_024
"""Texts that are embedded together or not at all: what a kill can cost. Some models give a text other last digits in
other company, and an interrupted run shall end as an uninterrupted one."""

_LENGTH_ERROR = 0.01
_BYTES = np.dtype(np.int16).itemsize

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> their vectors of unit length: [texts, dimension]."""


def fixed_point(vectors: NDArray[np.float32]) -> NDArray[np.int16]:
    """Vectors of unit length as they are stored: [vectors, dimension], in units of 1/4,000.

    Raises:
        InputError: One is not of unit length.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = lengths[~(np.abs(lengths - 1) <= _LENGTH_ERROR)]  # what is no number, too
    if len(wrong):
        got = f"{len(wrong)} of {len(lengths)} of other lengths, such as {wrong[0]:.3g}"
        remedy = "Name another model: this one's weights are damaged, or it does not normalise."
        raise InputError("the bi-encoder's vectors", got=got, wanted="vectors of unit length", remedy=remedy)
    return np.rint(vectors * SCALE).astype(np.int16)


class VectorFile:
    """The vectors of some texts, in order, on the disk.

    Args:
        folder: For the file and its manifest, which says how many rows are whole, and of which texts.
        made_for: Names model and settings; vectors that were made for others are made again.

    Attributes:
        rows: How many vectors there are.
        dimension: Of each; 0 where there are none.
    """

    def __init__(self, folder: Path, made_for: str) -> None:
        self._path, self._manifest, self._made_for = folder / "vectors.int16", folder / "manifest.json", made_for
        self.rows, self.dimension = 0, 0
        self._digests: list[str] = []

    def write(self, texts: Iterable[str], embed: Embed, total: int) -> None:
        """Makes the file hold these texts' vectors. Blocks at its beginning that were of the same texts are kept.

        Args:
            texts: Read once, a block at a time.
            embed: Called with a block at a time.
            total: How many texts there are, for the progress.

        Raises:
            InputError: The model gives vectors that are not of unit length.
        """
        left = _blocks(texts)
        first = self._keep(left)
        self._save()  # before anything is written over: what lies beyond its rows is nobody's
        with self._path.open("rb+" if self._path.exists() else "wb") as file:
            if first:
                with progress("embedding the corpus", total, self.rows) as meter:
                    for block in chain([first], left):
                        self._append(file, block, fixed_point(embed(block)))
                        meter.advance(len(block))
            file.truncate(self.rows * self.dimension * _BYTES)

    def blocks(self, rows: int) -> Iterator[NDArray[np.int16]]:
        """The vectors, so many at a time: [rows or fewer, dimension]. Not mapped: mapped pages count as memory."""
        with self._path.open("rb") as file:
            for begin in range(0, self.rows, rows):
                values = np.fromfile(file, np.int16, min(rows, self.rows - begin) * self.dimension)
                yield values.reshape(-1, self.dimension)

    def _keep(self, left: Iterator[list[str]]) -> list[str]:
        """Takes blocks as long as the file holds them; returns the first that it does not hold, if there is one."""
        dimension, digests = self._whole()
        for place, block in enumerate(left):
            if place >= len(digests) or self._digest(block) != digests[place]:
                return block
            self.rows, self.dimension = self.rows + len(block), dimension
            self._digests.append(digests[place])
        return []

    def _whole(self) -> tuple[int, list[str]]:
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


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    left = map(encodable, texts)
    while block := list(islice(left, BLOCK)):
        yield block
