"""HTML to blocks: what a page says under which heading, without its navigation. Parsed by lxml."""

import re

import lxml.html
from lxml import etree

from finegrade.sources.document import Block

_DROPPED = {"head", "script", "style", "noscript", "template", "nav", "aside", "footer", "form", "button", "svg"}
_ROLES = {"navigation", "banner", "contentinfo", "search", "complementary"}
_NAMES = {
    name
    for line in (
        "nav navbar navheader navfooter navigation breadcrumb breadcrumbs sidebar sphinxsidebar menu footer toc cookie",
        "cookies pagination headerlink related skip",
    )
    for name in line.split()
}
"""Parts of class names and ids that say: this is no content."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    tag
    for line in (
        "address article blockquote body caption center dd details div dl dt fieldset figcaption figure header hr html",
        "legend li main ol p pre section summary table tbody tfoot thead tr ul",
    )
    for tag in line.split()
}
_SPLIT = re.compile(r"[\s_-]+")


def html_blocks(text: str) -> list[Block]:
    """Blocks under their headings; of a page with a <main> or <article> that part alone.

    Raises:
        ValueError: There is no page in it.
    """
    try:
        page = lxml.html.document_fromstring(_without_declaration(text))
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        raise ValueError(f"no HTML ({error})") from None
    title = " ".join((page.findtext(".//title") or "").split())
    content = next((found for path in (".//main", ".//article") for found in page.iterfind(path)), page)
    _drop(content)
    return _Reader(title).read(content)


def _without_declaration(text: str) -> str:
    """lxml refuses text whose declaration names an encoding: it is decoded already."""
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1)


def _drop(content: lxml.html.HtmlElement) -> None:
    for element in list(content.iter()):
        if element is content or not isinstance(element.tag, str):
            continue
        if element.tag in _DROPPED or element.get("role") in _ROLES or _is_named_so(element):
            element.drop_tree()


def _is_named_so(element: lxml.html.HtmlElement) -> bool:
    names = _SPLIT.split(f"{element.get('class', '')} {element.get('id', '')}".lower())
    return not _NAMES.isdisjoint(names) and element.tag not in ("body", "html")


class _Reader:
    """Walks through a page once; text gathers until a block ends."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._headings: list[tuple[int, str]] = []
        self._gathered: list[str] = []
        self._offset = 0
        self._blocks: list[Block] = []

    def read(self, content: lxml.html.HtmlElement) -> list[Block]:
        for event, element in etree.iterwalk(content, events=("start", "end")):
            tag = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                if tag in _BLOCKS or tag in _HEADINGS:
                    self._flush()
                self._gathered.append(element.text or "" if tag else "")
            else:
                if tag in _HEADINGS:
                    self._head(_HEADINGS[tag])
                elif tag in _BLOCKS:
                    self._flush()
                elif tag in ("br", "td", "th"):
                    self._gathered.append("\n" if tag == "br" else " ")
                if element is not content:
                    self._gathered.append(element.tail or "")
        self._flush()
        return self._blocks

    def _head(self, level: int) -> None:
        told = " ".join("".join(self._gathered).replace("¶", "").split())
        self._gathered.clear()
        if told:
            self._headings = [heading for heading in self._headings if heading[0] < level] + [(level, told)]

    def _flush(self) -> None:
        told = "".join(self._gathered).strip()
        self._gathered.clear()
        if told:
            above = [told for _, told in self._headings]
            if self._title and not any(level == 1 for level, _ in self._headings):
                above.insert(0, self._title)  # a page without a first heading is named by its title
            self._blocks.append(Block(" > ".join(above), told, self._offset))
            self._offset += len(told) + 1
