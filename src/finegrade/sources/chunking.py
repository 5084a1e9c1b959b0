"""Documents to chunks: what stands under one heading, cut between sentences where it is too long."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from finegrade.sources.document import Document
from finegrade.sources.tokens import CountTokens

SMALL = 0.3
"""A piece below this share of the limit is joined with what follows it, across a heading too."""

_MAX_HEADING = 200
_SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)\]]*(?=\s)|[。！？]|\n\s*\n|\Z)", re.DOTALL)


class Piece(NamedTuple):
    """A chunk of a document.

    Attributes:
        heading: Above its beginning.
        text: White space folded, without the heading.
        offset: Of its beginning, in characters.
    """

    heading: str
    text: str
    offset: int


class _Unit(NamedTuple):
    heading: str
    text: str
    offset: int
    tokens: int
    above: int  # tokens of the heading


def chunk_document(document: Document, limit: int, count: CountTokens) -> Iterator[Piece]:
    """Yields the chunks of a document, in order.

    Args:
        document: The document.
        limit: Tokens at most in a chunk, its heading included (as far as sentences can be cut between words).
        count: Counts tokens.
    """
    waiting: list[_Unit] = []
    size = 0
    for unit in _units(document, limit, count):
        new_section = not waiting or unit.heading != waiting[-1].heading
        cost = unit.tokens + (unit.above if new_section else 0)
        if waiting and (size + cost > limit or (new_section and size >= SMALL * limit)):
            yield _piece(waiting)
            waiting, size, cost = [], 0, unit.tokens + unit.above
        waiting.append(unit)
        size += cost
    if waiting:
        yield _piece(waiting)


def _piece(units: Sequence[_Unit]) -> Piece:
    told = [units[0].text]
    for before, unit in pairwise(units):
        if unit.heading != before.heading and unit.heading:
            told.append(f"{unit.heading.rpartition(' > ')[2]}:")
        told.append(unit.text)
    return Piece(units[0].heading, " ".join(told), units[0].offset)


def _units(document: Document, limit: int, count: CountTokens) -> list[_Unit]:
    """Sentences with their tokens; one that is too long alone is cut between words."""
    found = []
    for block in document.blocks:
        heading = _cut_heading(block.heading)
        for match in _SENTENCE.finditer(block.text):
            text = " ".join(match[0].split())
            if text:
                found.append((heading, text, block.offset + match.start()))
    headings = list(dict.fromkeys(heading for heading, _, _ in found))
    above = dict(zip(headings, count(headings), strict=True)) if headings else {}
    units = []
    for (heading, text, offset), tokens in zip(found, count([text for _, text, _ in found]), strict=True):
        room = max(limit // 2, limit - above[heading])
        parts = _cut(text, -(-tokens // room)) if tokens > room else [text]
        for part in parts:
            units.append(_Unit(heading, part, offset, -(-tokens // len(parts)), above[heading]))
            offset += len(part) + 1
    return units


def _cut(text: str, parts: int) -> list[str]:
    words = text.split()
    if len(words) < parts:  # one word without an end, or a language without spaces
        size = -(-len(text) // parts)
        return [text[i : i + size] for i in range(0, len(text), size)]
    size = -(-len(words) // parts)
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]


def _cut_heading(heading: str) -> str:
    """The innermost headings, as many as fit."""
    while len(heading) > _MAX_HEADING and " > " in heading:
        heading = heading.partition(" > ")[2]
    return heading[:_MAX_HEADING]
