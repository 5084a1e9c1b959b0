"""What every format is read into: documents made of blocks under headings, or the reason why there is none."""

from typing import NamedTuple


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
    """One document.

    Attributes:
        path: Relative to the folder that was named; rows of a table carry their id or number behind a "#".
        blocks: In order.
    """

    path: str
    blocks: list[Block]


class Unread(NamedTuple):
    """Something that gave no document, and why."""

    path: str
    reason: str


def paragraphs(text: str, heading: str = "") -> list[Block]:
    """The paragraphs of a plain text: what stands between blank lines."""
    blocks = []
    start: int | None = None
    place = 0
    for line in [*text.splitlines(keepends=True), "\n"]:
        if line.strip():
            start = place if start is None else start
        elif start is not None:
            blocks.append(Block(heading, text[start:place], start))
            start = None
        place += len(line)
    return blocks
