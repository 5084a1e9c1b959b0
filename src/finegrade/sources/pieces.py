"""Documents to a file of pieces: read once, cleaned, cut, equal ones left out; memory does not grow with them."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.console import progress, say
from finegrade.errors import InputError
from finegrade.sources.boilerplate import SAMPLE, repeated_lines, without_lines
from finegrade.sources.chunking import chunk_document
from finegrade.sources.document import Block, Document, Unread
from finegrade.sources.documents import DocumentSource
from finegrade.sources.tokens import CountTokens
from finegrade.text import content_hash, encodable, normalised

PIECES = pa.schema([("text", pa.string()), ("path", pa.string()), ("heading", pa.string()), ("offset", pa.int64())])
"""Columns of the file of pieces; the text begins with the heading."""

MIN_LETTERS, MIN_LETTER_SHARE = 60, 0.5
"""A piece with fewer letters, or a smaller share of letters among its signs, holds no prose to search for."""

_BATCH = 5_000
_LEARNT_FROM = 20_000_000  # characters
_WIDE = "\u2e80"  # from here on a sign is worth about three letters: Chinese, Japanese, Korean


def write_pieces(
    documents: DocumentSource, pieces: Path, unused: Path, limit: int, count: CountTokens,
    required: Collection[str] = (), all_of_it: bool = False,
) -> Counter[str]:  # fmt: skip
    """Reads everything once.

    Args:
        documents: What to read.
        pieces: Parquet file to write, with the columns of PIECES.
        unused: JSONL file to write: what gave no document, and why.
        limit: Tokens at most in a piece.
        count: Counts tokens.
        required: Paths of documents of which every piece is kept: somebody has judged them.
        all_of_it: Whether short pieces and those with little prose are kept, too: a judged corpus is searched whole.

    Returns:
        How many documents and pieces there are, and what was left out, by reason.

    Raises:
        InputError: Nothing is left.
    """
    counts: Counter[str] = Counter(documents=0, pieces=0)
    seen: set[int] = set()
    with pq.ParquetWriter(pieces, PIECES) as table, unused.open("w", encoding="utf-8") as aside:
        rows: list[dict[str, Any]] = []
        for document in _cleaned(_read(documents, aside, counts), counts):
            counts["documents"] += 1
            for piece in chunk_document(document, limit, count):
                text = f"{piece.heading}: {piece.text}" if piece.heading else piece.text
                is_repeat = _is_repeat(piece.text, seen)
                reason = None
                if document.path not in required:
                    reason = "same as another piece" if is_repeat else None if all_of_it else _too_little(piece.text)
                counts[reason or "pieces"] += 1
                if not reason:
                    rows.append({"text": text, "path": document.path, "heading": piece.heading, "offset": piece.offset})
            if len(rows) >= _BATCH:
                table.write_batch(pa.RecordBatch.from_pylist(rows, PIECES))
                rows.clear()
        table.write_batch(pa.RecordBatch.from_pylist(rows, PIECES))
    if not counts["pieces"]:
        got = ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "nothing in it"
        remedy = "Name others, or lower source.chunk_tokens."
        raise InputError(documents.name, got=got, wanted="documents with prose", remedy=remedy)
    return counts


def _read(documents: DocumentSource, aside: IO[str], counts: Counter[str]) -> Iterator[Document]:
    """The documents, with progress; what is none is written down."""
    guessed: dict[str, str] = {}
    behind, number = 0, 0
    with progress("reading documents (kB)", documents.size / 1e3) as meter:
        for place, found in documents.read(guessed.__setitem__):
            meter.advance((place - behind) / 1e3)
            behind, number = place, number + 1
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
    """Without the lines that repeat, which are learnt from the first documents."""
    first = _first(documents)
    repeated = repeated_lines(first)
    for document in chain(first, documents):
        cleaned, gone = without_lines(document, repeated)
        counts["lines of boilerplate"] += gone
        yield cleaned


def _first(documents: Iterator[Document]) -> list[Document]:
    """The documents to learn from: not so many that they fill the memory."""
    first: list[Document] = []
    size = 0
    for document in islice(documents, SAMPLE):
        first.append(document)
        size += sum(len(block.text) for block in document.blocks)
        if size > _LEARNT_FROM:
            break
    return first


def _too_little(text: str) -> str | None:
    """Why a piece is left out, or None."""
    letters = sum(map(str.isalpha, text))
    if letters + 2 * sum(sign >= _WIDE for sign in text) < MIN_LETTERS:
        return "too short"
    if letters < MIN_LETTER_SHARE * sum(not sign.isspace() for sign in text):
        return "little prose"
    return None


def _is_repeat(text: str, seen: set[int]) -> bool:
    key = int(content_hash(normalised(text)), 16)
    if key in seen:
        return True
    seen.add(key)
    return False
