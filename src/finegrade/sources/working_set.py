"""From all pieces to the chunks that a run works with: drawn, split by group, without near-duplicates."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from finegrade.config import SourceConfig
from finegrade.errors import InputError
from finegrade.records import Chunk
from finegrade.sources.splitting import NearDuplicates, choose_groups
from finegrade.text import content_hash

FEW_DOCUMENTS = 10
"""With fewer documents than this, their top-level sections are the groups that train and test are split by."""

FEW_SECTIONS = 5
"""Sections are groups where a document has at least so many of them."""

SECTION_PIECES = 20
"""Where there are no sections either, so many pieces in a row are one."""


_NO_TEXT = ["path", "heading"]  # columns that say how pieces fall into groups
_BATCH = 2_000


@dataclass(frozen=True)
class Grouped:
    """One row of the file of pieces, with its group."""

    path: str
    heading: str
    group: str
    text: str = ""
    offset: int = 0


def choose_chunks(
    pieces: Path, source: SourceConfig, held_out: Collection[str], required: Collection[str], seed: int,
    counts: Counter[str],
) -> list[Chunk]:  # fmt: skip
    """The chunks that a run works with, those of test first.

    Args:
        pieces: Parquet file with the columns of PIECES, in the order of the documents.
        source: Says how many chunks, and how they are split.
        held_out: Documents that are test, where this is known already; then all others are train.
        required: Documents whose chunks are taken in any case.
        seed: Of the draws.
        counts: Gets what was left out, by reason.

    Raises:
        InputError: One side is left empty.
    """
    sections = _sections(pieces)
    sizes = Counter(piece.group for piece in _read(pieces, sections, _NO_TEXT))
    if held_out:
        test_groups = {piece.group for piece in _read(pieces, sections, _NO_TEXT) if piece.path in held_out}
        if not test_groups:
            got, wanted = f"none of the {len(held_out):,} documents that they name", "documents that are there"
            raise InputError("the test judgements", got=got, wanted=wanted, remedy="Check the ids in qrels and corpus.")
    else:
        test_groups = choose_groups(sizes, source.test_groups, source.test_share, seed)

    def order(piece: Grouped) -> tuple[bool, bool, str]:
        return piece.path not in held_out, piece.path not in required, content_hash(str(seed), piece.text)

    drawn = heapq.nsmallest(source.max_chunks, _read(pieces, sections), key=order)
    counts["over source.max_chunks"] += sizes.total() - len(drawn)
    drawn.sort(key=lambda piece: (piece.group not in test_groups, order(piece)))
    index, chunks = NearDuplicates(), []
    for piece in drawn:
        if index.contains(piece.text):
            counts["nearly the same as another chunk"] += 1
            continue
        index.add(piece.text)
        chunks.append(_chunk(piece, "test" if piece.group in test_groups else "train"))
    sides = Counter(chunk.side for chunk in chunks)
    if len(sides) < 2:
        got = f"{sides['train']} chunks to train on, {sides['test']} to test with"
        remedy = "Give more documents, of more than one file or section."
        raise InputError("the documents", got=got, wanted="both", remedy=remedy)
    return chunks


def _chunk(piece: Grouped, side: Literal["train", "test"]) -> Chunk:
    return Chunk(
        id=content_hash(piece.text),
        text=piece.text,
        path=piece.path,
        offset=piece.offset,
        heading=piece.heading,
        group=piece.group,
        side=side,
    )


def _sections(pieces: Path) -> dict[str, int] | None:
    """Document -> how many levels of headings name its groups (0: none does); None where whole documents are groups."""
    headings: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for batch in pq.ParquetFile(pieces).iter_batches(_BATCH, columns=_NO_TEXT):
        for row in batch.to_pylist():
            headings[row["path"]][row["heading"]] = None
            if len(headings) >= FEW_DOCUMENTS:
                return None
    return {path: _depth(found) for path, found in headings.items()}


def _depth(headings: Iterable[str]) -> int:
    for depth in (1, 2, 3):
        if len({_top(heading, depth) for heading in headings}) >= FEW_SECTIONS:
            return depth
    return 0


def _top(heading: str, depth: int) -> str:
    return " > ".join(heading.split(" > ")[:depth])


def _read(pieces: Path, sections: Mapping[str, int] | None, columns: Sequence[str] | None = None) -> Iterator[Grouped]:
    """The pieces with their groups; where only some columns are wanted the others stay empty."""
    before, number = "", 0
    for batch in pq.ParquetFile(pieces).iter_batches(_BATCH, columns=columns):
        for row in batch.to_pylist():
            path = row["path"]
            number = number + 1 if path == before else 0
            before = path
            if sections is None:
                group = path
            elif sections[path]:
                group = f"{path} > {_top(row['heading'], sections[path])}"
            else:
                group = f"{path}, part {number // SECTION_PIECES + 1}"
            yield Grouped(**row, group=group)
