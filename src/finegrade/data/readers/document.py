"""Documents made of blocks under headings: what every format is read into; from plain text, Markdown and PDF."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from finegrade.errors import InputError


class Block(NamedTuple):
    """A paragraph, list, table or code block.

    Attributes:
        heading: The headings above it, outermost first, joined by " > "; empty where there are none.
        text: As it stands in the document, without markup.
        offset: Characters from the document's beginning: of the source for text and Markdown, of the extracted text for
            HTML and PDF.
    """

    heading: str
    text: str
    offset: int


class Document(NamedTuple):
    """A document by its path in the named folder; rows of a table carry their id or number after a "#"."""

    path: str
    blocks: list[Block]


class Unread(NamedTuple):
    """Something that gave no document, and why."""

    path: str
    reason: str


def paragraphs(text: str, heading: str = "") -> list[Block]:
    """The paragraphs of a plain text, which blank lines separate."""
    blocks = []
    start: int | None = None
    position = 0
    for line in [*text.splitlines(keepends=True), "\n"]:
        if line.strip():
            start = position if start is None else start
        elif start is not None:
            blocks.append(Block(heading, text[start:position], start))
            start = None
        position += len(line)
    return blocks


_FRONT_MATTER = re.compile(r"\A---\n.*?\n(?:---|\.\.\.)\n", re.DOTALL)
_PARSER = MarkdownIt("commonmark").enable("table")


def markdown_blocks(text: str) -> list[Block]:
    """Blocks under their headings; front matter and raw HTML are left out, of links and images the words stay."""
    front = _FRONT_MATTER.match(text)
    begin = front.end() if front else 0
    starts = [begin]
    for line in text[begin:].split("\n"):  # as markdown-it counts lines; str.splitlines knows more ends
        starts.append(starts[-1] + len(line) + 1)
    blocks: list[Block] = []
    headings: list[tuple[int, str]] = []
    for tokens in _top_level(_PARSER.parse(text[begin:])):
        first = tokens[0]
        words = "\n".join(_plain(token) for token in tokens if token.type in ("inline", "fence", "code_block")).strip()
        if first.type == "heading_open":
            level = int(first.tag[1])
            headings = [h for h in headings if h[0] < level] + [(level, " ".join(words.split()))]
        elif words:
            row = first.map[0] if first.map else 0
            blocks.append(Block(" > ".join(h for _, h in headings if h), words, starts[min(row, len(starts) - 1)]))
    return blocks


def _top_level(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each block that is in no other."""
    groups: list[list[Token]] = []
    depth = 0
    for token in tokens:
        if depth == 0:
            groups.append([])
        groups[-1].append(token)
        depth += token.nesting
    return groups


def _plain(token: Token) -> str:
    if token.type != "inline":
        return token.content
    words = []
    for child in token.children or ():
        if child.type in ("text", "code_inline") or child.type == "image":
            words.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            words.append("\n")
    return "".join(words)


MAX_PAGES = 5_000


def pdf_blocks(path: Path) -> list[Block]:
    """The paragraphs of a PDF file, each under its page; ValueError where it cannot be read."""
    try:
        import pypdf
    except ImportError:
        remedy = 'Install it: pip install "finegrade[pdf]". Or leave the PDF files out of the folder.'
        raise InputError(str(path), got="no pypdf", wanted="pypdf to read PDF files", remedy=remedy) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # we report what is wrong with a file, once
    try:
        pages = pypdf.PdfReader(path).pages
        texts = [page.extract_text() for page in pages] if len(pages) <= MAX_PAGES else None
    except Exception as error:  # a damaged or hostile file makes pypdf raise nearly anything
        raise ValueError(f"no PDF that can be read ({type(error).__name__})") from None
    if texts is None:
        raise ValueError(f"more than {MAX_PAGES:,} pages")
    blocks: list[Block] = []
    begin = 0
    for number, text in enumerate(texts, start=1):
        blocks += [b._replace(offset=b.offset + begin) for b in paragraphs(text, f"page {number}")]
        begin += len(text) + 1
    return blocks
