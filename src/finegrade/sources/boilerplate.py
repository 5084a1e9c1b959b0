"""Lines that stand in many documents: navigation, footers, licence headers."""

from collections import Counter
from collections.abc import Iterable

from finegrade.sources.document import Block, Document

SAMPLE = 500
"""Documents that are looked at to learn which lines repeat."""

SHARE, AT_LEAST = 0.2, 10
"""A line is boilerplate from this share of the documents on, and in no fewer than so many."""

_LONGEST = 300


def repeated_lines(documents: Iterable[Document]) -> frozenset[str]:
    """The lines that stand in so many of the documents that they say nothing about any of them."""
    counts: Counter[str] = Counter()
    number = 0
    for document in documents:
        number += 1
        counts.update({line for block in document.blocks for line in _lines(block.text)})
    needed = max(AT_LEAST, SHARE * number)
    return frozenset(line for line, count in counts.items() if count >= needed)


def without_lines(document: Document, repeated: frozenset[str]) -> tuple[Document, int]:
    """The document without these lines, and how many went."""
    if not repeated:
        return document, 0
    blocks: list[Block] = []
    gone = 0
    for block in document.blocks:
        lines = block.text.splitlines(keepends=True)
        kept = [line for line in lines if " ".join(line.split()) not in repeated]
        gone += len(lines) - len(kept)
        if any(line.strip() for line in kept):
            first = next(i for i, line in enumerate(lines) if " ".join(line.split()) not in repeated)
            skipped = sum(map(len, lines[:first]))
            blocks.append(Block(block.heading, "".join(kept), block.offset + skipped))
    return Document(document.path, blocks), gone


def _lines(text: str) -> set[str]:
    return {folded for line in text.splitlines() if 0 < len(folded := " ".join(line.split())) <= _LONGEST}
