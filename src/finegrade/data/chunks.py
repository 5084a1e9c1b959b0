"""Documents to a file of pieces: read once, cleaned, cut, equal ones left out; memory does not grow with them."""

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.config import SourceConfig
from finegrade.console import progress, say
from finegrade.data.chunking import SAMPLE, CountTokens, chunk_document, repeated_lines, without_lines
from finegrade.data.documents import DocumentSource
from finegrade.data.readers.document import Block, Document, Unread
from finegrade.data.splitting import choose_groups
from finegrade.errors import InputError
from finegrade.records import Chunk
from finegrade.retrieval.shingle_index import ShingleIndex
from finegrade.text import content_hash, encodable, normalised

PIECES = pa.schema([("text", pa.string()), ("path", pa.string()), ("heading", pa.string()), ("offset", pa.int64())])
"""Columns of the file of pieces; the text begins with the heading."""

MIN_LETTERS, MIN_LETTER_SHARE = 60, 0.5
"""A piece with fewer letters, or a smaller share of letters among its characters, holds no prose to search for."""

_PIECES_AT_ONCE = 5_000
_LEARNT_FROM = 20_000_000  # characters
_WIDE = "\u2e80"  # from here on a character is worth about three letters: Chinese, Japanese, Korean


def write_pieces(
    documents: DocumentSource, pieces: Path, unused: Path, limit: int, count: CountTokens,
    required: Collection[str] = (), all_of_it: bool = False,
) -> Counter[str]:  # fmt: skip
    """Reads everything once, and counts documents, pieces and, by reason, what was left out.

    Args:
        documents: What to read.
        pieces: Parquet file to write, with the columns of PIECES.
        unused: JSONL file to write: what gave no document, and why.
        limit: Tokens at most in a piece.
        count: Counts tokens.
        required: Paths of documents of which every piece is kept: they are judged.
        all_of_it: Whether short pieces and those with little prose are kept, too: a judged corpus is searched whole.

    Raises:
        InputError: Nothing is left.
    """
    counts: Counter[str] = Counter(documents=0, pieces=0)
    seen: set[int] = set()
    with pq.ParquetWriter(pieces, PIECES) as table, unused.open("w", encoding="utf-8") as aside:
        rows: list[dict[str, Any]] = []
        for document in _cleaned(_read_pieces(documents, aside, counts), counts):
            counts["documents"] += 1
            for piece in chunk_document(document, limit, count):
                text = f"{piece.heading}: {piece.text}" if piece.heading else piece.text
                key = int(content_hash(normalised(piece.text)), 16)
                is_repeat, reason = key in seen, None
                seen.add(key)
                if document.path not in required:
                    reason = "same as another piece" if is_repeat else None if all_of_it else _too_little(piece.text)
                counts[reason or "pieces"] += 1
                if not reason:
                    rows.append({"text": text, "path": document.path, "heading": piece.heading, "offset": piece.offset})
            if len(rows) >= _PIECES_AT_ONCE:
                table.write_batch(pa.RecordBatch.from_pylist(rows, PIECES))
                rows.clear()
        table.write_batch(pa.RecordBatch.from_pylist(rows, PIECES))
    if not counts["pieces"]:
        got = ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "nothing in it"
        remedy = "Name others, or lower source.chunk_tokens."
        raise InputError(documents.name, got=got, wanted="documents with prose", remedy=remedy)
    return counts


def _read_pieces(documents: DocumentSource, aside: IO[str], counts: Counter[str]) -> Iterator[Document]:
    """The documents, with progress; what is none is written down."""
    guessed: dict[str, str] = {}
    behind, number = 0, 0
    with progress("reading documents (kB)", documents.size / 1e3) as meter:
        for position, found in documents.read(guessed.__setitem__):
            meter.advance((position - behind) / 1e3)
            behind, number = position, number + 1
            meter.note(f"{number:,} documents")
            if isinstance(found, Unread):
                counts["not read"] += 1
                aside.write(json.dumps({"path": found.path, "reason": found.reason}) + "\n")
            else:
                blocks = [Block(encodable(b.heading), encodable(b.text), b.offset) for b in found.blocks]
                yield Document(encodable(found.path), blocks)
        meter.advance((documents.size - behind) / 1e3)
    if guessed:
        counts["encoding guessed"] = len(guessed)
        path, encoding = next(iter(guessed.items()))
        say(f"warning: {len(guessed)} files are not UTF-8, their encoding was guessed (first: {path}, {encoding})")


def _cleaned(documents: Iterator[Document], counts: Counter[str]) -> Iterator[Document]:
    """Without the lines that repeat, which are learnt from the first documents: as many as memory can hold."""
    first: list[Document] = []
    size = 0
    for document in islice(documents, SAMPLE):
        first.append(document)
        size += sum(len(block.text) for block in document.blocks)
        if size > _LEARNT_FROM:
            break
    repeated = repeated_lines(first)
    for document in chain(first, documents):
        cleaned, gone = without_lines(document, repeated)
        counts["lines of boilerplate"] += gone
        yield cleaned


def _too_little(text: str) -> str | None:
    """Why a piece is left out, or None."""
    letters = sum(map(str.isalpha, text))
    if letters + 2 * sum(character >= _WIDE for character in text) < MIN_LETTERS:
        return "too short"
    if letters < MIN_LETTER_SHARE * sum(not character.isspace() for character in text):
        return "little prose"
    return None


FEW_DOCUMENTS = 10
"""With fewer documents than this, their top-level sections are the groups that train and test are split by."""

FEW_SECTIONS = 5
"""Sections are groups where a document has at least so many of them."""

SECTION_PIECES = 20
"""Where there are no sections either, so many pieces in a row are one."""

_NO_TEXT = ["path", "heading"]  # columns that say how pieces fall into groups
_BATCH = 2_000
_Piece = dict[str, Any]  # a row of the file of pieces, with its group


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
    sizes = Counter(piece["group"] for piece in _read(pieces, sections, _NO_TEXT))
    if held_out:
        test_groups = {piece["group"] for piece in _read(pieces, sections, _NO_TEXT) if piece["path"] in held_out}
        if not test_groups:
            got, wanted = f"none of the {len(held_out):,} documents that they name", "documents that are there"
            raise InputError("the test judgements", got=got, wanted=wanted, remedy="Check the ids in qrels and corpus.")
    else:
        test_groups = choose_groups(sizes, source.test_groups, source.test_share, seed)

    def order(piece: _Piece) -> tuple[bool, bool, str]:
        return piece["path"] not in held_out, piece["path"] not in required, content_hash(str(seed), piece["text"])

    drawn = heapq.nsmallest(source.max_chunks, _read(pieces, sections), key=order)
    counts["over source.max_chunks"] += sizes.total() - len(drawn)
    drawn.sort(key=lambda piece: (piece["group"] not in test_groups, order(piece)))
    index, chunks = ShingleIndex(), []
    for piece in drawn:
        if index.contains(piece["text"]):
            counts["nearly the same as another chunk"] += 1
            continue
        index.add(piece["text"])
        side = "test" if piece["group"] in test_groups else "train"
        chunks.append(Chunk.model_validate({**piece, "id": content_hash(piece["text"]), "side": side}))
    sides = Counter(chunk.side for chunk in chunks)
    if len(sides) < 2:
        got = f"{sides['train']} chunks to train on, {sides['test']} to test with"
        remedy = "Give more documents, of more than one file or section."
        raise InputError("the documents", got=got, wanted="both", remedy=remedy)
    return chunks


def _sections(pieces: Path) -> dict[str, int] | None:
    """Document -> how many levels of headings name its groups (0: none does); None where whole documents are groups."""
    headings: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for batch in pq.ParquetFile(pieces).iter_batches(_BATCH, columns=_NO_TEXT):
        for row in batch.to_pylist():
            headings[row["path"]][row["heading"]] = None
            if len(headings) >= FEW_DOCUMENTS:
                return None

    def names_groups(found: Iterable[str], depth: int) -> bool:
        return len({_top(heading, depth) for heading in found}) >= FEW_SECTIONS

    return {path: next((n for n in (1, 2, 3) if names_groups(found, n)), 0) for path, found in headings.items()}


def _top(heading: str, depth: int) -> str:
    return " > ".join(heading.split(" > ")[:depth])


def _read(pieces: Path, sections: Mapping[str, int] | None, columns: Sequence[str] | None = None) -> Iterator[_Piece]:
    """The pieces with their groups, in all columns or in some."""
    before, number = "", 0
    for batch in pq.ParquetFile(pieces).iter_batches(_BATCH, columns=columns):
        for row in batch.to_pylist():
            path = row["path"]
            number = number + 1 if path == before else 0
            before = path
            if sections is None:
                row["group"] = path
            elif sections[path]:
                row["group"] = f"{path} > {_top(row['heading'], sections[path])}"
            else:
                row["group"] = f"{path}, part {number // SECTION_PIECES + 1}"
            yield row
