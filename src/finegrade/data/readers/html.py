"""HTML to blocks: what a page says under which heading, without its navigation. Parsed by lxml."""

import re

import lxml.html
from lxml import etree

from finegrade.data.readers.document import Block

_DROPPED = {
    "head", "script", "style", "noscript", "template", "nav", "aside", "footer", "button", "select", "textarea",
    "iframe", "svg",
}  # fmt: skip
_ROLES = {"navigation", "banner", "contentinfo", "search", "complementary"}
_NOT_CONTENT = re.compile(
    r"(?!has|with|no)([a-z]+[-_]+)?(nav|navbar|navheader|navfooter|navigation|breadcrumbs?|sidebar|sphinxsidebar|menu"
    r"|footer|toc|cookies?|cookie-banner|pagination|headerlink|related|skip|skip-link|skip-to-content)"
)
"""Classes and ids that say: this is no content. "has-sidebar" says something else."""

CONTENT_SHARE = 0.5
"""<main>, or else the <article>s, are the content where they hold at least this share of a page's text."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = {
    "address", "article", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "header", "hr", "html", "legend", "li", "main", "ol", "p", "pre", "section", "summary",
    "table", "tbody", "tfoot", "thead", "tr", "ul",
}  # fmt: skip


def html_blocks(text: str) -> list[Block]:
    """Blocks under their headings; of a page with its text in <main> or <article>s those alone.

    Raises:
        ValueError: There is no page in it.
    """
    try:
        page = lxml.html.document_fromstring(_without_declaration(text))
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        raise ValueError(f"no HTML ({error})") from None
    title = " ".join((page.findtext(".//title") or "").split())
    etree.strip_tags(page, etree.Comment, etree.ProcessingInstruction)  # else the text after them is lost
    _drop(page)
    reader = _Reader(title)
    for content in _contents(page):
        reader.read(content)
    return reader.blocks


def _contents(page: lxml.html.HtmlElement) -> list[lxml.html.HtmlElement]:
    """The outermost elements that hold what the page is about."""
    whole = len("".join(page.itertext()))
    for tag in ("main", "article"):
        found = [one for one in page.iter(tag) if next(one.iterancestors(tag), None) is None]
        if sum(len("".join(one.itertext())) for one in found) >= CONTENT_SHARE * whole:
            return found
    return [page]


def _without_declaration(text: str) -> str:
    """lxml refuses text whose declaration names an encoding: it is decoded already."""
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1)


def _drop(page: lxml.html.HtmlElement) -> None:
    for element in list(page.iter(etree.Element)):
        if element.tag in _DROPPED or element.get("role") in _ROLES or _is_hidden(element) or _is_named_so(element):
            element.drop_tree()


def _is_hidden(element: lxml.html.HtmlElement) -> bool:
    return element.get("hidden") is not None or "display:none" in element.get("style", "").replace(" ", "").lower()


def _is_named_so(element: lxml.html.HtmlElement) -> bool:
    """By its class, or by its id where it holds no heading: a section about cookies has that id, too."""
    if element.tag in ("html", "body", "main") or element.tag in _HEADINGS:
        return False
    if any(_NOT_CONTENT.fullmatch(name) for name in element.get("class", "").lower().split()):
        return True
    named_so = _NOT_CONTENT.fullmatch(element.get("id", "").lower())
    return named_so is not None and next(element.iter(*_HEADINGS), None) is None


class _Reader:
    """Walks through a page once; text gathers until a block ends."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._headings: list[tuple[int, str]] = []
        self._gathered: list[str] = []
        self._offset = 0
        self.blocks: list[Block] = []

    def read(self, content: lxml.html.HtmlElement) -> None:
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

    def _head(self, level: int) -> None:
        text = " ".join("".join(self._gathered).replace("¶", "").split())
        self._gathered.clear()
        if text:
            self._headings = [heading for heading in self._headings if heading[0] < level] + [(level, text)]

    def _flush(self) -> None:
        text = "".join(self._gathered).strip()
        self._gathered.clear()
        if text:
            above = [heading for _, heading in self._headings]
            if self._title and not any(level == 1 for level, _ in self._headings):
                above.insert(0, self._title)  # a page without a first heading is named by its title
            self.blocks.append(Block(" > ".join(above), text, self._offset))
            self._offset += len(text) + 1
