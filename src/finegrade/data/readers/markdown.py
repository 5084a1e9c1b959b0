"""Markdown to blocks, by markdown-it."""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from finegrade.data.readers.document import Block

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
        told = "\n".join(_plain(token) for token in tokens if token.type in ("inline", "fence", "code_block")).strip()
        if first.type == "heading_open":
            level = int(first.tag[1])
            headings = [h for h in headings if h[0] < level] + [(level, " ".join(told.split()))]
        elif told:
            row = first.map[0] if first.map else 0
            blocks.append(Block(" > ".join(h for _, h in headings if h), told, starts[min(row, len(starts) - 1)]))
    return blocks


def _top_level(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each block that stands in no other."""
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
    told = []
    for child in token.children or ():
        if child.type in ("text", "code_inline") or child.type == "image":
            told.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            told.append("\n")
    return "".join(told)
