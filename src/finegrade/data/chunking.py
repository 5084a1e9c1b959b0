"""Documents to chunks: the text under one heading, cut between sentences where it is too long."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from finegrade.console import say
from finegrade.data.readers.document import Block, Document
from finegrade.models.resolve import model_path

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


CountTokens = Callable[[Sequence[str]], list[int]]
"""Tokens of each text."""

CHARS_PER_TOKEN = 4.2
"""Of English, about, where no tokenizer is at hand."""


def token_counter(backbone: str) -> CountTokens:
    """A counter for a backbone; where its folder has no tokenizer.json it counts characters, and says so."""
    from tokenizers import Tokenizer

    path = Path(model_path(backbone)) / "tokenizer.json"
    if not path.is_file():
        say(f"{path} is not there: a token is taken for {CHARS_PER_TOKEN} characters")
        return by_characters(CHARS_PER_TOKEN)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda texts: [
        len(found.ids) for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    ]


def by_characters(per_token: float) -> CountTokens:
    """A counter that needs no tokenizer: it takes so many characters for one token."""
    return lambda texts: [round(len(text) / per_token + 0.5) for text in texts]


SMALL = 0.3
"""A piece below this share of the limit is joined with what follows it, across a heading too."""

_MAX_HEADING = 200
_SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)\]]*(?=\s)|[。！？]|\n\s*\n|\Z)", re.DOTALL)


def chunk_document(document: Document, limit: int, count: CountTokens) -> Iterator[Block]:
    """Yields the pieces of a document, in order: blocks under the heading of their beginning, white space folded.

    A piece has at most ``limit`` tokens, its heading included, as far as sentences can be cut between words.
    """
    sentences = _sentences(document)
    headings = list(dict.fromkeys(sentence.heading for sentence in sentences))
    above = dict(zip(headings, count(headings), strict=True)) if headings else {}
    waiting: list[Block] = []
    size = 0
    for sentence, tokens in _cut_long(sentences, above, limit, count):
        heading_tokens = above[sentence.heading]
        new_section = not waiting or sentence.heading != waiting[-1].heading
        cost = tokens + (heading_tokens if new_section else 0)
        if waiting and (size + cost > limit or (new_section and size >= SMALL * limit)):
            yield _joined(waiting)
            waiting, size, cost = [], 0, tokens + heading_tokens
        waiting.append(sentence)
        size += cost
    if waiting:
        yield _joined(waiting)


def _joined(sentences: Sequence[Block]) -> Block:
    texts = [sentences[0].text]
    for before, sentence in pairwise(sentences):
        if sentence.heading != before.heading and sentence.heading:
            texts.append(f"{sentence.heading.rpartition(' > ')[2]}:")
        texts.append(sentence.text)
    return sentences[0]._replace(text=" ".join(texts))


def _sentences(document: Document) -> list[Block]:
    found = []
    for block in document.blocks:
        heading = block.heading
        while len(heading) > _MAX_HEADING and " > " in heading:  # the innermost ones stay, as many as fit
            heading = heading.partition(" > ")[2]
        for match in _SENTENCE.finditer(block.text):
            text = " ".join(match[0].split())
            if text:
                found.append(Block(heading[:_MAX_HEADING], text, block.offset + match.start()))
    return found


def _cut_long(
    sentences: Sequence[Block], above: Mapping[str, int], limit: int, count: CountTokens
) -> Iterator[tuple[Block, int]]:
    """Sentences with their tokens; one that is too long alone is cut between words."""
    for sentence, tokens in zip(sentences, count([one.text for one in sentences]), strict=True):
        room = max(limit // 2, limit - above[sentence.heading])
        parts = _cut(sentence.text, -(-tokens // room)) if tokens > room else [sentence.text]
        offset = sentence.offset
        for part in parts:
            yield Block(sentence.heading, part, offset), -(-tokens // len(parts))
            offset += len(part) + 1


def _cut(text: str, parts: int) -> list[str]:
    words = text.split()
    if len(words) < parts:  # one word without an end, or a language without spaces
        size = -(-len(text) // parts)
        return [text[i : i + size] for i in range(0, len(text), size)]
    size = -(-len(words) // parts)
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
